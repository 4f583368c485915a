"""The normal matrix of a whole mesh, without its Jacobian.

A vertex moves by sum over joints j of w_j (W_j x x_j + T_j), with one twist (W_j, T_j) for each joint: the sum of the
rotations above it. So the matrix over the twists needs only moments of the vertices that two joints share,
    sum over vertices of c w_j w_l (v; 1)(v; 1)^T,
one product with a constant matrix; sums over what is below a joint then lead to its rotation. The curvature of pose
correctives is left out: that changes the length of a step, not where it ends.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from avatorch.body import Body
from avatorch.fit.jacobian import Skeleton, cross_matrix, joints_by_shape
from avatorch.rig import Posed


class Moments:
    """What only depends on the model: the pairs of joints that share a vertex."""

    def __init__(self, body: Body) -> None:
        weights = body.lbs_weights
        used = (weights != 0).to(weights)
        self.first, self.second = (used.T @ used).nonzero().T  # [p] each
        self.pairs = weights[:, self.first] * weights[:, self.second]  # [V, p]
        self.upper = torch.triu_indices(4, 4, device=weights.device)
        self.entry = torch.zeros(4, 4, dtype=torch.long, device=weights.device)
        self.entry[self.upper[0], self.upper[1]] = torch.arange(10, device=weights.device)
        self.entry = torch.maximum(self.entry, self.entry.T)

    def normal_matrix(
        self,
        body: Body,
        posed: Posed,
        bones: Skeleton,
        weights: Tensor,  # [B, V], of the vertices
        joints: Tensor,  # [K]
        coefficients: Tensor,  # [C']
    ) -> Tensor:
        """[B, C' + 3 K + 3, C' + 3 K + 3]: shape, rotations, translation."""
        vertices = pad(posed.v_posed, (0, 1), value=1.0)  # [B, V, 4]
        twists = _twists(bones, joints)  # [B, 6 J, 3 K + 3]
        pose = twists.transpose(1, 2) @ (self._over_twists(bones, vertices, weights) @ twists)
        if not len(coefficients):
            return pose
        carried = joints_by_shape(body, bones, coefficients)[1].flatten(2)  # [B, J, 3 C']
        turned = (body.lbs_weights @ bones.A_global[:, :, :3, :3].flatten(2)).unflatten(-1, (3, 3))
        moved = turned @ body.shapedirs[:, :, coefficients]  # [B, V, 3, C']
        moved = moved + (body.lbs_weights @ carried).unflatten(-1, (3, -1))
        weighted = moved * weights[..., None, None]
        shape = weighted.flatten(1, 2).transpose(1, 2) @ moved.flatten(1, 2)
        met = vertices[..., None] * weighted.flatten(2)[:, :, None]  # [B, V, 4, 3 C']
        met = (body.lbs_weights.T @ met.flatten(2)).unflatten(-1, (4, -1))
        met = (bones.A_global @ met).unflatten(-1, (3, -1))  # [B, J, 4, 3, C'], each joint's own place of the vertex
        turning = torch.stack([met[:, :, (i + 1) % 3, (i + 2) % 3] - met[:, :, (i + 2) % 3, (i + 1) % 3] for i in range(3)], 2)
        mixed = twists.transpose(1, 2) @ torch.cat([turning, met[:, :, 3]], 2).flatten(1, 2)
        return torch.cat([torch.cat([shape, mixed.transpose(1, 2)], 2), torch.cat([mixed, pose], 2)], 1)

    def _over_twists(self, bones: Skeleton, vertices: Tensor, weights: Tensor) -> Tensor:
        """[B, 6 J, 6 J]"""
        batch, joints = bones.places.shape[:2]
        squares = vertices[..., self.upper[0]] * vertices[..., self.upper[1]] * weights[..., None]  # [B, V, 10]
        shared = squares.transpose(1, 2) @ self.pairs  # [B, 10, p]
        shared = shared[:, self.entry].permute(0, 3, 1, 2)  # [B, p, 4, 4]
        A = bones.A_global
        shared = A[:, self.first] @ shared @ A[:, self.second].transpose(-1, -2)
        products, mass = shared[..., :3, :3], shared[..., 3, 3]
        identity = torch.eye(3, dtype=A.dtype, device=A.device)
        trace = products.diagonal(dim1=-2, dim2=-1).sum(-1)
        blocks = torch.cat(
            [
                torch.cat([trace[..., None, None] * identity - products.mT, cross_matrix(shared[..., :3, 3])], -1),
                torch.cat([-cross_matrix(shared[..., 3, :3]), mass[..., None, None] * identity], -1),
            ],
            -2,
        )  # [B, p, 6, 6]
        matrix = A.new_zeros(batch, joints, joints, 6, 6)
        matrix[:, self.first, self.second] = blocks
        return matrix.transpose(2, 3).flatten(3).flatten(1, 2)


def _twists(bones: Skeleton, joints: Tensor) -> Tensor:
    """Each joint's twist for each unknown, [B, 6 J, 3 K + 3]."""
    axes = bones.frames[:, joints]  # [B, K, 3, 3]
    moves = cross_matrix(bones.places[:, joints]) @ axes
    one = torch.cat([axes, moves], 2)  # [B, K, 6, 3]
    everywhere = bones.below[:, None, joints, None] * one.transpose(1, 2)[:, None]  # [B, J, 6, K, 3]
    shift = pad(torch.eye(3, dtype=axes.dtype, device=axes.device), (0, 0, 3, 0))  # [6, 3]
    shift = shift.expand(*bones.places.shape[:2], 6, 3)
    return torch.cat([everywhere.flatten(3), shift], 3).flatten(1, 2)
