"""How fast are bodies here, beside what people run today? Prints the table and draws it, ours against smplx.

    python examples/benchmark_performance.py [--batches 1 32 256] [--compiled] [--out out]

Runs on the GPU where there is one, else on the CPU. The picture needs matplotlib; smplx, smplfitter and body-models are
compared where they are installed, eager PyTorch everywhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARK = Path(__file__).parent.parent / "benches" / "body.py"
PICTURE = "smplx_forward_benchmark.png"


def main() -> None:
    """Measures in a process of its own, so that nothing else is in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--batches", nargs="+", default=[], help="bodies at once; default: those of the benchmark")
    parser.add_argument("--compiled", action="store_true", help="rivals compiled too; minutes")
    parser.add_argument("--out", type=Path, default=Path("out"), help="a folder")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    numbers = given.out / "smplx_forward_benchmark.json"
    options = ["--compiled"] if given.compiled else []
    subprocess.run([sys.executable, BENCHMARK, *given.batches, *options, "--json", numbers], check=True)
    print(f"wrote {numbers}")
    try:
        draw(json.loads(numbers.read_text()), given.out / PICTURE)
    except ModuleNotFoundError as error:
        print(f"no picture: {error}; pip install matplotlib")
    else:
        print(f"wrote {given.out / PICTURE}")


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Milliseconds against bodies, both logarithmic: a line for each program, the floor below them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5), sharey=True)
    programs = list(dict.fromkeys(row["program"] for row in numbers["rows"]))
    for kind, (axis, title) in enumerate(zip(axes, ("forward", "forward and backward"), strict=True)):
        for program in programs:
            rows = [row for row in numbers["rows"] if row["program"] == program]
            times = [row["both" if kind else "forward"][0] for row in rows]
            width = 2.5 if program.startswith("avatorch") else 1.2
            axis.loglog([row["bodies"] for row in rows], times, marker="o", label=program, linewidth=width)
        floors = {row["bodies"]: row["floor"][kind] for row in numbers["rows"] if row["floor"]}
        if floors:
            blas = numbers["device"].startswith("CPU")
            label = "the pose directions alone, by torch's BLAS" if blas else "the hardware's floor"
            axis.loglog(list(floors), list(floors.values()), "k--", label=label)
        axis.set(title=title, xlabel="bodies")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("milliseconds")
    axes[1].legend(fontsize=8)
    figure.suptitle(f"SMPL-X in float32 on {numbers['device']}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
