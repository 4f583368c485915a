"""Fits the open body to a noisy scan without an arm, and to the markers of a short motion; out/ shows both.

python examples/demo.py [--out out] [--points 1500] [--frames 12]
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import avatorch
from avatorch import export, fit, reference
from avatorch.export.render import look_at, project, render, write_png

NOISE = 0.003  # metres
RATE = 12.0  # Hz
UNIT = 0.0001  # metres: the page's coordinates are whole numbers of these
SIZE = (360, 640)  # of a picture
BLUE = np.array([26, 90, 190], np.uint8)


def main() -> None:
    """Writes out/fit.png, out/motion.glb and out/index.html."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--points", type=int, default=1500, help="of the scan")
    parser.add_argument("--frames", type=int, default=12, help="of the motion")
    parser.add_argument("--steps", type=int, nargs=3, default=(8, 18, 20), help="the most steps of each stage")
    given = parser.parse_args()
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=given.out).close()  # better now than after the work
    except OSError as error:
        parser.error(f"--out: {error}")
    torch.manual_seed(4)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    avatorch.warm_up(device)
    body = avatorch.open_body().to(device)

    person = a_person(body)
    target = body(**person).vertices
    scan = a_scan(body, target, given.points)
    print(f"A scan of {given.points} points on {device}: {1000 * NOISE:g} mm of noise, outliers, no left arm")
    start, found, seen = fit_scan(body, scan, given.steps)
    summary = tell(body, found, start, target)
    print("\n" + summary)

    print(f"\nA motion of {given.frames} frames, 80 markers each; one shape for all")
    motion = fit_motion(body, person, given.frames, given.steps)
    speed = beside_eager(body, motion.values)
    print("\n" + speed)

    draw(given.out / "fit.png", body, start, found.posed().vertices, target, scan)
    export.save_glb(
        given.out / "motion.glb",
        body,
        motion.values["betas"][0],
        None,
        motion.values["pose"],
        motion.values["transl"],
        frame_rate=RATE,
    )
    write_page(given.out / "index.html", body, seen, scan, motion.posed().vertices, found.history, summary)
    print(f"wrote {given.out}/fit.png (start, result, truth), {given.out}/motion.glb and {given.out}/index.html")


def a_person(body: avatorch.Body) -> dict[str, Tensor]:
    """Someone who walks."""
    like = body.v_template
    pose = 0.04 * torch.randn(1, body.num_joints, 3)
    turns = {
        "upperarm01.L": (0.3, 0.0, -0.5), "upperarm01.R": (-0.4, 0.0, 0.3), "lowerarm01.R": (0.0, 0.7, 0.0),
        "upperleg01.L": (0.35, 0.0, 0.0), "upperleg01.R": (-0.55, 0.0, 0.0), "lowerleg01.L": (0.6, 0.0, 0.0),
        "lowerleg01.R": (0.25, 0.0, 0.0), "spine03": (0.1, 0.2, 0.0),
    }  # fmt: skip
    for name, turn in turns.items():
        pose[0, body.joint(name)] += torch.tensor(turn)
    betas = 0.8 * torch.randn(1, body.num_betas)
    return {"betas": betas.to(like), "pose": pose.to(like), "transl": torch.tensor([[0.1, 0.05, -0.1]]).to(like)}


def a_scan(body: avatorch.Body, vertices: Tensor, count: int) -> Tensor:
    """[1, count, 3]: places on the surface with noise, two in a hundred far away; nothing of the left arm."""
    arm = [index for index, name in enumerate(body.joint_names) if is_left_arm(name)]
    kept = body.lbs_weights[:, arm].sum(1) < 0.5
    kept[13348:] = False  # tongue and eyes
    faces = body.faces[kept[body.faces].all(1)]
    a, b, c = vertices[0, faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1)
    triangles = vertices[0, faces[torch.multinomial(area, count, replacement=True)]]  # [count, 3, 3]
    shares = torch.distributions.Dirichlet(torch.ones(3)).sample((count,)).to(vertices)
    points = (triangles * shares[..., None]).sum(1) + NOISE * torch.randn(count, 3).to(vertices)
    points[::50] += 0.3 * torch.randn(len(points[::50]), 3).to(vertices)
    return points[None]


def is_left_arm(name: str) -> bool:
    """Whether a joint of the open body belongs to it."""
    parts = ("upperarm", "lowerarm", "wrist", "metacarpal", "finger")
    return name.endswith(".L") and name.startswith(parts)


def fit_scan(body: avatorch.Body, scan: Tensor, steps: tuple[int, int, int]) -> tuple[Tensor, fit.Fit, list[Tensor]]:
    """Where it began, what was found, and the vertices after each step."""
    priors = fit.usual_priors(body, pose_sigma=0.2)
    problem = fit.Problem(body, [fit.PointCloud(scan, sigma=NOISE), *priors], frames=1)
    guess = fit.first_guess(problem)
    start = body(**guess).vertices
    seen = [start[0]]

    def watch(x: Tensor) -> None:
        with torch.no_grad():
            seen.append(body(**problem.unknowns.split(x)).vertices[0])

    schedule = fit.default_schedule(problem, steps)
    found = fit.solve(problem, guess, schedule=schedule, progress=True, watch=watch)
    return start, found, seen


