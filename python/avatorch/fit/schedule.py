"""Stages: what moves when, for how many steps, with which terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from avatorch.fit.problem import Problem


@dataclass(frozen=True)
class Stage:
    """`free` names unknowns, `"root"`, or joints as `"pose:left_knee,right_knee"`; the rest stands still."""

    free: Sequence[str]
    steps: int
    weights: Mapping[str, float] = field(default_factory=dict)
    """Factors of terms by their names; 0 leaves one out."""
    widen: float = 1.0
    """Robust kernels are wider by this, so that what is far away still pulls."""

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.widen > 0:
            raise ValueError(
                f"Stage: steps is {self.steps} and widen {self.widen}, expected 0 or more, and more than 0"
            )


def default_schedule(problem: Problem, steps: Sequence[int]) -> list[Stage]:
    """First where the body stands, then how, then everything, with robust kernels that narrow down.

    `steps` of the three; without robust terms, what would be done twice is left out.
    """
    unknowns = problem.unknowns.sizes
    place = [name for name in ("transl", "root") if name in unknowns or (name == "root" and "pose" in unknowns)]
    stance = [name for name in ("betas", "pose", "transl", "camera") if name in unknowns]
    # While far points still pull, bodies are kept plain: shape and rotations are for what remains.
    plain, plainer = ({"Values:pose": factor, "Values:betas": factor} for factor in (5.0, 30.0))
    stages = [Stage(place, steps[0], widen=30.0), Stage(stance, steps[1], plainer, widen=15.0)]
    stages += [Stage(list(unknowns), steps[1], plain, widen=5.0), Stage(list(unknowns), steps[2])]
    if all(term.kernel is None for term in problem.terms):
        stages = [Stage(stage.free, stage.steps) for stage in stages]
    stages = [stage for stage in stages if stage.free]
    return [stage for stage, after in zip(stages, [*stages[1:], None], strict=True) if not _same(stage, after)]


def _same(stage: Stage, after: Stage | None) -> bool:
    return after is not None and set(stage.free) == set(after.free) and stage.widen == after.widen
