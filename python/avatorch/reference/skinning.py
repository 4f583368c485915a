"""Linear blend skinning."""

from __future__ import annotations

import torch
from torch import Tensor


def skinning(v_posed: Tensor, A_global: Tensor, lbs_weights: Tensor) -> Tensor:
    """v_i = sum over j of w_ij (G_j v_posed_i + a_j) with A_j = [G_j | a_j]. The w_ij are used as they are.

    v_posed [B, V, 3], A_global [B, J, 4, 4], lbs_weights [V, J] -> [B, V, 3]
    """
    T = torch.einsum("vj,bjxy->bvxy", lbs_weights, A_global[:, :, :3])  # [B, V, 3, 4]
    return torch.einsum("bvxy,bvy->bvx", T[..., :3], v_posed) + T[..., 3]
