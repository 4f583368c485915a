"""The body operator beside what people run: SMPL-X's sizes, random data, float32, one process.

    python benches/body.py 1 32 --compiled --json body.json

prints a Markdown table: times of a forward pass and of a forward and backward pass (to shape, pose and translation),
what part of them the hardware's floor is (on a CPU the product of the pose directions by torch's BLAS, which can be
beaten), memory beside the model, and beside every speed the error of the vertices against float64. Last the rate of
joints without mesh.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benches")]

from programs import BETAS, Program, all_programs, model_tensors, save_model  # noqa: E402
from timing import milliseconds  # noqa: E402

import avatorch  # noqa: E402
from avatorch import reference  # noqa: E402

# Measured on an H200: a copy's bandwidth in bytes a second, half-precision products with float32 sums in operations.
BANDWIDTH, TENSOR_CORES = 4.27e12, 763e12
POSE_DIRECTIONS = 486 * 31425
JOINTS_ALONE = 65536


def random_inputs(batch: int, device: str) -> list[Tensor]:
    """Shape [B, 20], pose [B, 165], translation [B, 3]."""
    g = torch.Generator().manual_seed(3)
    sizes = ((20, 1.0), (165, 0.6), (3, 1.0))
    return [(scale * torch.randn(batch, size, generator=g)).to(device) for size, scale in sizes]


def floors(batch: int, device: str, of_halves: int) -> tuple[float, float] | None:
    """The least milliseconds of a forward pass, and of both: known bytes, and so many known products of halves.

    On a CPU nothing is known, and torch's BLAS stands in.
    """
    if device == "cpu":
        features, directions = torch.randn(batch, 486), torch.randn(486, 31425)
        product = milliseconds(lambda: features @ directions, device)[0]
        return product, 2 * product
    if "H200" not in torch.cuda.get_device_name():
        return None
    products = batch * of_halves * 2 * POSE_DIRECTIONS / TENSOR_CORES
    directions = (4 if of_halves == 3 else 2) * POSE_DIRECTIONS / BANDWIDTH
    vertices = batch * 4 * 31425 / BANDWIDTH
    return 1000 * max(products, directions, vertices), 1000 * max(2 * products, 2 * directions, 6 * vertices)


def measured_if_it_fits(program: Program, batch: int, device: str, exact: dict[str, Tensor]) -> dict[str, Any]:
    """As `measured`; nothing known of a program that the GPU's memory is too small for."""
    try:
        return measured(program, batch, device, exact)
    except torch.OutOfMemoryError:
        return {"forward": None, "both": None, "peak_mib": None, "error_um": None}
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()


def measured(program: Program, batch: int, device: str, exact: dict[str, Tensor]) -> dict[str, Any]:
    """Milliseconds (median, deviation), peak memory and error of one program."""
    others = torch.cuda.memory_allocated() if device == "cuda" else 0  # models, its own too
    inputs = random_inputs(batch, device)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]

    def forward() -> Tensor:
        with torch.no_grad():
            return program.run(*inputs)

    def both() -> None:
        torch.autograd.grad(program.run(*leaves), leaves, cotangent)

    with program.setting():
        vertices = forward()
        cotangent, vertices = torch.randn_like(vertices), vertices[:8].double()
        alone = milliseconds(captured(forward) if program.captured else forward, device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        together = milliseconds(captured(both) if program.captured else both, device)
    peak = (torch.cuda.max_memory_allocated() - others) / 2**20 if device == "cuda" else None
    some = [tensor[:8].double() for tensor in inputs]
    if not program.takes_expressions:
        some[0][:, BETAS:] = 0
    error = (vertices - reference.forward(*some, **exact).vertices).abs().max()
    return {"forward": alone, "both": together, "peak_mib": peak, "error_um": 1e6 * error.item()}


def captured(run: Callable[[], object]) -> Callable[[], object]:
    """The same work as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def joints_a_second(path: Path, device: str) -> float:
    """Of a batch, without a mesh."""
    skeleton = avatorch.Body.load(path).to(device).subset([])
    shape, pose, transl = random_inputs(JOINTS_ALONE if device == "cuda" else 1024, device)
    arguments = {"betas": shape[:, :BETAS], "expression": shape[:, BETAS:], "pose": pose, "transl": transl}
    with torch.no_grad():
        return 1000 * len(pose) / milliseconds(lambda: skeleton(**arguments, intermediates=False), device)[0]


def main() -> None:
    """Prints the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "batches", type=int, nargs="*", default=[1, 32, 256, 1024, 4096] if device == "cuda" else [1, 32]
    )
    parser.add_argument(
        "--compiled", action="store_true", help="the expert's and smplfitter's programs compiled; minutes"
    )
    # Not `--only`: torch's compiler reads that from any program's arguments, and puts it into the code that it writes.
    parser.add_argument(
        "--programs", nargs="+", default=[], help="those whose names contain one of these; smplx always"
    )
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    given = parser.parse_args()
    avatorch.warm_up(device)
    torch._dynamo.config.recompile_limit = 64  # a program is compiled for each batch, with gradients and without
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, float32, SMPL-X sizes, 20 coefficients; ms, median (spread)\n")
    print("| bodies | program | forward | forward + backward | floor | bodies/s | MiB | error um | against smplx |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = save_model(Path(folder))
        exact = model_tensors(path, torch.float64, device)
        programs = all_programs(path, device, given.compiled)
        wanted = [
            n for n in programs if n == "smplx" or not given.programs or any(part in n for part in given.programs)
        ]
        for batch in given.batches:
            found = {n: measured_if_it_fits(programs[n], batch, device, exact) for n in wanted}
            last = found[wanted[-1]]
            floor = {products: floors(batch, device, products) for products in {programs[n].products for n in wanted}}
            for program, row in found.items():
                rows.append({"bodies": batch, "program": program, **row, "floor": floor[programs[program].products]})
                print(as_line(rows[-1], last), flush=True)
        rate = joints_a_second(path, device)
    print(f"\nJoints without a mesh: {rate:,.0f} bodies/s")
    if given.json:
        given.json.write_text(json.dumps({"device": name, "rows": rows, "joints_a_second": rate}, indent=1))


def as_line(row: dict[str, Any], last: dict[str, Any]) -> str:
    """Of the Markdown table."""
    cells = [row["bodies"], row["program"]]
    if not row["forward"]:
        return "| " + " | ".join([*map(str, cells), *("out of memory",) * 2, *("-",) * 5]) + " |"
    times = [row["forward"], row["both"]]
    floor = " / ".join(f"{f / t[0]:.0%}" for f, t in zip(row["floor"], times, strict=True)) if row["floor"] else "-"
    ratios = " / ".join(f"{last[k][0] / row[k][0]:.1f}" for k in ("forward", "both")) if last["forward"] else "-"
    peak = "-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
    cells += [
        *(f"{t[0]:.3f} ({t[1]:.3f})" for t in times), floor,
        f"{1000 * row['bodies'] / times[0][0]:,.0f}", peak, f"{row['error_um']:.2f}", ratios,
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
