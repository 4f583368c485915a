"""A body model as a module: load it, call it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from avatorch import _native


class Posed(NamedTuple):
    """What a body returns. B bodies, V vertices, J joints; all but the first two are empty without intermediates."""

    vertices: Tensor  # [B, V, 3]
    joints: Tensor  # [B, J, 3], posed
    v_shaped: Tensor  # [B, V, 3], template and shape
    J_shaped: Tensor  # [B, J, 3], joints at rest
    rot_mats: Tensor  # [B, J, 3, 3], each joint's own rotation
    A_global: Tensor  # [B, J, 4, 4], what moves a point of the rest shape with a joint; without translation
    v_posed: Tensor  # [B, V, 3], what is skinned: v_shaped, offsets and pose correctives


class Body(nn.Module):
    """SMPL, SMPL-H, SMPL-X, MANO, FLAME, the open body, or any rig with blend shapes, joints and linear skinning.

    The model's tensors are buffers under their usual names; a gradient reaches them when they ask for one.
    """

    v_template: Tensor  # [V, 3]
    shapedirs: Tensor  # [V, 3, C], betas, then expression
    posedirs: Tensor | None  # [9 (J - 1), 3 V]
    J_regressor: Tensor | None  # [J, V], or the next two
    J_template: Tensor | None  # [J, 3]
    J_shapedirs: Tensor | None  # [J, 3, C]
    parents: Tensor  # [J], -1 at a root
    lbs_weights: Tensor  # [V, J]
    faces: Tensor  # [F, 3]

    def __init__(self, content: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
        """`content` is what a model file holds, as `Body.load` reads it."""
        super().__init__()
        self.family: str = content["family"]
        self.num_betas: int = content["num_betas"]
        self.num_expressions: int = content["num_expressions"]
        self.joint_names: list[str] = content["joint_names"]
        self.shape_names: list[str] = content["shape_names"]
        self.expression_names: list[str] = content["expression_names"]
        for name in ("posedirs", "J_regressor", "J_template", "J_shapedirs"):
            self.register_buffer(name, None)
        for name, value in content.items():
            if isinstance(value, _native.Array):
                tensor = torch.from_dlpack(value)
                self.register_buffer(name, tensor.to(dtype) if tensor.is_floating_point() else tensor)
        self.register_load_state_dict_post_hook(_prepare_again)
        self.prepare()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        family: str | None = None,
        gender: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Body:
        """Reads a model file (.npz, .pkl, .safetensors), or finds one in a folder by its usual name.

        `family` ("smplx", ...) and `gender` choose among the files of a folder; neutral is preferred. Nothing in a file
        is executed.
        """
        content = _native.load_model(path, family, gender)
        for sentence in content["warnings"]:
            warnings.warn(f"{path}: {sentence}", stacklevel=2)
        return cls(content, dtype)

    @property
    def num_joints(self) -> int:
        """J."""
        return self.lbs_weights.shape[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Body:
        """Moved or converted (`to`, `double`, `cuda`, ...), a body is prepared for where it is."""
        super()._apply(fn, recurse)
        self.prepare()
        return self

    def prepare(self) -> None:
        """Derives again what the operator uses of the model's tensors; needed after one was changed in place."""
        made = torch.ops.smplx.prepare(
            self.v_template,
            self.shapedirs,
            self.J_regressor,
            self.parents,
            self.lbs_weights,
            self.J_template,
            self.J_shapedirs,
            self.posedirs,
        )
        self._prepared_count = len(made)
        for i, tensor in enumerate(made):
            self.register_buffer(f"_prepared_{i}", tensor, persistent=False)

    def forward(
        self,
        betas: Tensor | None = None,  # [B, <= num_betas]
        expression: Tensor | None = None,  # [B, <= num_expressions]
        pose: Tensor | None = None,  # [B, 3 J] or [B, J, 3] axis-angle, or [B, J, 3, 3]
        transl: Tensor | None = None,  # [B, 3]
        *,
        vertex_offsets: Tensor | None = None,  # [B, V, 3]
        joint_offsets: Tensor | None = None,  # [B, J, 3]
        intermediates: bool = True,
    ) -> Posed:
        """Bodies in a pose. What is left out is zero; a batch of one serves all; fewer coefficients are padded."""
        if pose is None:
            pose = self.v_template.new_zeros(1, 3 * self.num_joints)
        results = torch.ops.smplx.forward(
            self._coefficients(betas, expression),
            pose,
            transl,
            self.v_template,
            self.shapedirs,
            self.posedirs,
            self.J_regressor,
            self.parents,
            self.lbs_weights,
            self.J_template,
            self.J_shapedirs,
            vertex_offsets,
            joint_offsets,
            [getattr(self, f"_prepared_{i}") for i in range(self._prepared_count)],
            intermediates,
        )
        return Posed(*results)

    def _coefficients(self, betas: Tensor | None, expression: Tensor | None) -> Tensor:
        """[B, C], betas and expression joined."""
        parts = [
            self._padded("betas", betas, self.num_betas),
            self._padded("expression", expression, self.num_expressions),
        ]
        batch = max((len(part) for part in parts if len(part) != 1), default=1)
        return torch.cat([part.expand(batch, -1) if len(part) == 1 else part for part in parts], 1)

    def _padded(self, name: str, given: Tensor | None, count: int) -> Tensor:
        if given is None:
            return self.v_template.new_zeros(1, count)
        if given.ndim != 2 or given.shape[1] > count:
            raise ValueError(
                f"Body: {name} has shape {list(given.shape)}, expected [B, at most {count}]: the model has {count}"
            )
        return nn.functional.pad(given, (0, count - given.shape[1]))

    def _apply(self, fn: Any, recurse: bool = True) -> Body:
        # Moved or converted tensors are new ones: what was derived from the old ones is derived again.
        super()._apply(fn, recurse)
        self.prepare()
        return self


def _prepare_again(body: Body, _: Any) -> None:
    """After a state was loaded into the tensors in place."""
    body.prepare()


def open_body(dtype: torch.dtype = torch.float32) -> Body:
    """A whole human body that may be shared: 13 718 vertices, 104 joints, 20 betas, 52 ARKit face units (CC0)."""
    return Body.load(Path(__file__).parent / "data" / "open_body.safetensors", dtype=dtype)
