"""Outputs, and the conversions that smplx exports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


@dataclass
class ModelOutput:
    """What a model returns. A field can be read by name, `output["joints"]`, and written, `output.joints = ...`."""

    vertices: Tensor | None = None  # [B, V, 3]
    joints: Tensor | None = None  # [B, K, 3], of the rig and on the surface
    full_pose: Tensor | None = None  # [B, 3 J], or [B, J, 3, 3] where rotations were given as matrices
    global_orient: Tensor | None = None
    transl: Tensor | None = None  # [B, 3]
    v_shaped: Tensor | None = None  # [B, V, 3], template and betas, without expression

    def __post_init__(self) -> None:
        # Not fields, so that iterating gives what it always gave.
        self.A_global: Tensor | None = None  # [B, J, 4, 4], what moves a point of the rest shape, without translation
        self._shift: Tensor | None = None  # [B, 3]

    @property
    def A(self) -> Tensor | None:
        """[B, J, 4, 4]: what moves a point of the rest shape with a joint, translation included.

        `vertices = sum_j w_j A_j v_posed` skins points of your own.
        """
        if self.A_global is None or self._shift is None:
            return self.A_global
        moved = self.A_global[..., :3, 3] + self._shift[:, None]  # [B, J, 3]
        upper = torch.cat([self.A_global[..., :3, :3], moved[..., None]], -1)
        return torch.cat([upper, self.A_global[..., 3:, :]], -2)

    def __getitem__(self, key: str) -> Any:
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """The field, or `default` if there is none of that name."""
        return getattr(self, key, default)

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def keys(self) -> Iterator[str]:
        """The names of the fields."""
        return iter([field.name for field in fields(self)])

    def values(self) -> Iterator[Any]:
        """The fields."""
        return iter([getattr(self, name) for name in self])

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and fields."""
        return iter([(name, getattr(self, name)) for name in self])


@dataclass
class SMPLOutput(ModelOutput):
    """Of SMPL."""

    betas: Tensor | None = None
    body_pose: Tensor | None = None


@dataclass
class SMPLHOutput(SMPLOutput):
    """Of SMPL-H; hand poses have 45 numbers, without the mean."""

    left_hand_pose: Tensor | None = None
    right_hand_pose: Tensor | None = None


@dataclass
class SMPLXOutput(SMPLHOutput):
    """Of SMPL-X."""

    expression: Tensor | None = None
    jaw_pose: Tensor | None = None


@dataclass
class MANOOutput(ModelOutput):
    """Of MANO; the hand pose has 45 numbers, without the mean."""

    betas: Tensor | None = None
    hand_pose: Tensor | None = None


@dataclass
class FLAMEOutput(ModelOutput):
    """Of FLAME."""

    betas: Tensor | None = None
    expression: Tensor | None = None
    jaw_pose: Tensor | None = None
    neck_pose: Tensor | None = None


class Struct:
    """The content of a model file, by attribute."""

    def __init__(self, **kwargs: Any) -> None:
        for name, value in kwargs.items():
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def to_np(array: Any, dtype: Any = np.float32) -> np.ndarray:
    """Anything like an array, a sparse matrix included, as a dense one."""
    if hasattr(array, "todense"):
        array = array.todense()
    if isinstance(array, Tensor):
        array = array.detach().cpu().numpy()
    return np.array(array, dtype=dtype)


def to_tensor(array: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor as it is; anything else as a tensor of this dtype."""
    return array if isinstance(array, Tensor) else torch.tensor(array, dtype=dtype)


def find_joint_kin_chain(joint_id: int, kinematic_tree: Any) -> list[Any]:
    """The joint, its parent, and so on to the root."""
    chain = []
    while joint_id != -1:
        chain.append(joint_id)
        joint_id = kinematic_tree[joint_id]
    return chain


def rot_mat_to_euler(rot_mats: Tensor) -> Tensor:
    """The angle about y of rotations [B, 3, 3], in radians: [B]."""
    across = torch.sqrt(rot_mats[:, 0, 0] ** 2 + rot_mats[:, 1, 0] ** 2)
    return torch.atan2(-rot_mats[:, 2, 0], across)
