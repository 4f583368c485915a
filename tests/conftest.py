"""Fixtures of every test: devices, and reproducible random numbers."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

# cuBLAS looks once, at its first product: without it torch's deterministic mode refuses to multiply.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch
import torch._inductor.config

import avatorch

# A graph compiled for an earlier schema of the operators must not be found again.
torch._inductor.config.force_disable_caches = True

# What `avatorch serve` needs has no packages for Python 3.10.
collect_ignore = [] if importlib.util.find_spec("fastapi") else ["serve"]

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
    ),
]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    avatorch.warm_up(request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    torch.manual_seed(20)
    yield
    torch._dynamo.reset()
