"""The body operator beside the same formula in eager PyTorch, and beside `smplx` where it is installed: SMPL-X's sizes,
random data, float32, one process. `python benches/body.py [batch ...]` prints a Markdown table.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "body"), str(ROOT / "benches")]

from timing import milliseconds  # noqa: E402

import avatorch  # noqa: E402
from avatorch import reference  # noqa: E402
from rigs import Rig, rig  # noqa: E402

Vertices = Callable[[dict[str, Tensor]], Tensor]


def ours(model: Rig) -> Vertices:
    prepared = model.prepared()

    def run(inputs: dict[str, Tensor]) -> Tensor:
        return torch.ops.smplx.forward(
            *inputs.values(), model.v_template, model.shapedirs, model.posedirs, model.J_regressor, model.parents,
            model.lbs_weights, prepared=prepared,
            intermediates=torch.is_grad_enabled(),  # kept where a backward pass follows
        )[0]  # fmt: skip

    return run


def eager(model: Rig) -> Vertices:
    def run(inputs: dict[str, Tensor]) -> Tensor:
        return reference.forward(
            *inputs.values(), model.v_template, model.shapedirs, model.posedirs, model.parents, model.lbs_weights,
            J_regressor=model.J_regressor,
        ).vertices  # fmt: skip

    return run


def smplx_package(device: str) -> Vertices:
    import smplx

    from model import synthetic

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "SMPLX_NEUTRAL.npz"
        synthetic.save_npz(file, synthetic.smplx(seed=1))
        module = smplx.create(
            str(file), "smplx", use_pca=False, flat_hand_mean=True, num_betas=10, num_expression_coeffs=10
        ).to(device)
    sizes = {"global_orient": 3, "body_pose": 63, "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3, "left_hand_pose": 45}

    def run(inputs: dict[str, Tensor]) -> Tensor:
        shape, pose = inputs["shape_coefficients"], inputs["pose"]
        parts = pose.split([*sizes.values(), 45], 1)
        given = dict(zip([*sizes, "right_hand_pose"], parts, strict=True))
        return module(betas=shape[:, :10], expression=shape[:, 10:], transl=inputs["transl"], **given).vertices

    return run


def main() -> None:
    """Forward, and forward with backward to shape, pose and translation."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches = [int(word) for word in sys.argv[1:]] or ([1, 32, 256, 1024, 4096] if device == "cuda" else [1, 32])
    avatorch.warm_up(device)
    model = rig(10475, 55, 20, 4).to(device, torch.float32)
    programs = {"avatorch": ours(model), "eager PyTorch": eager(model)}
    if importlib.util.find_spec("smplx"):
        programs["smplx"] = smplx_package(device)
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, float32, SMPL-X sizes, 20 coefficients; ms, median (spread)\n")
    print("| bodies | program | forward | forward + backward | peak MiB | times as fast as the last row |")
    print("|---|---|---|---|---|---|")
    for batch in batches:
        rows = []
        for program, run in programs.items():
            inputs = {key: tensor.requires_grad_() for key, tensor in model.inputs(batch).items()}
            rows.append((program, *measure(run, inputs, device)))
        for program, forward, both, peak in rows:
            last = rows[-1]
            times = f"{forward[0]:.3f} ({forward[1]:.3f}) | {both[0]:.3f} ({both[1]:.3f})"
            print(
                f"| {batch} | {program} | {times} | {peak:.0f} "
                f"| {last[1][0] / forward[0]:.1f} / {last[2][0] / both[0]:.1f} |",
                flush=True,
            )


def measure(
    run: Vertices, inputs: dict[str, Tensor], device: str
) -> tuple[tuple[float, float], tuple[float, float], float]:
    cotangent = torch.randn_like(run(inputs))

    def forward() -> None:
        with torch.no_grad():
            run(inputs)

    def both() -> None:
        torch.autograd.grad(run(inputs), list(inputs.values()), cotangent)

    alone = milliseconds(forward, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    together = milliseconds(both, device)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0
    return alone, together, peak


if __name__ == "__main__":
    main()
