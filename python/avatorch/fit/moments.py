"""The normal matrix of a whole mesh, without its Jacobian.

A vertex moves by sum over joints j of w_j (W_j x x_j + T_j), with one twist (W_j, T_j) for each joint: the sum of the
rotations above it. So the matrix over the twists needs only moments of the vertices that two joints share,
    sum over vertices of c w_j w_l (v; 1)(v; 1)^T,
one product with a sparse matrix; sums over what is below a joint then lead to its rotation. The curvature of pose
correctives is left out: that changes the length of a step, not where it ends.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from avatorch.body import Body
from avatorch.fit.jacobian import Skeleton, joints_by_shape
from avatorch.fit.twists import Pairs, curl, sparse, times, twists
from avatorch.rig import Posed

MOST_CONSTANTS = 1 << 24  # numbers that may be kept for a body


class WeightedMoments:
    """For weights of their own in each frame: every vertex is visited."""

    def __init__(self, body: Body) -> None:
        self.pairs = Pairs(body)
        self.products = sparse(self.pairs.products)  # [p, V]
        self.weights, self.transposed = sparse(body.lbs_weights), sparse(body.lbs_weights.T)  # [V, J], [J, V]

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
        vertices = pad(posed.v_posed, (0, 1), value=1.0).transpose(0, 1)  # [V, B, 4]
        paid = weights.T[..., None, None]  # [V, B, 1, 1]
        squares = times(self.products, vertices[..., None] * (paid * vertices[..., None, :]))  # [p, B, 4, 4]
        moved_by = twists(bones, joints)  # [B, 6 J, 3 K + 3]
        pose = moved_by.mT @ (self.pairs.over_twists(bones, squares.transpose(0, 1)) @ moved_by)
        if not len(coefficients):
            return pose
        carried = joints_by_shape(body, bones, coefficients)[1]  # [B, J, 3, C']
        turned = times(self.weights, bones.A_global[:, :, :3, :3].transpose(0, 1))  # [V, B, 3, 3]
        moved = turned @ body.shapedirs[:, None, :, coefficients]
        moved = moved + times(self.weights, carried.transpose(0, 1))  # [V, B, 3, C']
        weighted = moved * paid
        shape = torch.einsum("vbxc,vbxd->bcd", weighted, moved)
        met = vertices[..., None] * weighted.flatten(2)[:, :, None]  # [V, B, 4, 3 C']
        met = bones.A_global @ times(self.transposed, met).transpose(0, 1)
        met = met.unflatten(-1, (3, -1))  # [B, J, 4, 3, C'], with each joint's own place of the vertex
        mixed = moved_by.mT @ torch.cat([curl(met[:, :, :3]), met[:, :, 3]], 2).flatten(1, 2)
        return torch.cat([torch.cat([shape, mixed.mT], 2), torch.cat([mixed, pose], 2)], 1)


class ConstantMoments:
    """For weights that all frames have in common: what the vertices say is summed up once.

    A shaped vertex is a sum over m of S_m b_m, with b_0 = 1 for the template. So every moment is a polynomial in b,
    whose coefficients, sums over vertices of w_j w_l S_m S_m'^T, only depend on the model; no step looks at a vertex.
    """

    def __init__(self, body: Body, weights: Tensor, coefficients: Tensor) -> None:
        """weights [V]; coefficients [M - 1], the columns of shapedirs that are not zero in some frame."""
        self.pairs, self.coefficients = Pairs(body), coefficients
        products = sparse(self.pairs.products * weights)
        basis = torch.cat([body.v_template[..., None], body.shapedirs[..., coefficients]], 2)  # [V, 3, M]
        squares = [times(products, basis[:, :, m, None, None] * basis[:, None]) for m in range(basis.shape[2])]
        self.squares = torch.stack(squares)  # [M, p, 3, 3, M]
        self.between = self.squares[1:, ..., 1:].permute(1, 2, 3, 0, 4).flatten(3).flatten(0, 2)  # [9 p, (M - 1)^2]
        self.sums = times(products, basis)  # [p, 3, M]
        self.mass = times(products, torch.ones_like(basis[:, 0, :1]))[:, 0]  # [p]

    @staticmethod
    def size(pairs: int, columns: int) -> int:
        """How many numbers it keeps."""
        return 9 * pairs * (columns + 1) ** 2

    def normal_matrix(
        self,
        body: Body,
        shape: Tensor,  # [B, M - 1]
        bones: Skeleton,
        factor: float,  # of all weights
        joints: Tensor,  # [K]
        chosen: Tensor,  # [C'], which of the coefficients
    ) -> Tensor:
        """[B, C' + 3 K + 3, C' + 3 K + 3]: shape, rotations, translation."""
        b = pad(shape, (1, 0), value=1.0)  # [B, M]
        squares = (b @ self.squares.flatten(1)).unflatten(1, self.squares.shape[1:])  # [B, p, 3, 3, M]
        second = (squares @ b[:, None, None, :, None])[..., 0]  # [B, p, 3, 3]
        first = (b @ self.sums.flatten(0, 1).T).unflatten(1, (-1, 3))[..., None]  # [B, p, 3, 1]
        mass = self.mass[None, :, None, None].expand(len(b), -1, 1, 1)
        whole = torch.cat([torch.cat([second, first], 3), torch.cat([first.mT, mass], 3)], 2)
        moved_by = twists(bones, joints)
        pose = moved_by.mT @ (self.pairs.over_twists(bones, whole) @ moved_by)
        if not len(chosen):
            return factor * pose
        carried = joints_by_shape(body, bones, self.coefficients)[1]  # [B, J, 3, M - 1]
        columns = len(self.coefficients)
        by_shape = b.new_zeros(len(b), columns, columns)
        by_twist = b.new_zeros(len(b), bones.places.shape[1], 6, columns)
        squares, sums = squares[..., 1:], self.sums[..., 1:]
        for one, other, counted in self._orders():
            G, a = bones.A_global[:, one, :3, :3], bones.A_global[:, one, :3, 3:]
            H, carry = bones.A_global[:, other, :3, :3], carried[:, other]
            drift = H @ sums + mass * carry  # [B, p, 3, M - 1], sums of what the other joint moves by shape
            met = torch.einsum("bpxh,bphyc,bpzy->bpxzc", G, squares, H)
            met = met + a[..., None] * (H @ sums)[:, :, None] + (G @ first + mass * a)[..., None] * carry[:, :, None]
            found = torch.cat([curl(met), drift], 2) * counted[:, None, None]
            by_twist = by_twist.index_add(1, one, found)
            turn = (G.mT @ H) * counted[:, None, None]
            by_shape = by_shape + (turn.flatten(1) @ self.between).unflatten(1, (columns, columns))
            G_sums, mine = G @ sums, carried[:, one] * counted[:, None, None]
            across = torch.einsum("bpxc,bpxd->bcd", G_sums * counted[:, None, None], carry)
            by_shape = by_shape + across + torch.einsum("bpxc,bpxd->bcd", mine, drift)
        by_shape = by_shape[:, chosen[:, None], chosen]
        mixed = moved_by.mT @ by_twist[..., chosen].flatten(1, 2)
        return factor * torch.cat([torch.cat([by_shape, mixed.mT], 2), torch.cat([mixed, pose], 2)], 1)

    def _orders(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Both orders of each pair; a joint with itself counts once."""
        first, second = self.pairs.first, self.pairs.second
        once = torch.ones_like(self.mass)
        return [(first, second, once), (second, first, (first != second).to(once))]
