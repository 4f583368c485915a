"""Between axis-angle vectors, quaternions (w, x, y, z), 6D columns and rotation matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from .rodrigues import rodrigues


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """[..., 3] -> [..., 3, 3]"""
    return rodrigues(axis_angle)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """R = I + 2 (w K + K^2) / |q|^2 with K = skew(x, y, z). [..., 4], of any length -> [..., 3, 3]"""
    w, x, y, z = quaternion.unbind(-1)
    s = 2 / (quaternion * quaternion).sum(-1)
    rows = [
        [1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)],
        [s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)],
        [s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """The unit quaternion with w >= 0. [..., 3, 3] -> [..., 4]

    4 q q^T has a closed form in R; its row with the largest diagonal entry is the one farthest from zero, and
    q is that row made a unit vector.
    """
    m = matrix.flatten(-2).unbind(-1)  # m[3 row + column]
    products = [
        [1 + m[0] + m[4] + m[8], m[7] - m[5], m[2] - m[6], m[3] - m[1]],
        [m[7] - m[5], 1 + m[0] - m[4] - m[8], m[1] + m[3], m[2] + m[6]],
        [m[2] - m[6], m[1] + m[3], 1 - m[0] + m[4] - m[8], m[5] + m[7]],
        [m[3] - m[1], m[2] + m[6], m[5] + m[7], 1 - m[0] - m[4] + m[8]],
    ]
    table = torch.stack([torch.stack(row, -1) for row in products], -2)  # [..., 4, 4]
    largest = table.diagonal(dim1=-2, dim2=-1).argmax(-1)  # [...]
    row = torch.take_along_dim(table, largest[..., None, None], -2).squeeze(-2)  # [..., 4]
    quaternion = row / row.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """r = v 2 atan2(|v|, w) / |v| with v = (x, y, z), w >= 0; the angle is in [0, pi]. [..., 4] -> [..., 3]

    For small v / w the factor is its series in u = |v|^2 / w^2: (2 / w) (1 - u / 3 + u^2 / 5 - ...).
    """
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, v = quaternion[..., :1], quaternion[..., 1:]
    squared = (v * v).sum(-1, keepdim=True)  # [..., 1]
    near = squared < 0.01 * w * w
    w_near = torch.where(near, w, torch.ones_like(w))
    u = torch.where(near, squared, torch.zeros_like(squared)) / (w_near * w_near)
    series = torch.zeros_like(u)
    for n in reversed(range(12)):
        series = series * -u + 1.0 / (2 * n + 1)
    length = torch.where(near, torch.ones_like(squared), squared).sqrt()
    return v * torch.where(near, 2 * series / w_near, 2 * torch.atan2(length, w) / length)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """The shortest rotation, angle in [0, pi]. [..., 3, 3] -> [..., 3]"""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """[..., 3] -> [..., 4], w >= 0"""
    return matrix_to_quaternion(rodrigues(axis_angle))


def six_d_to_matrix(six_d: Tensor) -> Tensor:
    """Gram-Schmidt on the first two columns (a1, a2): the representation of Zhou et al. 2019.

    [..., 6] as (a1, a2) -> [..., 3, 3] with columns b1, b2, b1 x b2
    """
    a1, a2 = six_d[..., :3], six_d[..., 3:]
    b1 = a1 / a1.norm(dim=-1, keepdim=True)
    b2 = a2 - (b1 * a2).sum(-1, keepdim=True) * b1
    b2 = b2 / b2.norm(dim=-1, keepdim=True)
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2)], -1)


def matrix_to_six_d(matrix: Tensor) -> Tensor:
    """The first two columns one after the other. [..., 3, 3] -> [..., 6]"""
    return matrix[..., :2].transpose(-1, -2).flatten(-2)
