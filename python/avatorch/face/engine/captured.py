"""A function of tensors on a GPU as one CUDA graph: launched once, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3  # libraries choose and load what they need in the first calls, which cannot be captured


class Branch:
    """In a graph that is being captured: work that runs beside what follows, until `join`. Elsewhere nothing changes.

    branch = Branch(device)
    with branch:
        one = ...
    other = ...  # at the same time
    branch.join()
    """

    def __init__(self, device: torch.device) -> None:
        capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        self._stream = torch.cuda.Stream(device) if capturing else None
        self._entered: Any = None

    def __enter__(self) -> None:
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
            self._entered = torch.cuda.stream(self._stream)
            self._entered.__enter__()

    def __exit__(self, *what: object) -> None:
        if self._entered is not None:
            self._entered.__exit__(*what)

    def join(self) -> None:
        """What follows comes after both."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)


class Captured:
    """Runs as it did for the tensors given first: same shapes, results in the same place each time."""

    def __init__(self, function: Callable[..., Any], given: Sequence[Tensor], pool: Any = None) -> None:
        self._given = [tensor.detach().clone() for tensor in given]
        device = self._given[0].device
        with torch.cuda.device(device), torch.no_grad():
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    function(*self._given)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._result = function(*self._given)

    @property
    def pool(self) -> Any:
        """Memory that graphs which never run at the same time may share."""
        return self._graph.pool()

    def __call__(self, *given: Tensor) -> Any:
        """The results are overwritten by the next call of any graph that shares memory with this one."""
        for place, tensor in zip(self._given, given, strict=True):
            if place is not tensor:
                place.copy_(tensor)
        self._graph.replay()
        return self._result
