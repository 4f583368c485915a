"""Where the time of a call goes: stages by the host's clock, and by events on a GPU.

A GPU works behind the host. What the host spends on a stage counts only as far as the GPU waits for it: then the GPU's
time of that stage is as long. Where the GPU's is longer, the host is ahead.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

REST = "everything else"


class Operators(TorchDispatchMode):
    """Counts what torch is asked to do; a CUDA graph is no operator."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


class Stages:
    """While it is entered, some methods are stages; one that calls another is interrupted by it.

    with Stages({(Executor, "execute"): "executor"}, device) as stages:
        face(clip)
    stages.milliseconds()  # of each stage: the host's and the GPU's
    """

    def __init__(self, methods: Mapping[tuple[type, str], str], device: torch.device) -> None:
        """A name that begins with a colon is appended to that of the stage around it."""
        self._methods, self._cuda = methods, device.type == "cuda"
        self._marks: list[tuple[str, float, torch.cuda.Event | None]] = []
        self._current = [REST]
        self._before: list[tuple[type, str, Any]] = []

    def __enter__(self) -> Stages:
        for (owner, name), stage in self._methods.items():
            self._before.append((owner, name, owner.__dict__[name]))
            setattr(owner, name, self._staged(owner.__dict__[name], stage))
        self._mark()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._mark()
        for owner, name, method in self._before:
            setattr(owner, name, method)

    def _staged(self, method: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*given: Any, **options: Any) -> Any:
            self._current.append(self._current[-1] + stage if stage.startswith(":") else stage)
            self._mark()
            try:
                return method(*given, **options)
            finally:
                self._current.pop()
                self._mark()

        return run

    def _mark(self) -> None:
        event = torch.cuda.Event(enable_timing=True) if self._cuda else None
        if event is not None:
            event.record()
        self._marks.append((self._current[-1], time.perf_counter(), event))

    def milliseconds(self) -> dict[str, tuple[float, float]]:
        """Of each stage, the host's and the GPU's, which waits sometimes."""
        if self._cuda:
            torch.cuda.synchronize()
        found: dict[str, tuple[float, float]] = {}
        for (stage, begin, event), (_, end, following) in zip(self._marks, self._marks[1:], strict=False):
            on_gpu = event.elapsed_time(following) if event is not None and following is not None else 0.0
            host, gpu = found.get(stage, (0.0, 0.0))
            found[stage] = host + 1000 * (end - begin), gpu + on_gpu
        return found


def print_stages(
    run: Callable[[], object], methods: Mapping[tuple[type, str], str], device: torch.device, repeats: int = 20
) -> None:
    """Median times of the stages of a call, warm."""
    for _ in range(3):
        run()
    seen: list[dict[str, tuple[float, float]]] = []
    for _ in range(repeats if device.type == "cuda" else 3):
        if device.type == "cuda":
            torch.cuda.synchronize()
        with Stages(methods, device) as stages:
            run()
        seen.append(stages.milliseconds())
    with Operators() as operators:
        run()
    print(f"| stage, of {operators.count} operators in all | host, ms | GPU, ms |\n|---|---|---|")
    names = dict.fromkeys(name for times in seen for name in times)
    for name in names:
        host, gpu = (statistics.median(times.get(name, (0.0, 0.0))[which] for times in seen) for which in range(2))
        print(f"| {name} | {host:.3f} | {f'{gpu:.3f}' if device.type == 'cuda' else ''} |")
    whole = Tensor([[sum(pair[which] for pair in times.values()) for which in range(2)] for times in seen]).median(0)
    host, gpu = whole.values.tolist()
    print(f"| whole | {host:.3f} | {f'{gpu:.3f}' if device.type == 'cuda' else ''} |", flush=True)
