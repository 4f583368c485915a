"""Points on the surface, and the face contour that slides with the head's turn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CONTOUR_ROWS = 79  # of the dynamic tables: 0..39 degrees to one side, then 1..39 to the other


def landmarks(vertices: Tensor, faces: Tensor, faces_idx: Tensor, bary_coords: Tensor) -> Tensor:
    """sum over the three corners k of bary_coords_k vertices[faces[faces_idx]_k]

    vertices [B, V, 3], faces [F, 3], faces_idx [L] or [B, L], bary_coords [L, 3] or [B, L, 3] -> [B, L, 3]
    """
    corners = faces[faces_idx.expand(len(vertices), -1)]  # [B, L, 3]
    body = torch.arange(len(vertices), device=vertices.device)[:, None, None]
    points = vertices[body, corners]  # [B, L, corner, 3]
    return (points * bary_coords[..., None]).sum(-2)


def contour_row(rot_mats: Tensor, neck_chain: list[int]) -> Tensor:
    """Which row of the dynamic landmark tables each body uses: its head's turn about y, in whole degrees.

    The turn is that of R_root ... R_neck, with `neck_chain` from the neck to the root. Up to 39 degrees the
    row is the angle; for negative angles it is 39 + |angle|, at most 78. The choice has no derivative.

    rot_mats [B, J, 3, 3] -> [B] int64
    """
    turned = rot_mats[:, neck_chain[0]]
    for joint in neck_chain[1:]:
        turned = rot_mats[:, joint] @ turned
    horizontal = turned[:, :2, 0].norm(dim=-1)
    degrees = -torch.atan2(-turned[:, 2, 0], horizontal) * 180 / math.pi
    degrees = degrees.clamp(max=39).round().long()
    return torch.where(degrees >= 0, degrees, torch.where(degrees < -39, CONTOUR_ROWS - 1, 39 - degrees))
