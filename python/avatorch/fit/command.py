"""The command `avatorch fit`: files of targets in, parameters and meshes out; on one device, or under torchrun."""

from __future__ import annotations

import argparse
import os
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from avatorch import export
from avatorch.body import Body, open_body
from avatorch.fit import checkpoint
from avatorch.fit.first_order import FirstOrder
from avatorch.fit.levenberg_marquardt import LevenbergMarquardt
from avatorch.fit.parameter_files import packed_parameters
from avatorch.fit.priors import usual_priors
from avatorch.fit.problem import Problem
from avatorch.fit.schedule import default_schedule
from avatorch.fit.solve import solve
from avatorch.fit.target_files import read_targets
from avatorch.whole_file import write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("input", nargs="+", help="files of targets, each one sequence: .npz, .ply, .obj or a motion")
    parser.add_argument("--out", default="fitted", help="the folder to write to; what is there is not fitted again")
    parser.add_argument("--model", help="a model file; default: the open body")
    parser.add_argument("--mesh", choices=("glb", "obj"), help="write a mesh too, animated or of the first frame")
    parser.add_argument("--solver", choices=("lm", "adam"), default="lm", help="default: lm, Levenberg-Marquardt")
    parser.add_argument("--steps", type=int, nargs=3, metavar="N", help="the most steps of each of the three stages")
    parser.add_argument("--sigma", type=float, default=0.005, help="how exact points are, in metres; default: 0.005")
    parser.add_argument(
        "--pose-sigma", type=float, default=0.3, help="how large rotations are, in radians; default: 0.3"
    )
    parser.add_argument("--shape-per-frame", action="store_true", help="a shape for each frame, not for each sequence")
    parser.add_argument("--no-smooth", action="store_true", help="frames of a sequence do not follow each other")
    parser.add_argument("--device", help="default: cuda if there is one")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Fits every file; under torchrun, each process its share."""
    stems = [Path(name).stem for name in given.input]
    if len(set(stems)) != len(stems):
        raise ValueError("two inputs have the same name, and their results would be one file")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = _device(given.device)
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    body = (Body.load(given.model) if given.model else open_body()).to(device)
    made: dict[str, bytes] = {}
    for name in given.input[rank::world]:
        made[Path(name).stem] = _fit_one(Path(name), out, body, given, f"[{rank}] " if world > 1 else "")
    if world > 1:
        made = _gathered(made, device)
    if rank == 0:
        for stem, content in made.items():  # of other machines, whose folder is another one
            if not (out / f"{stem}.npz").exists():
                write_whole(out / f"{stem}.npz", content)
        print(f"{len(made)} sequences in {out}")
    return 0


def _device(wanted: str | None) -> torch.device:
    if wanted:
        return torch.device(wanted)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def _fit_one(path: Path, out: Path, body: Body, given: argparse.Namespace, prefix: str) -> bytes:
    """The content of its `.npz`."""
    result = out / f"{path.stem}.npz"
    if result.exists():
        print(f"{prefix}{path}: {result} is there")
        return result.read_bytes()
    targets = read_targets(path, body, given.sigma)
    if not targets.frames:
        raise ValueError(f"{path}: it has no frames")
    moves = targets.frames > 1 and not given.no_smooth
    priors = usual_priors(body, targets.unknowns, pose_sigma=given.pose_sigma, smooth=moves)
    shared = () if given.shape_per_frame else ("betas",)
    terms = [*targets.terms, *priors]
    try:
        problem = Problem(body, terms, frames=targets.frames, unknowns=targets.unknowns, shared=shared)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: {error.args[0]}") from None
    solver = LevenbergMarquardt() if given.solver == "lm" else FirstOrder()
    unfinished = out / f"{path.stem}.unfinished"
    began = time.perf_counter()
    found = solve(
        problem,
        targets.start,
        solver=solver,
        schedule=default_schedule(problem, given.steps or solver.steps),
        checkpoint=unfinished,
        progress=not prefix,
    )
    seconds = time.perf_counter() - began
    print(
        f"{prefix}{path}: {targets.frames} frames, {found.steps} steps, {seconds:.1f} s, loss {found.costs.sum():.5g}"
    )
    values = found.values
    if given.mesh == "glb":
        face = values.get("expression")
        export.save_glb(
            out / f"{path.stem}.glb",
            body,
            values["betas"].mean(0),
            face,
            values.get("pose"),
            values.get("transl"),
            frame_rate=targets.frame_rate,
            shape_keys=face is not None,
        )
    elif given.mesh == "obj":
        export.save_obj(out / f"{path.stem}.obj", found.posed().vertices[0], body.faces)
    content = packed_parameters(found, targets.frame_rate)
    write_whole(result, content)
    unfinished.unlink(missing_ok=True)
    return content


def _gathered(made: dict[str, bytes], device: torch.device) -> dict[str, bytes]:
    """What every process made, in each of them."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=timedelta(days=7))  # the first one done waits for the last
    try:
        tensors = {stem: torch.frombuffer(bytearray(content), dtype=torch.uint8) for stem, content in made.items()}
        mine = torch.frombuffer(bytearray(checkpoint.packed(tensors, {})), dtype=torch.uint8).to(device)
        size = torch.tensor([len(mine)], device=device)
        sizes = [torch.zeros_like(size) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, size)
        most = int(torch.cat(sizes).max())
        parts = [torch.zeros(most, dtype=torch.uint8, device=device) for _ in sizes]
        dist.all_gather(parts, torch.nn.functional.pad(mine, (0, most - len(mine))))
        everything: dict[str, bytes] = {}
        for part, size in zip(parts, sizes, strict=True):
            found, _ = checkpoint.unpacked(part[: int(size)].cpu().numpy().tobytes())
            everything |= {stem: tensor.numpy().tobytes() for stem, tensor in found.items()}
        return everything
    finally:
        dist.destroy_process_group()
