"""Compiling every CUDA kernel ahead of use, to see registers and spills; needs the compiler, not a GPU."""

from __future__ import annotations

import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor

from avatorch import _native

ARCHITECTURES = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"]

_FUNCTION = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores")
_REGISTERS = re.compile(r"Used (\d+) registers")


def report(architectures: list[str]) -> int:
    """Prints registers and spilled bytes of each kernel per architecture; 1 if a float32 kernel spills."""
    spilling: list[str] = []
    used: dict[str, dict[str, str]] = {}
    # An architecture to each processor.
    workers = min(len(architectures), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        compiled = pool.map(_native.compile_kernels, architectures)
        for arch, files in zip(architectures, compiled, strict=True):
            for file, kernels, symbols, log in files:
                for symbol, (registers, spills) in _resources(log).items():
                    kernel = f"{file}: {kernels[symbols.index(symbol)]}"
                    used.setdefault(kernel, {})[arch] = f"{registers}" + (f" ({spills} B spilled)" if spills else "")
                    if spills and "double" not in kernel:
                        spilling.append(f"{kernel} on {arch}")
    print("registers a thread")
    print(f"{'kernel':60} " + " ".join(f"{arch:>8}" for arch in architectures))
    for kernel, by_arch in used.items():
        print(f"{kernel:60} " + " ".join(f"{by_arch.get(arch, '-'):>8}" for arch in architectures))
    for kernel in spilling:
        print(f"spills registers: {kernel}")
    return 1 if spilling else 0


def _resources(log: str) -> dict[str, tuple[int, int]]:
    """Symbol to (registers, bytes spilled), from what ptxas says."""
    found: dict[str, tuple[int, int]] = {}
    symbol, spills = "", 0
    for line in log.splitlines():
        if match := _FUNCTION.search(line):
            symbol, spills = match[1], 0
        elif match := _SPILLS.search(line):
            spills = int(match[1])
        if (match := _REGISTERS.search(line)) and symbol:
            found[symbol] = (int(match[1]), spills)
    return found
