"""Runs a schedule with a solver: shows progress, keeps a checkpoint, goes on after an interruption."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from avatorch.fit import checkpoint as files
from avatorch.fit.initial import first_guess
from avatorch.fit.levenberg_marquardt import LevenbergMarquardt
from avatorch.fit.problem import Problem
from avatorch.fit.progress import Progress
from avatorch.fit.schedule import Stage, default_schedule
from avatorch.rig import Posed


class Solver(Protocol):
    """What `solve` asks of a solver: `LevenbergMarquardt`, `FirstOrder`, or your own."""

    steps: tuple[int, int, int]  # of a default schedule
    x: Tensor  # [B, N], the best bodies so far
    costs: Tensor  # [B]

    def begin(self, problem: Problem, stage: Stage, x: Tensor, saved: Mapping[str, Tensor] | None = None) -> None: ...
    def step(self) -> None: ...
    def done(self) -> bool: ...
    def saved(self) -> dict[str, Tensor]: ...


@dataclass
class Fit:
    """What was found."""

    problem: Problem
    x: Tensor
    """[B, N], all unknowns"""
    costs: Tensor
    """[B], what each frame still costs"""
    history: list[float]
    """the sum of the costs after each step that was looked at"""
    steps: int
    seconds: float

    @property
    def values(self) -> dict[str, Tensor]:
        """Unknowns and what was fixed, by name: `body(**fit.values)`; the camera apart."""
        found = {**self.problem.fixed, **self.problem.unknowns.split(self.x)}
        if "vertex_offsets" in found:
            found["vertex_offsets"] = found["vertex_offsets"].reshape(len(found["vertex_offsets"]), -1, 3)
        return {name: value for name, value in found.items() if name != "camera"}

    @property
    def camera(self) -> Tensor | None:
        """[B, 7 C], what the unknown `camera` became."""
        return self.problem.unknowns.split(self.x).get("camera")

    def posed(self) -> Posed:
        """The whole bodies."""
        with torch.no_grad():
            return self.problem.whole(**self.values)


def solve(
    problem: Problem,
    start: Mapping[str, Tensor] | None = None,
    *,
    solver: Solver | None = None,
    schedule: Sequence[Stage] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    watch: Callable[[Tensor], None] | None = None,
) -> Fit:
    """Minimises the problem, from `start` or from what the targets suggest.

    With a `checkpoint` file every step is kept there: the same call after an interruption goes on where it was, and
    the file remains when it is done. Frames that never become finite keep their start. `watch` is called with the
    unknowns [B, N] whenever the loss is looked at.
    """
    began = time.perf_counter()
    solver = solver or LevenbergMarquardt()
    stages = list(schedule if schedule is not None else default_schedule(problem, solver.steps))
    fingerprint = _fingerprint(problem, stages, solver) if checkpoint else ""
    x, first, taken, saved, history, costs = _begin(problem, start, stages, checkpoint, fingerprint)
    line = Progress(sum(stage.steps for stage in stages[first:]) - taken) if progress else None
    look_every = 1 if checkpoint or x.device.type == "cpu" else 5  # looking waits for the device
    total = 0
    for number in range(first, len(stages)):
        stage, title = stages[number], f"stage {number + 1}/{len(stages)}"
        try:
            solver.begin(problem, stage, x, saved)
        except KeyError as error:
            if saved is None:
                raise
            raise ValueError(f"{checkpoint}: this is no checkpoint of a fit: it has no {error}") from None
        saved, resumed, step = None, taken, taken
        while step < stage.steps:
            solver.step()
            step += 1
            total += 1
            if step % look_every and step < stage.steps:
                continue
            history.append(float(solver.costs.sum()))
            if watch:
                watch(solver.x)
            if checkpoint:
                _keep(checkpoint, fingerprint, solver, number, step, history)
            if line:
                line.count(step - resumed)
                line.step(title, step, stage.steps, history[-1])
            if solver.done():
                break
        x, costs, taken = solver.x, solver.costs, 0
        if line:
            line.stage(title, step - resumed, stage.steps - resumed, float(costs.sum()))
    return Fit(problem, x.detach(), costs, history, total, time.perf_counter() - began)


def _begin(
    problem: Problem,
    start: Mapping[str, Tensor] | None,
    stages: list[Stage],
    checkpoint: str | os.PathLike[str] | None,
    fingerprint: str,
) -> tuple[Tensor, int, int, dict[str, Tensor] | None, list[float], Tensor]:
    """Unknowns, the stage and its steps taken, what the solver saved, the history, and costs."""
    zeros = problem.body.v_template.new_zeros(problem.frames)
    if checkpoint and Path(checkpoint).exists():
        tensors, notes = files.load(checkpoint)
        if notes.get("problem") != fingerprint:
            raise ValueError(f"{checkpoint}: this checkpoint is of another fit; remove it to begin anew")
        try:
            x, history = tensors.pop("x").to(problem.body.v_template), tensors.pop("history")
            stage, step = notes["stage"], notes["step"]
        except KeyError as error:
            raise ValueError(f"{checkpoint}: this is no checkpoint of a fit: it has no {error}") from None
        stood = stage in map(str, range(len(stages))) and step in map(str, range(stages[int(stage)].steps + 1))
        if not stood or x.shape != (problem.frames, problem.unknowns.N) or history.ndim != 1:
            raise ValueError(
                f"{checkpoint}: this is no checkpoint of a fit: it stands at stage {stage[:20]}, step {step[:20]}, "
                f"with x {list(x.shape)} and history {list(history.shape)}"
            )
        if not bool(x.isfinite().all()):
            raise ValueError(f"{checkpoint}: this is no checkpoint of a fit: x holds numbers that are not finite")
        return x, int(stage), int(step), tensors, history.tolist(), tensors.get("costs", zeros)
    guess = first_guess(problem) if start is None else start
    x = problem.unknowns.join(guess)
    if not bool(x.isfinite().all()):
        raise ValueError("fit: the start holds numbers that are not finite")
    return x, 0, 0, None, [], zeros


def _keep(
    path: str | os.PathLike[str],
    fingerprint: str,
    solver: Solver,
    stage: int,
    step: int,
    history: list[float],
) -> None:
    tensors = {**solver.saved(), "x": solver.x, "history": torch.tensor(history, dtype=torch.float64)}
    notes = {"problem": fingerprint, "stage": str(stage), "step": str(step)}
    files.save(path, tensors, notes)


def _fingerprint(problem: Problem, stages: list[Stage], solver: Solver) -> str:
    """What must be the same for a checkpoint to fit: body, unknowns, what is fixed, terms, stages, solver."""
    digest = hashlib.sha256()

    def add(*things: object) -> None:
        for thing in things:
            if isinstance(thing, Tensor):
                digest.update(repr((thing.dtype, thing.shape)).encode())
                digest.update(thing.detach().cpu().contiguous().numpy().tobytes())
            else:
                digest.update(repr(thing).encode())

    unknowns, body = problem.unknowns, problem.whole
    add(type(solver).__name__, problem.frames, unknowns.slices, unknowns.shared, unknowns.sequence, stages)
    add(body.joint_names, body.v_template, *(part for item in sorted(problem.fixed.items()) for part in item))
    probe = torch.tensor([0.1, 1.0, 10.0, 100.0])
    for term in problem.terms:
        add(term.name, term.sigma, term.kernel.weight(probe) if term.kernel else None)
        camera = getattr(term, "camera", None)
        given = {**vars(term), **({} if camera is None else vars(camera))}
        add(*(part for item in given.items() if isinstance(item[1], Tensor) for part in item))
        chosen = getattr(term, "chosen", None)
        add(None if isinstance(chosen, Tensor) else chosen)
    return digest.hexdigest()
