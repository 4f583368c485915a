"""A line that says how a fit goes."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class Progress:
    """Rewrites one line of a terminal; elsewhere it prints a line when a stage ends."""

    def __init__(self, total_steps: int, stream: TextIO | None = None) -> None:
        self.total, self.stream = total_steps, stream or sys.stderr
        self.live = self.stream.isatty()
        self.began, self.done = time.perf_counter(), 0

    def step(self, stage: str, step: int, steps: int, loss: float) -> None:
        """After each look at the loss; `step` of `steps` in this stage."""
        if self.live:
            self.stream.write(f"\r{stage}  step {step:3}/{steps}  loss {loss:11.5g}  {self._left()} left\x1b[K")
            self.stream.flush()

    def stage(self, stage: str, steps: int, planned: int, loss: float) -> None:
        """When a stage ends after `steps` of `planned`; what it saved will not be waited for."""
        self.total -= planned - steps
        self.done += steps
        seconds = time.perf_counter() - self.began
        start = "\r" if self.live else ""
        end = "\x1b[K" if self.live else ""
        self.stream.write(f"{start}{stage}  {steps:3} steps  loss {loss:11.5g}  {seconds:.1f} s{end}\n")
        self.stream.flush()

    def count(self, steps: int) -> None:
        """Of the stage that runs."""
        self.now = self.done + steps

    def _left(self) -> str:
        seconds = (time.perf_counter() - self.began) / max(1, self.now) * (self.total - self.now)
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
