"""Any optimiser of torch as a solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from avatorch.fit.problem import Problem
from avatorch.fit.schedule import Stage


class FirstOrder:
    """FirstOrder(lambda x: torch.optim.Adam(x, lr=0.02)); LBFGS too. Keeps the best bodies it has seen.

    A frame whose gradient is not finite stays where it is for that step.
    """

    steps = (50, 100, 300)  # of a default schedule's stages

    def __init__(
        self, optimiser: Callable[[list[Tensor]], torch.optim.Optimizer] | None = None, *, decay: bool = True
    ) -> None:
        """`decay`: whether the learning rate falls to nothing within a stage, by a cosine."""
        self.make = optimiser or (lambda x: torch.optim.Adam(x, lr=0.02))
        self.decay = decay

    def begin(self, problem: Problem, stage: Stage, x: Tensor, saved: Mapping[str, Tensor] | None = None) -> None:
        """Starts a stage at x [B, N], or goes on where `saved` was."""
        unknowns = problem.unknowns
        self.problem, self.stage = problem, stage
        self.columns = unknowns.columns(stage.free)
        self.fixed = x.detach()
        self.shared = unknowns.shared[self.columns]
        first = torch.zeros(unknowns.sequences, dtype=torch.long, device=x.device)
        first = first.index_copy(0, unknowns.sequence.flip(0), torch.arange(len(x), device=x.device).flip(0))
        here = x.detach()[:, self.columns]
        self.own = here[:, ~self.shared].clone().requires_grad_()  # [B, ...]
        self.common = here[first][:, self.shared].clone().requires_grad_()  # [S, ...]
        self.optimiser = self.make([leaf for leaf in (self.own, self.common) if leaf.numel()] or [self.own])
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.taken = 0
        self.x, self.costs = x.detach(), x.new_full((problem.frames,), torch.inf)
        if saved:
            self._restore(saved)

    def step(self) -> None:
        """One step; what it starts from is weighed, so that the best is never lost."""
        if self.decay:
            part = min(self.taken / max(1, self.stage.steps), 1.0)
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * (0.01 + 0.99 * 0.5 * (1 + float(torch.cos(torch.tensor(torch.pi * part)))))
        self.optimiser.step(self._loss)  # type: ignore[arg-type]  # LBFGS wants a tensor too
        for leaf in (self.own, self.common):
            leaf.data.nan_to_num_()
        self.taken += 1
        if self.taken == self.stage.steps:
            with torch.no_grad():
                self._weigh(self._assembled())

    def _loss(self) -> Tensor:
        with torch.enable_grad():
            x = self._assembled()
            costs = self._weigh(x)
            loss = torch.where(costs.isfinite(), costs, 0).sum()
            leaves = [self.own, self.common]
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = torch.zeros_like(leaf) if gradient is None else gradient.nan_to_num(0, 0, 0)
        return loss.detach()

    def _assembled(self) -> Tensor:
        moving = self.own.new_zeros(len(self.own), len(self.columns))
        moving = moving.index_copy(1, (~self.shared).nonzero().flatten(), self.own)
        moving = moving.index_copy(1, self.shared.nonzero().flatten(), self.common[self.problem.unknowns.sequence])
        return self.fixed.index_copy(1, self.columns, moving)

    def _weigh(self, x: Tensor) -> Tensor:
        costs = self.problem.costs(self.problem.state(x, self.stage.widen), self.stage.weights)
        now, best = self.problem.grouped(costs.detach()), self.problem.grouped(self.costs)
        better = ((now < best) & now.isfinite())[self.problem.group]
        self.x = torch.where(better[:, None], x.detach(), self.x)
        self.costs = torch.where(better, costs.detach(), self.costs)
        return costs

    def done(self) -> bool:
        """Never before its steps are over."""
        return False

    def saved(self) -> dict[str, Tensor]:
        """What `begin` needs, besides x, to go on: where it is, and the optimiser's own state."""
        tensors = {"own": self.own.detach(), "common": self.common.detach(), "costs": self.costs}
        tensors["taken"] = torch.tensor(self.taken)
        for index, state in self.optimiser.state_dict()["state"].items():
            for key, value in state.items():
                name = f"state.{index}.{key}"
                if isinstance(value, list) and all(item is not None for item in value):  # as LBFGS has
                    tensors[f"{name}.length"] = torch.tensor(len(value))
                    tensors |= {f"{name}.{place}": torch.as_tensor(item) for place, item in enumerate(value)}
                elif value is not None and not isinstance(value, list):  # a list with None is room for results
                    tensors[name] = torch.as_tensor(value)
        return tensors

    def _restore(self, saved: Mapping[str, Tensor]) -> None:
        self.own.data.copy_(saved["own"])
        self.common.data.copy_(saved["common"])
        self.costs, self.taken = saved["costs"].to(self.x), int(saved["taken"])
        state: dict[int, dict[str, Any]] = {}
        for name, value in saved.items():
            if name.startswith("state."):
                _, index, key, *part = name.split(".")
                of_one = state.setdefault(int(index), {})
                if part == ["length"]:
                    of_one[key] = [saved[f"state.{index}.{key}.{place}"] for place in range(int(value))]
                elif not part:
                    of_one[key] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})
