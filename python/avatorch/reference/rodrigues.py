"""Axis-angle vectors to rotation matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SERIES_BELOW = 1.0  # of |r|^2: the series is exact to rounding there, derivatives included
SERIES_TERMS = 14


def skew(vector: Tensor) -> Tensor:
    """The matrix of the cross product: skew(a) b = a x b. [..., 3] -> [..., 3, 3]"""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack(row, -1) for row in ([zero, -z, y], [z, zero, -x], [-y, x, zero])]
    return torch.stack(rows, -2)


def _series(x: Tensor, offset: int) -> Tensor:
    """sum over n of (-x)^n / (2 n + offset)!"""
    total = torch.zeros_like(x)
    for n in reversed(range(SERIES_TERMS)):
        total = total * -x + 1.0 / math.factorial(2 * n + offset)
    return total


def rodrigues(axis_angle: Tensor) -> Tensor:
    """R = I + A K + B K^2 with K = skew(r), A = sin(t) / t, B = (1 - cos(t)) / t^2, t = |r|.

    A and B are entire functions of x = t^2. Near zero they are summed as series in x, so that R has its exact
    derivatives of every order there too; t, which is not differentiable at zero, appears only away from it.

    [..., 3] -> [..., 3, 3]
    """
    x = (axis_angle * axis_angle).sum(-1)  # [...]
    near = x < SERIES_BELOW
    x_far = torch.where(near, torch.ones_like(x), x)  # keeps the unused branch finite, derivatives included
    t = x_far.sqrt()
    A = torch.where(near, _series(x, 1), torch.sin(t) / t)
    B = torch.where(near, _series(x, 2), 2 * torch.sin(t / 2) ** 2 / x_far)

    K = skew(axis_angle)  # [..., 3, 3]
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + A[..., None, None] * K + B[..., None, None] * (K @ K)
