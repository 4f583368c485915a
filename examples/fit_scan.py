"""Fits the open body, or your own model, to a scan: a PLY or OBJ file of a standing person in metres, y up.

python examples/fit_scan.py [scan.ply] [--model SMPLX_NEUTRAL.npz] [--out out] [--points 2000]
Without a file, a scan is made first: out/scan.ply.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import avatorch
from avatorch import export, fit
from avatorch.fit.target_files import read_points


def main() -> None:
    """Writes out/scan_fit.obj and out/scan_fit.npz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", nargs="?", type=Path)
    parser.add_argument("--model", help="a model file; default: the open body")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--points", type=int, default=2000, help="the most points that are looked at")
    parser.add_argument("--steps", type=int, nargs=3, default=(10, 20, 30))
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True, parents=True)
    torch.manual_seed(2)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    body = (avatorch.Body.load(given.model) if given.model else avatorch.open_body()).to(device)
    scan = given.scan or made_up(body, given.out / "scan.ply", given.points)

    points = torch.from_numpy(read_points(scan))[None]
    cloud = fit.PointCloud(points, sigma=0.004, most=given.points)
    problem = fit.Problem(body, [cloud, *fit.usual_priors(body, pose_sigma=0.2)], frames=1)
    found = fit.solve(problem, schedule=fit.default_schedule(problem, given.steps), progress=True)

    posed = found.posed()
    far = cloud.residuals(problem.state(found.x)).norm(dim=-1)
    print(f"half of the points are within {1000 * far.median():.1f} mm of the surface; {found.seconds:.1f} s")
    export.save_obj(given.out / "scan_fit.obj", posed.vertices[0], body.faces)
    fit.save_parameters(given.out / "scan_fit.npz", found)
    print(f"wrote {given.out}/scan_fit.obj and {given.out}/scan_fit.npz")


def made_up(body: avatorch.Body, path: Path, count: int) -> Path:
    """A person with noise."""
    like = body.v_template
    pose = (0.1 * torch.randn(1, 3 * body.num_joints)).to(like)
    vertices = body(betas=torch.randn(1, body.num_betas).to(like), pose=pose).vertices[0]
    points = vertices[torch.randperm(len(vertices))[:count].to(like.device)]
    export.save_ply(path, points + 0.003 * torch.randn_like(points), torch.zeros(0, 3, dtype=torch.long))
    print(f"wrote {path}")
    return path


if __name__ == "__main__":
    main()