def fit_motion(body: avatorch.Body, person: dict[str, Tensor], frames: int, steps: tuple[int, int, int]) -> fit.Fit:
    """The person swings from this step to the next one, seen by markers."""
    left = [index for index, name in enumerate(body.joint_names) if name.endswith(".L")]
    right = [body.joint(body.joint_names[index][:-1] + "R") for index in left]
    pose = person["pose"]
    mirror = torch.tensor([1.0, -1.0, -1.0]).to(pose)
    other = pose * mirror
    other[:, left], other[:, right] = pose[:, right] * mirror, pose[:, left] * mirror
    part = (0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(frames) / frames)).to(pose)[:, None, None]
    target = body(betas=person["betas"], pose=(1 - part) * pose + part * other, transl=person["transl"]).vertices
    seen = torch.randperm(13348)[:80].to(pose.device)
    markers = target[:, seen] + NOISE * torch.randn(frames, 80, 3).to(pose)
    terms = [fit.Vertices(markers, seen, sigma=NOISE), *fit.usual_priors(body, pose_sigma=0.2, smooth=True)]
    problem = fit.Problem(body, terms, frames=frames, shared=("betas",))
    found = fit.solve(problem, schedule=fit.default_schedule(problem, steps), progress=True)
    error = 1000 * (found.posed().vertices - target).norm(dim=-1).mean()
    print(f"\nall vertices of all frames: {error:.1f} mm from the truth, in {found.seconds:.1f} s")
    return found


def tell(body: avatorch.Body, found: fit.Fit, start: Tensor, target: Tensor) -> str:
    """Mean distances from the truth: of the whole body, and of what the scan did not see."""
    arm = [index for index, name in enumerate(body.joint_names) if is_left_arm(name)]
    hidden = body.lbs_weights[:, arm].sum(1) >= 0.5
    before = 1000 * (start - target).norm(dim=-1)[0]
    after = 1000 * (found.posed().vertices - target).norm(dim=-1)[0]
    return (
        f"Mean distance from the truth: {before[~hidden].mean():.0f} mm before, {after[~hidden].mean():.1f} mm after; "
        f"of the arm that was not seen {after[hidden].mean():.0f} mm. {found.steps} steps in {found.seconds:.1f} s."
    )


def beside_eager(body: avatorch.Body, values: dict[str, Tensor]) -> str:
    """A forward and a backward pass of the motion's bodies, beside the same formulas in eager PyTorch."""
    shape = torch.nn.functional.pad(values["betas"], (0, body.num_expressions))
    pose, transl = values["pose"].clone().requires_grad_(), values["transl"]

    def ours() -> None:
        body(betas=values["betas"], pose=pose, transl=transl).vertices.square().sum().backward()

    def eager() -> None:
        made = reference.forward(
            shape, pose, transl, body.v_template, body.shapedirs, None, body.parents, body.lbs_weights,
            J_template=body.J_template, J_shapedirs=body.J_shapedirs,
        )  # fmt: skip
        made.vertices.square().sum().backward()

    times = []
    for run in (ours, eager):
        taken = []
        for _ in range(6):
            began = time.perf_counter()
            run()
            if pose.is_cuda:
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
        times.append(1000 * sorted(taken)[2])
    return (
        f"{len(pose)} bodies with gradients: {times[0]:.1f} ms, in eager PyTorch {times[1]:.1f} ms: "
        f"{times[1] / times[0]:.1f} times as fast"
    )


def draw(path: Path, body: avatorch.Body, start: Tensor, found: Tensor, target: Tensor, scan: Tensor) -> None:
    """Start and result under the scan's points, and the truth."""
    faces, clay = body.faces.cpu().numpy(), np.tile([0.75, 0.62, 0.55], (len(body.v_template), 1))
    middle = target[0].mean(0).cpu().double().numpy()
    camera = look_at(middle + np.array([1.2, 0.2, 3.6]), middle, 2.2)
    pictures = []
    for mesh, dotted in ((start, True), (found, True), (target, False)):
        picture = render(mesh[0].cpu().double().numpy(), faces, clay, camera, SIZE)
        if dotted:
            x, y, _ = project(scan[0].cpu().double().numpy(), camera, *SIZE)
            inside = (x >= 0) & (x < SIZE[0]) & (y >= 0) & (y < SIZE[1])
            picture[y[inside].astype(int), x[inside].astype(int)] = BLUE
        pictures.append(picture)
    write_png(path, np.concatenate(pictures, 1))


def write_page(
    path: Path, body: avatorch.Body, seen: list[Tensor], scan: Tensor, motion: Tensor, loss: list[float], summary: str
) -> None:
    """One file with everything in it: no network is needed to look at it."""
    every = max(1, len(seen) // 12)
    steps = torch.stack([*seen[:-1:every], seen[-1]])
    data = {
        "vertices": len(body.v_template),
        "unit": UNIT,
        "rate": RATE,
        "middle": ((steps[-1].amin(0) + steps[-1].amax(0)) / 2).tolist(),
        "steps": packed(steps),
        "motion": packed(motion),
        "points": packed(scan),
        "faces": base64.b64encode(body.faces.cpu().numpy().astype("<u2").tobytes()).decode(),
        "loss": loss,
        "summary": summary,
    }
    template = (Path(__file__).parent / "viewer.html").read_text(encoding="utf-8")
    page = template.replace("/*MESH VIEW*/", export.mesh_view()).replace("/*DATA*/null", json.dumps(data))
    path.write_text(page, encoding="utf-8")


def packed(places: Tensor) -> str:
    """As 16-bit whole numbers of UNIT, in base64."""
    numbers = np.clip(np.rint(places.cpu().numpy() / UNIT), -32767, 32767)
    return base64.b64encode(numbers.astype("<i2").tobytes()).decode()


if __name__ == "__main__":
    main()
