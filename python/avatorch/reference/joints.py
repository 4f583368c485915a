"""Joints of the shaped body, in its rest pose."""

from __future__ import annotations

import torch
from torch import Tensor


def joints_from_vertices(v_shaped: Tensor, J_regressor: Tensor) -> Tensor:
    """J_shaped = J_regressor v_shaped. v_shaped [B, V, 3], J_regressor [J, V] -> [B, J, 3]"""
    return torch.einsum("jv,bvx->bjx", J_regressor, v_shaped)


def joints_from_directions(coefficients: Tensor, J_template: Tensor, J_shapedirs: Tensor) -> Tensor:
    """J_shaped = J_template + sum over c of coefficients_c J_shapedirs_c, for models without a regressor.

    coefficients [B, C], J_template [J, 3], J_shapedirs [J, 3, C] -> [B, J, 3]
    """
    return J_template + torch.einsum("bc,jxc->bjx", coefficients, J_shapedirs)
