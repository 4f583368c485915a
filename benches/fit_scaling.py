"""How fits scale over devices: the same sequences by `avatorch fit`, with 1, 2, ... processes, one for each GPU.

python benches/fit_scaling.py [--processes 1 2] [--sequences 8] [--frames 64] prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import avatorch


def main() -> None:
    """Each row runs in a fresh folder; starting Python is part of the time, and a row of no work says how much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--frames", type=int, default=64)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        targets = write_targets(Path(folder), given.sequences, given.frames)
        print(f"{given.sequences} sequences of {given.frames} frames\n")
        print("| processes | s | s without starting | times as fast |\n|---|---|---|---|")
        first = None
        for processes in given.processes:
            out = Path(folder) / f"out{processes}"
            whole = seconds(processes, targets, out)
            starting = seconds(processes, targets, out)  # everything is there already
            work = whole - starting
            first = first or work
            print(f"| {processes} | {whole:.1f} | {work:.1f} | {first / work:.2f} |", flush=True)


def write_targets(folder: Path, sequences: int, frames: int) -> list[Path]:
    """Whole meshes of people who bend."""
    torch.manual_seed(0)
    body = avatorch.open_body()
    paths = []
    for index in range(sequences):
        part = torch.linspace(0, 1, frames)[:, None]
        pose = part * 0.2 * torch.randn(1, 3 * body.num_joints)
        with torch.no_grad():
            posed = body(betas=torch.randn(1, body.num_betas), pose=pose)
        chosen = torch.arange(0, 13348, 20)
        paths.append(folder / f"sequence{index}.npz")
        np.savez(paths[-1], vertices=posed.vertices[:, chosen].numpy(), vertex_index=chosen.numpy())
    return paths


def seconds(processes: int, targets: list[Path], out: Path) -> float:
    """Of one run of the command."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
        "-m", "avatorch.cli", "fit", *map(str, targets), "--out", str(out),
    ]  # fmt: skip
    began = time.perf_counter()
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)), **os.environ}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
