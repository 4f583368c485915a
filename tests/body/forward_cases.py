"""smplx::forward and its reference as functions of a rig and named inputs: what its test files share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from avatorch import reference
from rigs import Rig


def forward(
    model: Rig, inputs: dict[str, Tensor], prepared: Sequence[Tensor] | None = None, **options: object
) -> tuple[Tensor, ...]:
    return torch.ops.smplx.forward(
        inputs["shape_coefficients"],
        inputs["pose"],
        inputs.get("transl"),
        model.v_template,
        model.shapedirs,
        model.posedirs,
        model.J_regressor,
        model.parents,
        model.lbs_weights,
        model.J_template,
        model.J_shapedirs,
        inputs.get("vertex_offsets"),
        inputs.get("joint_offsets"),
        prepared,
        **options,
    )


def expected(model: Rig, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return reference.forward(
        inputs["shape_coefficients"],
        inputs["pose"],
        inputs.get("transl"),
        model.v_template,
        model.shapedirs,
        model.posedirs,
        model.parents,
        model.lbs_weights,
        J_regressor=model.J_regressor,
        J_template=model.J_template,
        J_shapedirs=model.J_shapedirs,
        vertex_offsets=inputs.get("vertex_offsets"),
        joint_offsets=inputs.get("joint_offsets"),
    )


def all_inputs(model: Rig, batch: int, matrices: bool = False) -> dict[str, Tensor]:
    vertices, joints, _ = model.sizes
    inputs = model.inputs(batch, matrices=matrices)
    like = model.v_template
    inputs["vertex_offsets"] = 0.1 * torch.randn(batch, vertices, 3, dtype=like.dtype, device=like.device)
    inputs["joint_offsets"] = 0.1 * torch.randn(batch, joints, 3, dtype=like.dtype, device=like.device)
    return inputs


def with_leaves(model: Rig, inputs: dict[str, Tensor]) -> tuple[Rig, dict[str, Tensor], list[Tensor]]:
    """Copies in which everything that can have a gradient asks for one."""
    floating = {
        n: t.detach().clone().requires_grad_()
        for n, t in vars(model).items()
        if t is not None and t.is_floating_point()
    }
    copies = {n: t.detach().clone().requires_grad_() for n, t in inputs.items()}
    return replace(model, **floating), copies, [*copies.values(), *floating.values()]
