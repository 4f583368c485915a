"""Vertices of the shaped body, and the corrections of its pose."""

from __future__ import annotations

import torch
from torch import Tensor


def blend_shapes(coefficients: Tensor, v_template: Tensor, shapedirs: Tensor) -> Tensor:
    """v_shaped = v_template + sum over c of coefficients_c shapedirs_c

    coefficients [B, C], v_template [V, 3] or [B, V, 3], shapedirs [V, 3, C] -> [B, V, 3]
    """
    return v_template + torch.einsum("bc,vxc->bvx", coefficients, shapedirs)


def pose_feature(rot_mats: Tensor) -> Tensor:
    """The rows of R_j - I one after another, for every joint but the root. [B, J, 3, 3] -> [B, 9 (J - 1)]"""
    identity = torch.eye(3, dtype=rot_mats.dtype, device=rot_mats.device)
    return (rot_mats[:, 1:] - identity).flatten(1)


def pose_offsets(rot_mats: Tensor, posedirs: Tensor) -> Tensor:
    """v_posed - v_shaped = posedirs^T pose_feature

    rot_mats [B, J, 3, 3], posedirs [9 (J - 1), 3 V] -> [B, V, 3]
    """
    return (pose_feature(rot_mats) @ posedirs).unflatten(-1, (-1, 3))
