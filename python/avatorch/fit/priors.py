"""What is known before looking: values that are likely, ranges that are possible, motions that are smooth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.fit.robust import Kernel
from avatorch.fit.terms import Columns, Term, known, of_rows

if TYPE_CHECKING:
    from avatorch.fit.problem import Problem, State


class Elementwise(Term):
    """Residuals of an unknown's own columns, one for each."""

    def __init__(
        self, unknown: str, sigma: float, confidence: Tensor | None, robust: Kernel | str | None, name: str | None
    ) -> None:
        super().__init__(sigma, confidence, robust, name or f"{type(self).__name__}:{unknown}")
        self.unknown = unknown

    def bind(self, problem: Problem) -> None:
        super().bind(problem)
        if self.unknown not in problem.unknowns.slices:
            raise ValueError(f"{type(self).__name__}: {self.unknown!r} is not among the unknowns of the problem")

    def residuals(self, state: State) -> Tensor:
        return self.offsets(state.values[self.unknown], state)[..., None]

    def offsets(self, values: Tensor, state: State) -> Tensor:
        """[B', size] -> [B', size]; each follows from its own value, with a slope of 0 or 1."""
        raise NotImplementedError

    def slopes(self, values: Tensor, state: State) -> Tensor:
        """Its derivatives."""
        return torch.ones_like(values)

    def curvature(self, state: State, columns: Columns) -> Tensor:
        values = state.values[self.unknown]
        weights = self.weights(self.residuals(state), state) * self.slopes(values, state).square()
        full = torch.zeros_like(state.x)
        full[:, state.problem.unknowns.slices[self.unknown]] = weights
        return torch.diag_embed(full[:, columns.every])


class Values(Elementwise):
    """An unknown is near `target` [B or 1, size] or zero: a prior, or weights that were observed, as of expressions."""

    def __init__(
        self,
        unknown: str,
        target: Tensor | None = None,
        *,
        sigma: float = 1.0,
        confidence: Tensor | None = None,  # [B or 1, size]
        robust: Kernel | str | None = None,
        name: str | None = None,
    ) -> None:
        self.target = target
        if target is not None:
            target = torch.as_tensor(target)
            rows = target if target.ndim > 1 else target.reshape(1, -1)
            three, confidence = known(rows[..., None], confidence, "Values")
            self.target = three[..., 0]
        super().__init__(unknown, sigma, confidence, robust, name)

    def bind(self, problem: Problem) -> None:
        super().bind(problem)
        size = problem.unknowns.sizes[self.unknown]
        if self.confidence is not None and self.confidence.shape[1] != size:
            raise ValueError(
                f"Values: confidence of {self.unknown} has shape {list(self.confidence.shape)}, "
                f"expected [{problem.frames} or 1, {size}]"
            )
        if self.target is not None:
            self.target = self.target.to(problem.whole.v_template)
            if self.target.shape[1] != size or len(self.target) not in (1, problem.frames):
                raise ValueError(
                    f"Values: target of {self.unknown} has shape {list(self.target.shape)}, "
                    f"expected [{problem.frames} or 1, {size}]"
                )

    def offsets(self, values: Tensor, state: State) -> Tensor:
        return values if self.target is None else values - of_rows(self.target, state)


class Limits(Elementwise):
    """An unknown stays between `low` and `high`, numbers or [size]; beyond, it pays for the distance in sigmas."""

    def __init__(
        self, unknown: str, low: Tensor | float, high: Tensor | float, *, sigma: float = 0.05, name: str | None = None
    ) -> None:
        super().__init__(unknown, sigma, None, None, name)
        self.low, self.high = torch.as_tensor(low), torch.as_tensor(high)

    def bind(self, problem: Problem) -> None:
        super().bind(problem)
        like = problem.whole.v_template
        self.low, self.high = self.low.to(like), self.high.to(like)
        size = problem.unknowns.sizes[self.unknown]
        for limit in (self.low, self.high):
            if limit.shape not in ((), (size,)):
                raise ValueError(
                    f"Limits: a limit of {self.unknown} has shape {list(limit.shape)}, expected one number or [{size}]"
                )
        if not bool((self.low <= self.high).all()):
            raise ValueError(f"Limits: low is above high for {self.unknown}, or one of them is NaN")

    def offsets(self, values: Tensor, state: State) -> Tensor:
        return values - values.clamp(self.low, self.high)

    def slopes(self, values: Tensor, state: State) -> Tensor:
        return ((values < self.low) | (values > self.high)).to(values)


# Radians about x, y and z of joints that bend one way: the open body's, and those of SMPL's families.
HINGES: Mapping[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "lowerleg01.L": ((-0.1, 2.6), (-0.4, 0.4), (-0.3, 0.3)),
    "lowerleg01.R": ((-0.1, 2.6), (-0.4, 0.4), (-0.3, 0.3)),
    "left_knee": ((-0.1, 2.6), (-0.4, 0.4), (-0.3, 0.3)),
    "right_knee": ((-0.1, 2.6), (-0.4, 0.4), (-0.3, 0.3)),
    "left_elbow": ((-1.6, 1.6), (-2.7, 0.1), (-0.6, 0.6)),
    "right_elbow": ((-1.6, 1.6), (-0.1, 2.7), (-0.6, 0.6)),
    "lowerarm01.L": ((-1.6, 1.6), (-2.7, 0.4), (-1.6, 1.6)),
    "lowerarm01.R": ((-1.6, 1.6), (-0.4, 2.7), (-1.6, 1.6)),
}


