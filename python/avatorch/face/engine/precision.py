"""How finely the engine computes: types of the large products, and what is allowed inside them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from avatorch.face.errors import FaceError

_lock = threading.RLock()


@dataclass(frozen=True)
class Precision:
    """The speech network is computed in `speech`, everything behind it in `rest`."""

    name: str
    speech: torch.dtype
    rest: torch.dtype
    tf32: bool  # whether products of float32 may round their factors to TF32


PRECISIONS = {
    name: Precision(name, speech, rest, tf32)
    for name, speech, rest, tf32 in (
        ("float64", torch.float64, torch.float64, False),
        ("float32", torch.float32, torch.float32, False),
        ("tf32", torch.float32, torch.float32, True),
        ("float16", torch.float16, torch.float32, True),
        ("bfloat16", torch.bfloat16, torch.float32, True),
    )
}


def precision_of(name: str) -> Precision:
    """By its name."""
    if name not in PRECISIONS:
        raise FaceError("eInvalidValue", f"precision is {name!r}, expected one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


@contextmanager
def computing(precision: Precision) -> Iterator[None]:
    """Products round as the precision says, whatever autocast or the process is set to otherwise.

    The settings are of the whole process: threads take turns to launch, where there is a GPU.
    """
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if not torch.cuda.is_initialized():
            yield
            return
        stack.enter_context(_lock)
        yield from _set(precision)


def _set(precision: Precision) -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    switches = [_switch(matmul, (matmul,)), _switch(cudnn, (cudnn.rnn, cudnn.conv))]  # type: ignore[attr-defined]
    before = [switch.get() for switch in switches]
    reduced = matmul.allow_fp16_reduced_precision_reduction
    for switch in switches:
        switch.allow(precision.tf32)
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        for switch, state in zip(switches, before, strict=True):
            switch.set(state)
        matmul.allow_fp16_reduced_precision_reduction = reduced


@dataclass
class _Attributes:
    """Settings of torch that are read and written together."""

    owners: tuple[Any, ...]
    name: str
    values: tuple[Any, Any]  # without and with TF32

    def get(self) -> list[Any]:
        return [getattr(owner, self.name) for owner in self.owners]

    def set(self, state: list[Any]) -> None:
        for owner, value in zip(self.owners, state, strict=True):
            setattr(owner, self.name, value)

    def allow(self, tf32: bool) -> None:
        self.set([self.values[tf32]] * len(self.owners))


def _switch(old: Any, new: tuple[Any, ...]) -> _Attributes:
    """torch has two ways to allow TF32, and refuses to read the old one once the new one was used."""
    try:
        _ = old.allow_tf32
    except RuntimeError:
        return _Attributes(new, "fp32_precision", ("ieee", "tf32"))
    return _Attributes((old,), "allow_tf32", (False, True))
