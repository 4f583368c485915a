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
from avatorch.fit.twists import Pairs, Partners, curl, sparse, times, twists
from avatorch.rig import Posed

MOST_CONSTANTS = 1 << 26  # numbers that may be kept for a body


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
        squares = torch.stack(
            [times(products, basis[:, :, m, None, None] * basis[:, None]) for m in range(basis.shape[2])], -2
        )  # [p, 3, 3, M, M], the same for both orders of a pair
        sums = times(products, basis)  # [p, 3, M]
        self.mass = times(products, torch.ones_like(basis[:, 0, :1]))[:, 0]  # [p]
        self.second = squares.flatten(0, 2).flatten(1).T.contiguous()  # [M M, 9 p]
        self.first = sums.flatten(0, 1).T.contiguous()  # [M, 3 p]

        # What moves with the shape, for each row of partners.
        self.partners = Partners(self.pairs)
        chosen = self.partners.of(squares)[..., 1:]  # [r, W, 3, 3, M, C]
        along = self.partners.of(sums)[..., 1:]  # [r, W, 3, C]
        self.between = chosen[..., 1:, :].flatten(4).flatten(0, 3)  # [9 r W, C C]
        # Rows x, y, m and columns a, c: sums of (u x (R s))_a, then of (R s)_a, where R_xy = (G_j^T G_l)_xy.
        count, columns = len(chosen), chosen.shape[-1]
        turn = chosen.new_zeros(count, self.partners.WIDTH, 3, 3, len(self.first), 6, columns)
        for x in range(3):
            turn[..., x, :, :, (x + 1) % 3, :] += chosen[:, :, (x + 2) % 3]
            turn[..., x, :, :, (x + 2) % 3, :] -= chosen[:, :, (x + 1) % 3]
            turn[..., x, :, 0, 3 + x, :] = along
        self.turn = turn.flatten(5).flatten(1, 4)  # [r, 9 W M, 6 C]
        joints = len(body.parents)
        self.masses = self.mass.new_zeros(joints, joints)  # [J, J]
        self.masses[self.pairs.first, self.pairs.second] = self.mass
        self.masses[self.pairs.second, self.pairs.first] = self.mass

    @staticmethod
    def size(pairs: int, columns: int) -> int:
        """About how many numbers it keeps; rows of partners have some three places for each pair."""
        return 3 * 9 * pairs * (columns + 1) * 7 * columns

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
        second = ((b[:, :, None] * b[:, None]).flatten(1) @ self.second).unflatten(1, (-1, 3, 3))  # [B, p, 3, 3]
        first = (b @ self.first).unflatten(1, (-1, 3))[..., None]  # [B, p, 3, 1]
        mass = self.mass[None, :, None, None].expand(len(b), -1, 1, 1)
        whole = torch.cat([torch.cat([second, first], 3), torch.cat([first.mT, mass], 3)], 2)
        moved_by = twists(bones, joints)
        pose = moved_by.mT @ (self.pairs.over_twists(bones, whole) @ moved_by)
        if not len(chosen):
            return factor * pose
        by_shape, by_twist = self._with_shape(body, bones, b, first[..., 0])
        by_shape = by_shape[:, chosen[:, None], chosen]
        mixed = moved_by.mT @ by_twist[..., chosen].flatten(1, 2)
        return factor * torch.cat([torch.cat([by_shape, mixed.mT], 2), torch.cat([mixed, pose], 2)], 1)

    def _with_shape(self, body: Body, bones: Skeleton, b: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Shape with shape [B, C, C], and shape with twists [B, J, 6, C].

        By shape a vertex moves by G_l s + k_l for each joint l, s its direction and k_l what `carried` says.
        """
        partners, count = self.partners, len(self.coefficients)
        G, a = bones.A_global[..., :3, :3], bones.A_global[..., :3, 3:]
        carried = joints_by_shape(body, bones, self.coefficients)[1]  # [B, J, 3, C]
        theirs = G[:, partners.joints.flatten()].unflatten(1, partners.joints.shape)  # [B, r, W, 3, 3]
        R = G[:, partners.owners].mT @ theirs.transpose(2, 3).flatten(3)  # [B, r, 3, 3 W]
        R = R.unflatten(3, (-1, 3)).transpose(2, 3)  # [B, r, W, 3, 3]
        by_rows = (R[..., None] * b[:, None, None, None, None]).flatten(2)  # [B, r, 9 W M]
        by_rows = by_rows.transpose(0, 1) @ self.turn  # [r, B, 6 C]
        local = b.new_zeros(len(G[0]), *by_rows.shape[1:]).index_add(0, partners.owners, by_rows)
        local = local.transpose(0, 1).unflatten(2, (6, -1))  # [B, J, 6, C], in the joints' own axes
        turned = G @ local[:, :, :3]
        pushed = G @ local[:, :, 3:]  # [B, J, 3, C], sums of w_j w_l G_l s

        # k_l acts on the sums of w_j w_l x_j.
        sums = b.new_zeros(*carried.shape[:2], carried.shape[1], 3)  # [B, J, J, 3]
        for one, other in ((self.pairs.first, self.pairs.second), (self.pairs.second, self.pairs.first)):
            sums[:, one, other] = (G[:, one] @ first[..., None] + self.mass[:, None, None] * a[:, one])[..., 0]
        met = sums.transpose(2, 3).flatten(1, 2) @ carried.flatten(2)  # [B, 3 J, 3 C]
        met = met.unflatten(2, (3, -1)).unflatten(1, (-1, 3))  # [B, J, 3, 3, C]
        force = pushed + (self.masses @ carried.flatten(2)).unflatten(2, (3, -1))  # [B, J, 3, C]
        torque = turned + curl(a[..., None] * pushed[:, :, None] + met)
        by_shape = (R.flatten(1) @ self.between).unflatten(1, (count, count))
        carried = carried.flatten(1, 2)  # [B, 3 J, C]
        by_shape = by_shape + carried.mT @ force.flatten(1, 2) + pushed.flatten(1, 2).mT @ carried
        return by_shape, torch.cat([torque, force], 2)
