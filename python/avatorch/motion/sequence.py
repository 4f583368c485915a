"""A motion: poses over time, joint by joint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from avatorch.body import Body


@dataclass
class Motion:
    """N frames of a skeleton, as a file has them; all tensors are float32 on the CPU."""

    joint_names: list[str]
    pose: Tensor
    """[N, J, 3], each joint's own rotation, axis-angle"""
    transl: Tensor
    """[N, 3], metres"""
    frame_rate: float
    """Hz"""
    betas: Tensor = field(default_factory=lambda: torch.zeros(0))
    """[n], the shape of the subject"""
    expression: Tensor | None = None
    """[N, n]"""
    gender: str | None = None
    parents: list[int] | None = None
    """of a file that has its own skeleton, -1 at the root"""
    offsets: Tensor | None = None
    """[J, 3], of such a file: from each joint's parent at rest, metres"""

    def __len__(self) -> int:
        return self.pose.shape[0]

    def arguments(self, body: Body, names: Mapping[str, str] | None = None) -> dict[str, Tensor]:
        """What to call the body with, on its device and in its dtype: `body(**motion.arguments(body))`.

        Joints are found by name; `names` maps those of the file to those of the body, as
        `{"LeftArm": "left_shoulder"}`. Joints that only one of the two has are left out. Rotations are taken as they
        are: both must mean the same rest pose.
        """
        place = {name: index for index, name in enumerate(body.joint_names)}
        called = [(names or {}).get(name, name) for name in self.joint_names]
        shared = [index for index, name in enumerate(called) if name in place]
        if not shared:
            raise ValueError(
                f"Motion: no joint of the file is one of the body's: {_some(called)}; the body has "
                f"{_some(body.joint_names)}. Say in `names` what is what"
            )
        like = body.v_template
        pose = torch.zeros(len(self), body.num_joints, 3)
        pose[:, [place[called[index]] for index in shared]] = self.pose[:, shared]
        given = {"pose": pose, "transl": self.transl, "betas": self.betas[: body.num_betas]}
        if self.expression is not None and body.num_expressions:
            given["expression"] = self.expression[:, : body.num_expressions]
        return {name: tensor.to(like) for name, tensor in given.items()}


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "no names"
