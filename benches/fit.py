"""Fitting bodies to their own vertices and joints, beside smplfitter where it is installed: SMPL-X's sizes, invented
limbs, float32, one process. `python benches/fit.py [batch ...]` prints a Markdown table of times and mean errors;
`--profile` what the GPU is busy with at each batch.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benches")]

from timing import milliseconds  # noqa: E402

import avatorch  # noqa: E402
from avatorch import fit  # noqa: E402
from model import synthetic  # noqa: E402

Found = Callable[[], Tensor]  # vertices
STEPS = (1, 3, 6)  # of Levenberg-Marquardt
ROUNDS = (1, 3)  # of smplfitter


def ours(body: avatorch.Body, vertices: Tensor, joints: Tensor, steps: int) -> Found:
    terms = [fit.Joints(joints), fit.Vertices(vertices)]
    problem = fit.Problem(body, terms, frames=len(vertices))
    schedule = [fit.Stage(("betas", "pose", "transl"), steps)]
    return lambda: fit.solve(problem, schedule=schedule).posed().vertices


def smplfitter(folder: str, device: str, vertices: Tensor, joints: Tensor, rounds: int) -> Found:
    from smplfitter.pt import BodyFitter, BodyModel

    model = BodyModel("smplx", "neutral", model_root=folder, num_betas=10).to(device)
    fitter = BodyFitter(model).to(device)

    def run() -> Tensor:
        with torch.no_grad():
            found = fitter.fit(
                vertices, joints, num_iter=rounds, beta_regularizer=0.0, requested_keys=["pose_rotvecs", "shape_betas"]
            )
            return model(pose_rotvecs=found["pose_rotvecs"], shape_betas=found["shape_betas"], trans=found["trans"])[
                "vertices"
            ]

    return run


def print_profile(run: Found) -> None:
    """Where the time goes, by kernel and by operator."""
    run()
    with torch.profiler.profile(activities=[*torch.profiler.supported_activities()]) as profile:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    order = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(profile.key_averages().table(sort_by=order, row_limit=60))


def main() -> None:
    """Both programs return the vertices of what they found; that pass is part of the time."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    profile = "--profile" in sys.argv
    usual = [1, 32, 256, 1024, 4096] if device == "cuda" else [1, 4]
    batches = [int(word) for word in sys.argv[1:] if word != "--profile"] or usual
    avatorch.warm_up(device)
    torch.manual_seed(0)
    print(f"{torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}, torch {torch.__version__}\n")
    print("| bodies | program | ms | +- | bodies/s | mean error, mm |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        arrays = synthetic.smplx_with_limbs(seed=1, dtype=np.float32)
        np.save(Path(folder) / "kid_template.npy", arrays["v_template"])  # which smplfitter wants to see
        body = avatorch.Body.load(synthetic.save_npz(Path(folder) / "SMPLX_NEUTRAL.npz", arrays)).to(device)
        for batch in batches:
            random = {"betas": torch.randn(batch, 10), "pose": 0.15 * torch.randn(batch, 165)}
            with torch.no_grad():
                target = body(**{k: v.to(device) for k, v in random.items()}, transl=torch.randn(batch, 3).to(device))
            vertices, joints = target.vertices, target.joints
            del target
            if profile:
                print_profile(ours(body, vertices, joints, 3))
                continue
            programs = {f"avatorch, {steps} steps": ours(body, vertices, joints, steps) for steps in STEPS}
            if importlib.util.find_spec("smplfitter"):
                for rounds in ROUNDS:
                    name = f"smplfitter, {rounds} rounds"
                    programs[name] = smplfitter(folder, device, vertices, joints, rounds)
            for name, run in programs.items():
                median, spread = milliseconds(run, device, repeats=5)
                error = 1000 * (run() - vertices).norm(dim=-1).mean()
                print(f"| {batch} | {name} | {median:.1f} | {spread:.1f} | {1000 * batch / median:.0f} | {error:.5f} |")


if __name__ == "__main__":
    main()
