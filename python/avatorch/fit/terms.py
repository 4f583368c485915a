"""What a term of a problem is: weighted residuals, and their part of the normal matrix."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.fit.robust import Kernel, kernel
from avatorch.fit.unknowns import Unknowns

if TYPE_CHECKING:
    from avatorch.fit.problem import Problem, State

MOST_NUMBERS = 1 << 26  # of one Jacobian; frames are taken in pieces that stay below


class Columns(NamedTuple):
    """The columns that a stage moves, in order: shape, rotations, translation, camera."""

    every: Tensor  # [n], of the unknowns
    coefficients: Tensor  # [C'], columns of shapedirs
    joints: Tensor  # [K]
    transl: bool
    camera: Tensor  # [c], of the camera's own columns

    @property
    def of_body(self) -> int:
        """How many there are before the camera's."""
        return len(self.coefficients) + 3 * len(self.joints) + 3 * self.transl


def columns_of(unknowns: Unknowns, chosen: Tensor) -> Columns:
    """chosen [n], ascending"""

    def within(name: str) -> Tensor:
        place = unknowns.slices.get(name, slice(0, 0))
        return chosen[(chosen >= place.start) & (chosen < place.stop)] - place.start

    coefficients = torch.cat([within("betas"), within("expression") + unknowns.body.num_betas])
    return Columns(chosen, coefficients, within("pose")[::3] // 3, len(within("transl")) > 0, within("camera"))


class Term:
    """Residuals `[B, N, D]` of N items, each with a confidence, in units of `sigma`.

    A frame pays half the sum of confidence times rho(|residual / sigma|^2): with independent errors of these sigmas,
    the minimum is the most probable body. A subclass gives `residuals`; `curvature` in closed form is optional.
    """

    views = 0  # of the camera that it looks through
    couples = False  # whether it ties frames together
    items = 1000  # N, or a guess
    bound: weakref.ref[Problem] | None = None  # the problem that it was last bound to

    def __init__(
        self,
        sigma: float,
        confidence: Tensor | None = None,  # [B or 1, N]
        robust: Kernel | str | None = None,
        name: str | None = None,
    ) -> None:
        if not sigma > 0:
            raise ValueError(f"{type(self).__name__}: sigma is {sigma}, expected more than 0")
        self.name = name or type(self).__name__
        self.sigma, self.kernel = sigma, kernel(robust)
        self.confidence = None if confidence is None else _trusted(confidence, self.name)

    def vertices(self, body: Body) -> Tensor | None:
        """Which vertices it looks at; None for all."""
        return torch.zeros(0, dtype=torch.long)

    def bind(self, problem: Problem) -> None:
        """Called when the problem is made, and again if another one had the term since."""
        if self.confidence is None:
            return
        if len(self.confidence) not in (1, problem.frames):
            raise ValueError(
                f"{self.name}: confidence has shape {list(self.confidence.shape)}, expected [{problem.frames} or 1, N]"
            )
        self.confidence = self.confidence.to(problem.whole.v_template)

    def residuals(self, state: State) -> Tensor:
        """[B', N, D] in natural units."""
        raise NotImplementedError

    def cost(self, state: State) -> Tensor:
        """[B']"""
        square, wide = self.residuals(state).square().sum(-1) / self.sigma**2, state.widen**2
        paid = square if self.kernel is None else wide * self.kernel.rho(square / wide)
        return 0.5 * self._confident(paid, state).sum(-1)

    def weights(self, residuals: Tensor, state: State) -> Tensor:
        """What multiplies squared residuals in a Gauss-Newton step, [B', N]."""
        square = residuals.square().sum(-1) / self.sigma**2
        weights = torch.ones_like(square) if self.kernel is None else self.kernel.weight(square / state.widen**2)
        return self._confident(weights, state) / self.sigma**2

    def _confident(self, values: Tensor, state: State) -> Tensor:
        if self.confidence is None:
            return values
        return values * of_rows(self.confidence, state)

    def footprint(self, body: Body, columns: Columns) -> int:
        """About how many numbers `curvature` needs for one frame."""
        n = len(columns.every)
        return n * n + 3 * self.items * (2 * n + 3 * body.num_joints)

    def curvature(self, state: State, columns: Columns) -> Tensor:
        """Its part of the normal matrix, [B', n, n]; here by forward-mode differentiation, for any residuals."""
        from avatorch.fit.problem import State

        def residuals(moved: Tensor) -> Tensor:
            x = state.x.index_add(1, columns.every, moved)
            return self.residuals(State(state.problem, x, state.rows, state.widen))

        here = state.x.new_zeros(len(state.x), len(columns.every))
        directions = torch.eye(len(columns.every), dtype=here.dtype, device=here.device)

        def along(direction: Tensor) -> Tensor:
            return torch.func.jvp(residuals, (here,), (direction.expand_as(here),))[1]

        rows = torch.func.vmap(along, chunk_size=32)(directions).movedim(0, -1)  # [B', N, D, n]
        weights = self.weights(self.residuals(state), state)
        return normal_matrix(rows, weights)


class Residuals(Term):
    """Any function of the unknowns and the posed body: a pose prior such as VPoser, or a loss of your own.

    function(values, posed) -> [B, N] or [B, N, D], where values are the unknowns by name, [B, size], and posed is what
    the body returned. It must be made of torch's differentiable operations, and treat frames apart: it is also
    asked about some of the frames, and values["frame"] [B] says which, so that data of your own are data[frame].
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        sigma: float = 1.0,
        confidence: Tensor | None = None,
        robust: Kernel | str | None = None,
        name: str | None = None,
        *,
        uses_body: bool = True,
    ) -> None:
        super().__init__(sigma, confidence, robust, name)
        self.function, self.uses_body = function, uses_body

    def vertices(self, body: Body) -> Tensor | None:
        return None if self.uses_body else super().vertices(body)

    def residuals(self, state: State) -> Tensor:
        frame = torch.arange(state.problem.frames, device=state.x.device)[state.rows]
        made = self.function({**state.values, "frame": frame}, state.posed if self.uses_body else None)
        items = None if self.confidence is None else self.confidence.shape[1]
        if not isinstance(made, Tensor) or made.ndim not in (2, 3) or len(made) != len(state.x):
            found = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(f"{self.name}: the function returned {found}, expected [{len(state.x)}, N] or [.., N, D]")
        if items not in (None, made.shape[1]):
            raise ValueError(f"{self.name}: the function returned {list(made.shape)} for {items} confidences")
        return made[..., None] if made.ndim == 2 else made


def normal_matrix(rows: Tensor, weights: Tensor) -> Tensor:
    """rows [B, N, D, n], weights [B, N] -> [B, n, n]"""
    scaled = (rows * weights.clamp_min(0).sqrt()[..., None, None]).flatten(1, 2)
    return scaled.mT @ scaled


def of_rows(values: Tensor, state: State) -> Tensor:
    """The part of [B or 1, ...] for the frames of a state."""
    return values[state.rows] if len(values) == state.problem.frames else values


def known(target: Tensor, confidence: Tensor | None, what: str) -> tuple[Tensor, Tensor | None]:
    """Targets [B, N, D] with zeros where they are missing (NaN or infinite), and a confidence of zero there."""
    target = torch.as_tensor(target)
    if target.ndim != 3:
        raise ValueError(f"{what}: target has shape {list(target.shape)}, expected three dimensions, frames first")
    if confidence is not None:
        confidence = torch.as_tensor(confidence).to(target.device)
        fits = confidence.ndim == 2 and confidence.shape[1] == target.shape[1]
        if not fits or (1 != len(confidence) != len(target) != 1):
            raise ValueError(
                f"{what}: confidence has shape {list(confidence.shape)}, and target {list(target.shape)}, expected a "
                f"number for each point, [frames or 1, {target.shape[1]}]"
            )
    there = target.isfinite().all(-1)
    if bool(there.all()):
        return target, confidence
    target = torch.where(there[..., None], target, 0)
    return target, there.to(target) if confidence is None else torch.where(there, confidence, 0)


def _trusted(confidence: Tensor, what: str) -> Tensor:
    """[B or 1, N], finite and not negative."""
    confidence = torch.as_tensor(confidence)
    if confidence.ndim != 2:
        raise ValueError(f"{what}: confidence has shape {list(confidence.shape)}, expected [frames or 1, N]")
    if not bool((confidence.isfinite() & (confidence >= 0)).all()):
        raise ValueError(f"{what}: confidence holds negative, infinite or NaN numbers, expected finite ones from 0 on")
    return confidence
