"""How finely the engine computes: types of the large products, and what is allowed inside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from avatorch.face.errors import FaceError


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
    """Products on a GPU round as the precision says, whatever the process is set to otherwise."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, matmul.allow_fp16_reduced_precision_reduction
    matmul.allow_tf32 = cudnn.allow_tf32 = precision.tf32
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, matmul.allow_fp16_reduced_precision_reduction = before
