"""Levenberg and Marquardt's method for many frames at once, each with its own damping and its own accepted steps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avatorch.fit import linear
from avatorch.fit.priors import Smooth
from avatorch.fit.problem import Problem
from avatorch.fit.schedule import Stage
from avatorch.fit.terms import columns_of


class LevenbergMarquardt:
    """Tens of steps. A step is taken where it lowers the cost; where it does not, the next one is shorter.

    `tolerance`: a frame rests when a step lowered its cost by less than this part, or could not lower it by more.
    """

    steps = (10, 20, 50)  # of a default schedule's stages

    def __init__(self, *, damping: float = 1e-3, tolerance: float = 1e-6) -> None:
        self.first_damping, self.tolerance = damping, tolerance

    def begin(self, problem: Problem, stage: Stage, x: Tensor, saved: Mapping[str, Tensor] | None = None) -> None:
        """Starts a stage at x [B, N], or goes on where `saved` was."""
        if "vertex_offsets" in problem.unknowns.slices:
            raise ValueError("LevenbergMarquardt: vertex_offsets are too many unknowns for it; take FirstOrder")
        self.problem, self.stage, self.x = problem, stage, x
        self.columns = columns_of(problem.unknowns, problem.unknowns.columns(stage.free))
        self.ties = [(term, stage.weights.get(term.name, 1.0)) for term in problem.terms if isinstance(term, Smooth)]
        groups = problem.unknowns.sequences if problem.together else problem.frames
        self.damping = torch.full((groups,), self.first_damping).to(x)  # [G]
        self.rests = torch.zeros(groups, dtype=torch.bool, device=x.device)  # [G]
        if saved:
            self.damping, self.rests = saved["damping"].to(x), saved["rests"].to(x.device).bool()
        self.costs, self.g, self.H = self._linearised(x)

    def step(self) -> None:
        """One step of every frame. Nothing here waits for the device."""
        problem, group = self.problem, self.problem.group
        moved = linear.step(problem.unknowns, self.columns.every, self.H, self.g, self.damping[group], self.ties)
        moved = torch.where(self.rests[group][:, None] | ~moved.isfinite(), 0, moved)
        promised = -0.5 * problem.grouped((self.g * moved).sum(1))  # what the step would gain were all linear
        trial = self.x.index_add(1, self.columns.every, moved)
        costs, g, H = self._linearised(trial)
        before, after = problem.grouped(self.costs), problem.grouped(costs)
        every = costs + g.sum(1) + H.flatten(1).sum(1)  # finite only if all of them are
        finite = problem.grouped((~every.isfinite()).to(costs)) == 0
        start_was_bad = ~before.isfinite()
        better = finite & ((after < before) | start_was_bad)  # [G]
        taken = better[group]
        self.x = torch.where(taken[:, None], trial, self.x)
        self.costs = torch.where(taken, costs, self.costs)
        self.g = torch.where(taken[:, None], g, self.g)
        self.H = torch.where(taken[:, None, None], H, self.H)
        # A whole step that fails says that there is nothing to gain; a short one, or none at all, says nothing.
        whole = (self.damping < 1) & (promised > 0)
        gained = torch.where(better, before - after, torch.where(whole, promised, before))
        self.rests = self.rests | (~start_was_bad & (gained <= self.tolerance * before)) | (self.damping > 1e6)
        self.damping = torch.where(better, self.damping * 0.2, self.damping * 8).clamp(1e-7, 1e8)

    def done(self) -> bool:
        """Whether every frame rests; waits for the device."""
        return bool(self.rests.all())

    def saved(self) -> dict[str, Tensor]:
        """What `begin` needs, besides x, to go on."""
        return {"damping": self.damping, "rests": self.rests.to(torch.uint8)}

    def _linearised(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Costs [B], their gradient [B, n] and the normal matrices [B, n, n]."""
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            state = self.problem.state(x, self.stage.widen)
            costs = self.problem.costs(state, self.stage.weights)
            (g,) = torch.autograd.grad(costs.sum(), x)
        with torch.no_grad():
            H = self.problem.normal_matrices(state, self.columns, self.stage.weights)
        return costs.detach(), g[:, self.columns.every], H
