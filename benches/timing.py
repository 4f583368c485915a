"""Times of a function on a device: warm, median and spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def milliseconds(run: Callable[[], object], device: str, repeats: int = 30) -> tuple[float, float]:
    """Median and median deviation of a call, after a warm-up."""
    for _ in range(5):
        run()
    times = [_one(run, device) for _ in range(repeats)]
    median = statistics.median(times)
    return median, statistics.median(abs(t - median) for t in times)


def _one(run: Callable[[], object], device: str) -> float:
    if device == "cpu":
        began = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - began)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)
