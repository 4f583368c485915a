"""Fits the open body to noisy markers by gradient descent, and draws target, start and result into out/."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import avatorch
from avatorch.export.render import look_at, render, write_png

STEPS = 250
MARKERS = 400  # vertices that are seen
NOISE = 0.003  # metres


def main() -> None:
    """Makes a target, fits it, writes out/fit.png and out/fit.obj."""
    torch.manual_seed(4)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    avatorch.warm_up(device)
    body = avatorch.open_body().to(device)
    target = body(**random_person(body))
    seen = torch.randperm(len(body.v_template), device=device)[:MARKERS]
    markers = target.vertices[:, seen] + NOISE * torch.randn(1, MARKERS, 3, device=device)

    unknown = {
        "betas": torch.zeros(1, body.num_betas, device=device, requires_grad=True),
        "expression": torch.zeros(1, body.num_expressions, device=device, requires_grad=True),
        "pose": torch.zeros(1, 3 * body.num_joints, device=device, requires_grad=True),
        "transl": torch.zeros(1, 3, device=device, requires_grad=True),
    }
    optimiser = torch.optim.Adam(unknown.values(), lr=0.04)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    began = time.perf_counter()
    for step in range(STEPS + 1):
        fitted = body(**unknown)
        loss = (fitted.vertices[:, seen] - markers).square().sum(-1).mean()
        prior = 2e-6 * sum(x.square().sum() for x in (unknown["betas"], unknown["expression"], 30 * unknown["pose"]))
        optimiser.zero_grad()
        (loss + prior).backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step:3}   markers {1000 * loss.sqrt():6.2f} mm   {error(fitted.vertices, target.vertices)}")
    seconds = time.perf_counter() - began
    print(f"{STEPS} steps on {device} in {seconds:.1f} s, {1000 * seconds / STEPS:.1f} ms a step")
    draw(body, [target.vertices, body().vertices, fitted.vertices])


def random_person(body: avatorch.Body) -> dict[str, Tensor]:
    """A plausible shape, a bent pose and a moving face."""
    like = body.v_template
    return {
        "betas": torch.randn(1, body.num_betas).to(like),
        "expression": torch.rand(1, body.num_expressions).square().mul(0.5).to(like),
        "pose": (0.12 * torch.randn(1, 3 * body.num_joints)).to(like),
        "transl": torch.tensor([[0.1, 0.05, -0.2]]).to(like),
    }


def error(found: Tensor, target: Tensor) -> str:
    """The mean distance of all vertices, seen or not."""
    return f"all vertices {1000 * (found - target).norm(dim=-1).mean():6.2f} mm"


@torch.no_grad()
def draw(body: avatorch.Body, meshes: list[Tensor]) -> None:
    """Target, start and result side by side, and the result as a mesh file."""
    out = Path("out")
    out.mkdir(exist_ok=True)
    faces = body.faces.cpu().numpy()
    camera = look_at(np.array([0.4, 0.1, 4.0]), np.array([0.0, -0.1, 0.0]), 2.1)
    clay = np.tile([0.75, 0.62, 0.55], (len(body.v_template), 1))
    pictures = [render(mesh[0].cpu().double().numpy(), faces, clay, camera, (360, 640)) for mesh in meshes]
    write_png(out / "fit.png", np.concatenate(pictures, 1))
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in meshes[-1][0].tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist()]
    (out / "fit.obj").write_text("\n".join(lines) + "\n")
    print("wrote out/fit.png (target, start, result) and out/fit.obj")


if __name__ == "__main__":
    main()
