"""Point clouds without correspondence: how far each point is from the nearest place on the surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.fit.robust import Kernel
from avatorch.fit.targets import Points, PointTerm, check_frames
from avatorch.fit.terms import Columns, known, of_rows

if TYPE_CHECKING:
    from avatorch.fit.problem import Problem, State

MOST_PAIRS = 1 << 26  # of points and vertices at a time
SLIDING = 0.1  # how much a step minds a point's motion along the surface


class Nearest(NamedTuple):
    """The nearest place of the surface to each of M points."""

    corners: Tensor  # [B, M, 3], vertices of its triangle
    shares: Tensor  # [B, M, 3], barycentric
    normals: Tensor  # [B, M, 3], of the triangle


class Surface:
    """The triangles around each vertex. `faces` [F, 3] of `count` vertices."""

    def __init__(self, faces: Tensor, count: int) -> None:
        self.faces = faces.long()
        corners = self.faces.flatten()
        order = corners.argsort(stable=True)
        degree = torch.bincount(corners, minlength=count)
        first = degree.cumsum(0) - degree
        most = max(int(degree.max()), 1)
        slot = torch.minimum(torch.arange(most, device=faces.device), (degree - 1).clamp_min(0)[:, None])
        place = (first[:, None] + slot).clamp(max=len(order) - 1)
        self.around = order[place] // 3  # [V, most], the last triangle of a vertex repeated
        self.used = degree > 0  # [V]

    @torch.no_grad()
    def nearest(self, points: Tensor, vertices: Tensor) -> Nearest:
        """The nearest vertex, then the nearest place of its triangles. points [B, M, 3], vertices [B, V, 3]"""
        if not len(points):
            return Nearest(points.long(), points, points)
        found = [self._of_one(p, v) for p, v in zip(points, vertices, strict=True)]
        return Nearest(*(torch.stack(part) for part in zip(*found, strict=True)))

    def _of_one(self, points: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centre = vertices.mean(0)  # near the origin the squares below lose the least
        there, seen = points - centre, vertices - centre
        half = torch.where(self.used, -0.5 * seen.square().sum(1), -torch.inf)  # [V]
        step = max(1, MOST_PAIRS // len(vertices))
        vertex = torch.cat([torch.addmm(half, part, seen.T).argmax(1) for part in there.split(step)])
        faces = self.faces[self.around[vertex]]  # [M, most, 3]
        triangles = seen[faces]  # [M, most, 3, 3]
        shares = on_plane(there[:, None], triangles).clamp_min(0)
        shares = shares / shares.sum(-1, keepdim=True)  # within the triangle, and close enough to choose by
        best = (there[:, None] - (shares[..., None, :] @ triangles)[..., 0, :]).square().sum(-1).argmin(1)
        row = torch.arange(len(points), device=points.device)
        chosen = triangles[row, best]  # [M, 3, 3]
        a, b, c = chosen.unbind(1)
        normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        return faces[row, best], closest_on_triangles(there, chosen), normals


def closest_on_triangles(points: Tensor, triangles: Tensor) -> Tensor:
    """Barycentric coordinates of the nearest place: points [..., 3], triangles [..., 3, 3] -> [..., 3]

    Inside if the plane's nearest point is; otherwise the nearest of the three edges' nearest points.
    """
    inside = on_plane(points, triangles)
    on_edges = torch.stack([_on_edge(points, triangles, i) for i in range(3)], -2)  # [..., edge, 3]
    reached = on_edges @ triangles
    best = (reached - points[..., None, :]).square().sum(-1).argmin(-1)
    on_edge = on_edges.gather(-2, best[..., None, None].expand(*best.shape, 1, 3))[..., 0, :]
    return torch.where((inside >= 0).all(-1, keepdim=True), inside, on_edge)


def on_plane(points: Tensor, triangles: Tensor) -> Tensor:
    """The same for the triangles' planes; negative beyond an edge."""
    a, b, c = triangles.unbind(-2)
    ab, ac, ap = b - a, c - a, points - a
    d11, d12, d22 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d31, d32 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = (d11 * d22 - d12 * d12).clamp_min(1e-20)
    v, w = (d22 * d31 - d12 * d32) / area, (d11 * d32 - d12 * d31) / area
    return torch.stack([1 - v - w, v, w], -1)


def _on_edge(points: Tensor, triangles: Tensor, first: int) -> Tensor:
    """The nearest place on the edge from one corner to the next, barycentric."""
    start, end = triangles[..., first, :], triangles[..., (first + 1) % 3, :]
    along = end - start
    part = ((points - start) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-20)
    part = part.clamp(0, 1)
    shares = [torch.zeros_like(part)] * 3
    shares[first], shares[(first + 1) % 3] = 1 - part, part
    return torch.stack(shares, -1)


class PointCloud(PointTerm):
    """A scan: each of its points [B, M, 3] lies on the surface, up to `sigma`. Missing points are NaN.

    Nothing is asked of the parts of the body that no point is near to. More than `most` points of a frame are thinned
    out at random, by `seed`.
    """

    def __init__(
        self,
        target: Tensor,
        *,
        sigma: float = 0.005,
        confidence: Tensor | None = None,
        robust: Kernel | str | None = "geman_mcclure",
        most: int = 4000,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        target = torch.as_tensor(target)
        confidence = None if confidence is None else torch.as_tensor(confidence)
        if target.ndim == 3 and target.shape[1] > most:
            generator = torch.Generator().manual_seed(seed)
            kept = torch.randperm(target.shape[1], generator=generator)[:most].sort().values
            target = target[:, kept.to(target.device)]
            confidence = None if confidence is None else confidence[:, kept.to(confidence.device)]
        self.target, confidence = known(target, confidence, "PointCloud")
        super().__init__(sigma, confidence, robust, name)

    def vertices(self, body: Body) -> Tensor | None:
        return None

    def bind(self, problem: Problem) -> None:
        super().bind(problem)
        self.target = self.target.to(problem.whole.v_template)
        self.surface = Surface(problem.whole.faces, len(problem.whole.v_template))
        check_frames(self, self.target, problem)

    def residuals(self, state: State) -> Tensor:
        near = self._nearest(state)
        return Points(corners=near.corners, shares=near.shares).of(state) - of_rows(self.target, state)

    def curvature(self, state: State, columns: Columns) -> Tensor:
        near = self._nearest(state)
        self.points = Points(corners=near.corners, shares=near.shares)
        return super().curvature(state, columns)

    def image(self, points: Tensor, state: State) -> Tensor:
        return points - of_rows(self.target, state)

    def rows_of(self, points: Tensor, moves: Tensor, state: State, columns: Columns) -> Tensor:
        # The nearest place slides along the surface as the body moves, so what counts is the distance across it.
        away = self.image(points, state)
        length = away.norm(dim=-1, keepdim=True)
        across = torch.where(length > 1e-4, away / length.clamp_min(1e-4), self._nearest(state).normals)
        moved = torch.einsum("bnx,bnxm->bnm", across, moves)[:, :, None] * across[..., None]
        rows = (1 - SLIDING) * moved + SLIDING * moves
        return torch.nn.functional.pad(rows, (0, len(columns.camera)))

    def _nearest(self, state: State) -> Nearest:
        if self not in state.memory:
            target = of_rows(self.target, state).expand(len(state.x), -1, -1)
            state.memory[self] = self.surface.nearest(target, state.posed.vertices.detach())
        found = state.memory[self]
        assert isinstance(found, Nearest)
        return found
