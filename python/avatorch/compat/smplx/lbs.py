"""The functions of `smplx.lbs`, over the operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .utils import rot_mat_to_euler

_WIDENED = (torch.float16, torch.bfloat16)


def lbs(
    betas: Tensor,  # [B, C]
    pose: Tensor,  # [B, 3 J] or [B, J, 3]; matrices [B, J, 3, 3] or [B, 9 J] without pose2rot
    v_template: Tensor,  # [V, 3] or [B, V, 3]
    shapedirs: Tensor,  # [V, 3, C]
    posedirs: Tensor,  # [9 (J - 1), 3 V]
    J_regressor: Tensor,  # [J, V]
    parents: Tensor | np.ndarray,  # [J]
    lbs_weights: Tensor,  # [V, J]
    pose2rot: bool = True,
    *_: Any,
    return_A: bool = False,
    **__: Any,
) -> tuple[Tensor, ...]:
    """Vertices [B, V, 3] and posed joints [B, J, 3] of bodies; with `return_A` also their transforms [B, J, 4, 4].

    Other arguments, such as `dtype`, are accepted and not used.
    """
    joints = len(lbs_weights[0])
    pose = pose.reshape(-1, joints, 3) if pose2rot else pose.reshape(-1, joints, 3, 3)
    # The parameters of some projects are wider than the coefficients of a call.
    floats = [widened(t) for t in (betas, pose, v_template, shapedirs, posedirs, J_regressor, lbs_weights)]
    betas, pose, v_template, shapedirs, posedirs, J_regressor, lbs_weights = floats
    if v_template.ndim == 3 and len(v_template) == 1:
        v_template = v_template[0]
    vertices, posed, *_rest, A_global, _v_posed = torch.ops.smplx.forward(
        betas, pose, None, v_template, shapedirs, posedirs, J_regressor, rooted(parents, v_template.device), lbs_weights
    )
    return (vertices, posed, A_global) if return_A else (vertices, posed)


def batch_rodrigues(rot_vecs: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Rotation vectors [N, 3] as matrices [N, 3, 3]; exact everywhere, so `epsilon` is not used."""
    return torch.ops.smplx.rodrigues(widened(rot_vecs)).to(rot_vecs.dtype)


def batch_rigid_transform(
    rot_mats: Tensor,  # [B, J, 3, 3]
    joints: Tensor,  # [B, J, 3]
    parents: Tensor | np.ndarray,  # [J]
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Posed joints [B, J, 3], and the transforms [B, J, 4, 4] that carry points of the rest shape."""
    tree = rooted(parents, joints.device)
    posed, transforms = torch.ops.smplx.kinematic_chain(widened(rot_mats), widened(joints), tree)
    return posed.to(rot_mats.dtype), transforms.to(rot_mats.dtype)


def blend_shapes(betas: Tensor, shape_disps: Tensor) -> Tensor:
    """betas [B, C], directions [V, 3, C] -> displacements [B, V, 3]"""
    return torch.einsum("bl,mkl->bmk", betas, shape_disps)


def vertices2joints(J_regressor: Tensor, vertices: Tensor) -> Tensor:
    """J_regressor [J, V], vertices [B, V, 3] -> [B, J, 3]"""
    return torch.einsum("bik,ji->bjk", vertices, J_regressor)


def vertices2landmarks(
    vertices: Tensor,  # [B, V, 3]
    faces: Tensor,  # [F, 3]
    lmk_faces_idx: Tensor,  # [L] or [B, L]
    lmk_bary_coords: Tensor,  # [L, 3] or [B, L, 3]
) -> Tensor:
    """Points on faces, [B, L, 3]."""
    coordinates = widened(lmk_bary_coords.to(vertices.dtype))
    points = torch.ops.smplx.landmarks(widened(vertices), faces.long(), lmk_faces_idx.long(), coordinates)
    return points.to(vertices.dtype)


def find_dynamic_lmk_idx_and_bcoords(
    vertices: Tensor,  # [B, V, 3]
    pose: Tensor,  # [B, 3 J]; matrices [B, J, 3, 3] without pose2rot
    dynamic_lmk_faces_idx: Tensor,  # [79, L]
    dynamic_lmk_b_coords: Tensor,  # [79, L, 3]
    neck_kin_chain: Sequence[int] | Tensor,  # from the neck to the root
    pose2rot: bool = True,
) -> tuple[Tensor, Tensor]:
    """The landmarks of the face's contour as seen with the head turned: faces [B, L], coordinates [B, L, 3]."""
    batch = vertices.shape[0]
    chain = torch.as_tensor(neck_kin_chain, device=pose.device)
    if pose2rot:
        vectors = pose.reshape(batch, -1, 3).index_select(1, chain)  # [B, N, 3]
        turns = batch_rodrigues(vectors.reshape(-1, 3)).reshape(batch, -1, 3, 3)
    else:
        turns = pose.reshape(batch, -1, 3, 3).index_select(1, chain)
    return contour(turns, dynamic_lmk_faces_idx, dynamic_lmk_b_coords)


def contour(turns: Tensor, faces_idx: Tensor, bary_coords: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the tables [79, L] and [79, L, 3] for the rotations [B, N, 3, 3] from the neck to the root.

    Rows 0 to 39 are degrees to one side, 40 to 78 to the other. The choice has no derivative.
    """
    relative = turns[:, 0]
    for step in range(1, turns.shape[1]):
        relative = turns[:, step] @ relative
    degrees = torch.round(torch.clamp(torch.rad2deg(-rot_mat_to_euler(relative)), max=39)).long()  # [B]
    row = torch.where(degrees < 0, torch.where(degrees < -39, 78, 39 - degrees), degrees)
    return faces_idx.index_select(0, row), bary_coords.index_select(0, row)


def transform_mat(R: Tensor, t: Tensor) -> Tensor:
    """R [B, 3, 3], t [B, 3, 1] -> [B, 4, 4]"""
    upper = torch.cat([R, t], dim=2)
    last = torch.tensor([0, 0, 0, 1], dtype=R.dtype, device=R.device).expand(R.shape[0], 1, 4)
    return torch.cat([upper, last], dim=1)


def rooted(parents: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """Parents [J] whose first joint is a root, whatever the file has there."""
    return nn.functional.pad(torch.as_tensor(parents, device=device)[1:].long(), (1, 0), value=-1)


def widened(tensor: Tensor) -> Tensor:
    """A 16-bit tensor as float32, which the operators compute in."""
    return tensor.to(widened_dtype(tensor.dtype))


def widened_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for 16-bit types."""
    return torch.float32 if dtype in _WIDENED else dtype
