"""Faces from speech but for the network: solver and animators alone, then everything with a bundle.

    python benches/face_parts.py [--device cuda] [--bundle DIRECTORY] [--tracks 1 64 1000]

The solver is measured on systems of the published size, 43 poses of 10 085 vertices, beside scipy's `lsq_linear`,
which solves one frame after another on the CPU, and four steps of ADMM in torch, which do not arrive. Each line has the
distance to scipy's result. With --bundle, a folder with model.json, ten seconds of noise go through all of it.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import torch
from scipy.optimize import lsq_linear
from timing import milliseconds
from torch import Tensor

from avatorch.face import Audio2Face, read_bundle
from avatorch.face.animators import EyesAnimator, JawAnimator, SkinAnimator, TongueAnimator
from avatorch.face.parameters import AnimatorParameters
from avatorch.face.solver import admm

POSES, LOOKED_AT, VERTICES, TONGUE = 43, 10_085, 61_520, 5_602
BY_SCIPY = 20  # frames


def system() -> tuple[Tensor, Tensor]:
    """A [K, K] and right-hand sides [1000, K] of poses that overlap, a third of whose weights end at a bound."""
    generator = torch.Generator().manual_seed(0)
    deltas = torch.randn(3 * LOOKED_AT, POSES, generator=generator, dtype=torch.float64)
    deltas = deltas @ (torch.eye(POSES) + 0.1 * torch.randn(POSES, POSES, generator=generator)).double()
    normal = deltas.mT @ deltas + 2.0 * torch.eye(POSES)
    weights = 0.45 * torch.randn(1000, POSES, generator=generator, dtype=torch.float64) + 0.4
    return normal, weights @ normal


def solvers(device: str, tracks: list[int]) -> None:
    normal, all_rhs = system()
    began = time.perf_counter()
    expected = np.stack([lsq_linear(normal.numpy(), b.numpy(), (0, 1), "bvls").x for b in all_rhs[:BY_SCIPY]])
    by_scipy = 1e6 * (time.perf_counter() - began) / BY_SCIPY
    print(f"{'scipy lsq_linear, on the CPU':34} {by_scipy:10.1f} us a frame and track")
    normal = normal.to(device)[None]
    none = torch.zeros(0, 2, dtype=torch.int64, device=device)
    upper = torch.ones(POSES, dtype=torch.float64, device=device)
    for count in tracks:
        for frames in (1, 30):
            rhs = all_rhs.repeat(-(-count // len(all_rhs)), 1)[:count, None].expand(-1, frames, -1).to(device)
            rhs = rhs.contiguous()
            last, temporal = torch.zeros_like(rhs[:, 0]), torch.zeros_like(rhs[:, 0, 0])
            ways = {
                "audio2face::solve": lambda: torch.ops.audio2face.solve(normal, rhs, last, temporal, upper, none),  # noqa: B023
                "four steps of ADMM in torch": lambda: admm(normal, rhs, last, temporal, upper, none),  # noqa: B023
            }
            for name, run in ways.items():
                found = run()[:BY_SCIPY, 0].cpu().numpy()
                away = np.abs(found - expected[: len(found)]).max()
                took = 1000 * milliseconds(run, device, 10)[0] / (count * frames)
                what = f"{name}, {count} x {frames}"
                print(f"{what:34} {took:10.2f} us a frame and track, {by_scipy / took:8.1f} x scipy, {away:.1e} away")


def animators(device: str, tracks: list[int]) -> None:
    """On all vertices, and on those alone that the solver looks at."""
    identity = SimpleNamespace(
        neutral_skin=torch.randn(VERTICES, 3), eye_close=torch.randn(VERTICES, 3), lip_open=torch.randn(VERTICES, 3),
        neutral_tongue=torch.randn(TONGUE, 3), neutral_jaw=torch.randn(5, 3), saccades=torch.randn(5000, 2),
        parameters=AnimatorParameters(),
    )  # fmt: skip
    some = torch.randperm(3 * VERTICES)[: 3 * LOOKED_AT].to(device)
    frames, place = 8, torch.device(device)
    for count in [count for count in tracks if count <= 64]:
        made = {
            "skin, all vertices": (SkinAnimator(identity, count, 1 / 60, place), 3 * VERTICES),
            "skin, what is solved for": (SkinAnimator(identity, count, 1 / 60, place, some), 3 * LOOKED_AT),
            "tongue": (TongueAnimator(identity, count, place), 3 * TONGUE),
            "jaw": (JawAnimator(identity, count, place), 15),
            "eyes": (EyesAnimator(identity, count, Fraction(1, 60), place), 4),
        }
        for name, (animator, values) in made.items():
            moves = torch.randn(count, frames, values, device=device)
            took = 1000 * milliseconds(lambda: animator.animate(range(count), moves), device, 10)[0]  # noqa: B023
            print(f"{f'{name}, {count} x {frames}':34} {took / (count * frames):10.2f} us a frame and track")


def everything(device: str, folder: str) -> None:
    bundle = read_bundle(folder)
    seconds, rate = 10, bundle.info.sample_rate
    face = Audio2Face(bundle, device=device)
    audio = 0.1 * torch.randn(seconds * rate)
    face(audio[:rate])
    began = time.perf_counter()
    result = face(audio)
    result.weights.cpu()
    took = time.perf_counter() - began
    print(f"{bundle.info.kind}, {len(result.weights)} frames: {took:.2f} s, {seconds / took:.1f} times real time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bundle")
    parser.add_argument("--tracks", type=int, nargs="+", default=[1, 64, 1000])
    given = parser.parse_args()
    print(f"{torch.cuda.get_device_name() if given.device != 'cpu' else f'CPU, {torch.get_num_threads()} threads'}\n")
    solvers(given.device, given.tracks)
    animators(given.device, given.tracks)
    if given.bundle:
        everything(given.device, given.bundle)
