"""From each joint's own rotation to where the whole chain carries it."""

from __future__ import annotations

import torch
from torch import Tensor


def kinematic_chain(rot_mats: Tensor, J_shaped: Tensor, parents: Tensor) -> tuple[Tensor, Tensor]:
    """Posed joints t and skinning transforms A = [G | t - G J], which carry rest positions to posed ones.

    root:    G_0 = R_0          t_0 = J_0
    others:  G_j = G_p R_j      t_j = t_p + G_p (J_j - J_p)      with p the parent of j

    rot_mats [B, J, 3, 3], J_shaped [B, J, 3], parents [J] with -1 at the root and parents[j] < j
    -> joints [B, J, 3], A_global [B, J, 4, 4]
    """
    rotations, positions = [], []  # of G [B, 3, 3] and t [B, 3], joint by joint
    for j, p in enumerate(parents.tolist()):
        if p < 0:
            rotations.append(rot_mats[:, j])
            positions.append(J_shaped[:, j])
        else:
            bone = J_shaped[:, j] - J_shaped[:, p]  # [B, 3]
            rotations.append(rotations[p] @ rot_mats[:, j])
            positions.append(positions[p] + torch.einsum("bxy,by->bx", rotations[p], bone))
    G, joints = torch.stack(rotations, 1), torch.stack(positions, 1)  # [B, J, 3, 3], [B, J, 3]

    translation = joints - torch.einsum("bjxy,bjy->bjx", G, J_shaped)
    last_row = G.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*G.shape[:2], 1, 4)
    A_global = torch.cat([torch.cat([G, translation[..., None]], -1), last_row], -2)
    return joints, A_global