def joint_limits(body: Body, sigma: float = 0.05, widest: float = 2.6) -> Limits:
    """Knees and elbows bend one way, nothing but a root turns by more than `widest` about an axis."""
    low = torch.full((body.num_joints, 3), -widest)
    low[body.parents.cpu() < 0] = -torch.inf
    high = -low
    for name, limits in HINGES.items():
        if name in body.joint_names:
            low[body.joint(name)], high[body.joint(name)] = torch.tensor(limits).unbind(1)
    return Limits("pose", low.flatten(), high.flatten(), sigma=sigma, name="joint_limits")


def usual_priors(
    body: Body, unknowns: Iterable[str] = ("betas", "pose", "transl"), *, pose_sigma: float = 0.3, smooth: bool = False
) -> list[Term]:
    """What a fit to incomplete or noisy targets needs: usual shapes, small rotations, bounds; with `smooth`, motion."""
    unknowns = set(unknowns)
    terms: list[Term] = []
    if "betas" in unknowns:
        terms.append(Values("betas"))
    if "pose" in unknowns:
        free = (body.parents >= 0).to(body.v_template).repeat_interleave(3)[None]  # a root stands in any direction
        terms += [Values("pose", sigma=pose_sigma, confidence=free), joint_limits(body)]
    if "expression" in unknowns:
        named = bool(body.expression_names)  # face units go from 0 to 1
        terms.append(Values("expression", sigma=0.3 if named else 1.0))
        terms += [Limits("expression", 0.0, 1.0)] if named else []
    if smooth:
        terms += [Smooth(name, sigma=0.02) for name in ("pose", "transl") if name in unknowns]
    return terms


class Smooth(Term):
    """An unknown changes little from frame to frame of a sequence (`order` 1), or evenly (`order` 2).

    `sigma` is the usual difference. Frames of a sequence stand in their order.
    """

    couples = True

    def __init__(self, unknown: str, *, sigma: float, order: int = 2, name: str | None = None) -> None:
        super().__init__(sigma, None, None, name or f"Smooth:{unknown}")
        if order not in (1, 2):
            raise ValueError(f"Smooth: order is {order}, expected 1 or 2")
        self.unknown, self.order = unknown, order

    def bind(self, problem: Problem) -> None:
        if self.unknown not in problem.unknowns.slices:
            raise ValueError(f"Smooth: {self.unknown!r} is not among the unknowns of the problem")
        sequence = problem.unknowns.sequence
        if bool((sequence[1:] < sequence[:-1]).any()):
            raise ValueError("Smooth: sequence must ascend: the frames of a sequence stand together, in their order")
        place = torch.arange(len(sequence), device=sequence.device)
        starts = (place + self.order).clamp(max=len(sequence) - 1)
        inside = (sequence[starts] == sequence) & (place + self.order < len(sequence))
        self.inside = inside.to(problem.whole.v_template)[:, None]  # [B, 1], where a difference begins
        taps = [-1.0, 1.0] if self.order == 1 else [1.0, -2.0, 1.0]
        self.taps = taps

    def differences(self, values: Tensor) -> Tensor:
        """[B, n] -> [B, n], zero where a sequence ends."""
        padded = torch.nn.functional.pad(values, (0, 0, 0, self.order))
        return self.inside * self._tapped(padded, self.taps[::-1], len(values))

    def _tapped(self, padded: Tensor, taps: list[float], count: int) -> Tensor:
        """Sums of `count` neighbouring rows, the last one with the first tap."""
        parts = [tap * padded[self.order - i : self.order - i + count] for i, tap in enumerate(taps)]
        return torch.stack(parts).sum(0)

    def transposed(self, values: Tensor) -> Tensor:
        """The transpose of `differences`."""
        padded = torch.nn.functional.pad(self.inside * values, (0, 0, self.order, 0))
        return self._tapped(padded, self.taps, len(values))

    def residuals(self, state: State) -> Tensor:
        return self.differences(state.values[self.unknown])[..., None]

    def diagonal(self) -> Tensor:
        """Of its matrix over the frames, [B, 1]."""
        squares = torch.nn.functional.pad(self.inside, (0, 0, self.order, 0))
        made = sum(
            tap**2 * squares[self.order - i : self.order - i + len(self.inside)] for i, tap in enumerate(self.taps)
        )
        assert isinstance(made, Tensor)
        return made

    def curvature(self, state: State, columns: Columns) -> Tensor:
        """What it has within each frame; the solver adds what it has between frames."""
        full = torch.zeros_like(state.x)
        full[:, state.problem.unknowns.slices[self.unknown]] = self.diagonal()[state.rows] / self.sigma**2
        return torch.diag_embed(full[:, columns.every])
