"""What a call of the smallest operator costs, as a ratio to aten::mul on the same tensor through the same door."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

import avatorch


def microseconds(run: Callable[[], object], calls: int = 20_000) -> float:
    """The best of five rounds: what remains is the call itself."""
    for _ in range(1000):
        run()
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(calls // 5):
            run()
        best = min(best, time.perf_counter() - began)
    return best / (calls // 5) * 1e6


def main() -> None:
    """Prints a line for each device, without and with a graph."""
    for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        avatorch.warm_up(device)
        for grad in (False, True):
            r = torch.randn(4, 3, device=device, requires_grad=grad)
            ours = microseconds(lambda r=r: torch.ops.smplx.rodrigues(r))
            theirs = microseconds(lambda r=r: torch.ops.aten.mul(r, r))
            kind = f"{device} {'with' if grad else 'without'} a graph"
            print(f"{kind:20} rodrigues {ours:.2f} us, aten::mul {theirs:.2f} us, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
