"""Targets in space: joints, vertices, markers and landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.fit.jacobian import joint_points, skinned_points
from avatorch.fit.moments import MOST_CONSTANTS, ConstantMoments, WeightedMoments
from avatorch.fit.robust import Kernel
from avatorch.fit.terms import Columns, Term, known, normal_matrix, of_rows

if TYPE_CHECKING:
    from avatorch.fit.problem import Problem, State


class Points:
    """N points of a body: joints, or places on the surface."""

    all_vertices = False  # in their order: then there is nothing to look up

    def __init__(
        self, joints: Tensor | None = None, corners: Tensor | None = None, shares: Tensor | None = None
    ) -> None:
        self.joints = joints  # [N], or the next two
        self.corners = corners  # [B or 1, N, k], vertices
        self.shares = shares  # [B or 1, N, k]

    def of(self, state: State) -> Tensor:
        """[B', N, 3]"""
        if self.joints is not None:
            return state.posed.joints[:, self.joints]
        if self.all_vertices:
            return state.posed.vertices
        assert self.corners is not None and self.shares is not None
        if len(self.corners) == 1:
            met = state.posed.vertices[:, self.corners[0]]  # [B', N, k, 3]
        else:
            batch = torch.arange(len(state.x), device=self.corners.device)[:, None, None]
            met = state.posed.vertices[batch, self.corners]
        return (met * self.shares[..., None]).sum(2)

    def jacobian(self, state: State, columns: Columns) -> Tensor:
        """[B', N, 3, columns of the body]"""
        body, bones = state.body, state.bones
        if self.joints is not None:
            turned, shaped = joint_points(body, bones, self.joints, columns.joints, columns.coefficients)
        else:
            assert self.corners is not None and self.shares is not None
            turned, shaped = skinned_points(
                body, state.posed, bones, self.corners, self.shares, columns.joints, columns.coefficients
            )
        parts = [shaped, turned.flatten(3)]
        if columns.transl:
            parts.append(torch.eye(3, dtype=turned.dtype, device=turned.device).expand(*turned.shape[:2], 3, 3))
        return torch.cat(parts, 3)


class PointTerm(Term):
    """Residuals of points: what `image` makes of them."""

    points: Points

    def residuals(self, state: State) -> Tensor:
        return self.image(self.points.of(state), state)

    def image(self, points: Tensor, state: State) -> Tensor:
        """[B', N, 3] -> [B', N, D]; each residual follows from its own point."""
        raise NotImplementedError

    def curvature(self, state: State, columns: Columns) -> Tensor:
        points = self.points.of(state)
        weights = self.weights(self.image(points, state), state)
        rows = self.rows_of(points, self.points.jacobian(state, columns), state, columns)
        return normal_matrix(rows, weights)

    def rows_of(self, points: Tensor, moves: Tensor, state: State, columns: Columns) -> Tensor:
        """Derivatives of the residuals [B', N, D, n] from those of the points [B', N, 3, m]."""
        return torch.nn.functional.pad(moves, (0, len(columns.camera))) if len(columns.camera) else moves


class Joints(PointTerm):
    """Where joints are. target [B, N, 3] in metres; `joints` says which, by name or number, by default all."""

    def __init__(
        self,
        target: Tensor,
        joints: Sequence[str | int] | Tensor | None = None,
        *,
        sigma: float = 0.005,
        confidence: Tensor | None = None,
        robust: Kernel | str | None = None,
        name: str | None = None,
    ) -> None:
        self.target, confidence = known(target, confidence, "Joints")
        super().__init__(sigma, confidence, robust, name)
        self.chosen = joints

    def bind(self, problem: Problem) -> None:
        super().bind(problem)
        self.target = self.target.to(problem.whole.v_template)
        self.points = Points(numbers_of_joints(problem.whole, self.chosen, self.target.shape[1], "Joints"))
        check_frames(self, self.target, problem)

    def image(self, points: Tensor, state: State) -> Tensor:
        return points - of_rows(self.target, state)


class Landmarks(PointTerm):
    """Points on the surface: triangles [N] of the body with barycentric coordinates [N, 3]. target [B, N, 3]"""

    def __init__(
        self,
        target: Tensor,
        triangles: Tensor,
        barycentric: Tensor,
        *,
        sigma: float = 0.003,
        confidence: Tensor | None = None,
        robust: Kernel | str | None = None,
        name: str | None = None,
    ) -> None:
        self.target, confidence = known(target, confidence, "Landmarks")
        super().__init__(sigma, confidence, robust, name)
        self.triangles, self.barycentric = on_surface(triangles, barycentric, self.target.shape[1], "Landmarks")

    def vertices(self, body: Body) -> Tensor | None:
        return corners_of(body, self.triangles, "Landmarks").flatten()

    def bind(self, problem: Problem) -> None:
        super().bind(problem)
        like = problem.whole.v_template
        self.target = self.target.to(like)
        corners = problem.place[problem.whole.faces[self.triangles.to(like.device)].long()]
        self.points = Points(corners=corners[None], shares=self.barycentric.to(like)[None])
        check_frames(self, self.target, problem)

    def image(self, points: Tensor, state: State) -> Tensor:
        return points - of_rows(self.target, state)


class Vertices(PointTerm):
    """Where vertices are, as markers or a registered mesh. target [B, N, 3]; `vertices` [N] are by default all."""

    def __init__(
        self,
        target: Tensor,
        vertices: Tensor | Sequence[int] | None = None,
        *,
        sigma: float = 0.005,
        confidence: Tensor | None = None,
        robust: Kernel | str | None = None,
        name: str | None = None,
    ) -> None:
        self.target, confidence = known(target, confidence, "Vertices")
        super().__init__(sigma, confidence, robust, name)
        self.chosen = None if vertices is None else torch.as_tensor(vertices)
        self._moments: ConstantMoments | WeightedMoments | None = None

    def vertices(self, body: Body) -> Tensor | None:
        whole = len(body.v_template)
        chosen = torch.arange(whole) if self.chosen is None else self.chosen
        numbers = not (chosen.is_floating_point() or chosen.dtype == torch.bool)
        fits = numbers and chosen.shape == self.target.shape[1:2]
        if not fits or bool(((chosen < 0) | (chosen >= whole)).any()):
            raise ValueError(
                f"Vertices: target has shape {list(self.target.shape)} and vertices has shape {list(chosen.shape)}, "
                f"expected [frames, N, 3] and [N], numbers from 0 to {whole - 1}"
            )
        return self.chosen

    def bind(self, problem: Problem) -> None:
        super().bind(problem)
        like = problem.whole.v_template
        self.target = self.target.to(like)
        chosen = torch.arange(len(like)) if self.chosen is None else self.chosen.long()
        corners = problem.place[chosen.to(like.device)]
        self.points = Points(corners=corners[None, :, None], shares=like.new_ones(1, len(chosen), 1))
        check_frames(self, self.target, problem)
        if self.chosen is None:
            self.points.all_vertices = True
            self._moments = self._of_mesh(problem)

    def _of_mesh(self, problem: Problem) -> ConstantMoments | WeightedMoments:
        """Sums over the vertices are constant where all frames trust each vertex alike."""
        body, weighted = problem.body, WeightedMoments(problem.body)
        named = {*problem.unknowns.slices, *problem.fixed}
        own = torch.arange(body.num_betas if "betas" in named else 0)
        face = torch.arange(body.num_expressions if "expression" in named else 0) + body.num_betas
        self.shape = torch.cat([own, face]).to(body.v_template.device)
        trust = self.confidence if self.confidence is not None else torch.ones_like(body.v_template[None, :, 0])
        alike = self.kernel is None and bool((trust == trust[:1]).all())
        offset = "vertex_offsets" in problem.fixed  # of which the sums know nothing
        if not alike or offset or ConstantMoments.size(len(weighted.pairs), len(self.shape)) > MOST_CONSTANTS:
            return weighted
        return ConstantMoments(body, trust[0], self.shape)

    def image(self, points: Tensor, state: State) -> Tensor:
        return points - of_rows(self.target, state)

    def footprint(self, body: Body, columns: Columns) -> int:
        if self._moments is None:
            return super().footprint(body, columns)
        pairs, joints, n = len(self._moments.pairs), body.num_joints, len(columns.every)
        own = 12 * joints * (6 * joints + n)
        if isinstance(self._moments, ConstantMoments):
            return own + 50 * pairs * (2 + len(self.shape))
        return own + 60 * pairs + self.items * (16 + 18 * len(columns.coefficients))

    def curvature(self, state: State, columns: Columns) -> Tensor:
        if self._moments is None:
            return super().curvature(state, columns)
        if isinstance(self._moments, ConstantMoments):
            zeros = {"betas": state.body.num_betas, "expression": state.body.num_expressions}
            values = [state.given(name, size) for name, size in zeros.items()]
            values = [
                torch.nn.functional.pad(v, (0, n - v.shape[1])) for v, n in zip(values, zeros.values(), strict=True)
            ]
            shape = torch.cat(values, 1)[:, self.shape]
            chosen = torch.searchsorted(self.shape, columns.coefficients)
            matrix = self._moments.normal_matrix(
                state.body, shape, state.bones, 1 / self.sigma**2, columns.joints, chosen
            )
        else:
            weights = self.weights(self.residuals(state), state)
            matrix = self._moments.normal_matrix(
                state.body, state.posed, state.bones, weights, columns.joints, columns.coefficients
            )
        if not columns.transl:
            matrix = matrix[:, :-3, :-3]
        return torch.nn.functional.pad(matrix, (0, len(columns.camera)) * 2) if len(columns.camera) else matrix


def numbers_of_joints(body: Body, chosen: Sequence[str | int] | Tensor | None, count: int, what: str) -> Tensor:
    """Indices [N] of joints given by name or number."""
    if chosen is None:
        numbers = list(range(body.num_joints))
    else:
        listed = chosen.tolist() if isinstance(chosen, Tensor) else chosen
        numbers = [body.joint(item) if isinstance(item, str) else int(item) for item in listed]
    if len(numbers) != count or any(not 0 <= number < body.num_joints for number in numbers):
        raise ValueError(
            f"{what}: target has {count} points and {len(numbers)} joints are named, expected as many, each from 0 to "
            f"{body.num_joints - 1}"
        )
    return torch.tensor(numbers, dtype=torch.long, device=body.v_template.device)


def on_surface(triangles: Tensor, barycentric: Tensor | None, count: int, what: str) -> tuple[Tensor, Tensor]:
    """Triangles [N] and barycentric coordinates [N, 3] of as many targets."""
    if barycentric is None:
        raise ValueError(f"{what}: triangles need barycentric, coordinates [{count}, 3]")
    triangles, barycentric = torch.as_tensor(triangles), torch.as_tensor(barycentric)
    if triangles.shape != (count,) or barycentric.shape != (count, 3) or not bool(barycentric.isfinite().all()):
        raise ValueError(
            f"{what}: triangles has shape {list(triangles.shape)} and barycentric {list(barycentric.shape)}, expected "
            f"[{count}] and [{count}, 3], all finite"
        )
    return triangles.long(), barycentric


def corners_of(body: Body, triangles: Tensor, what: str) -> Tensor:
    """The vertices of some triangles, [N, 3]"""
    most = len(body.faces) - 1
    if bool(((triangles < 0) | (triangles > most)).any()):
        raise ValueError(f"{what}: triangles has numbers that are not from 0 to {most}")
    return body.faces[triangles.to(body.faces.device)]


def check_frames(term: Term, target: Tensor, problem: Problem) -> None:
    """A target has one row for each frame, or one for all."""
    term.items = target.shape[1]
    if len(target) not in (1, problem.frames) or target.shape[-1] != (2 if term.views else 3):
        raise ValueError(
            f"{type(term).__name__}: target has shape {list(target.shape)}, expected [{problem.frames} or 1, N, 3]"
        )
