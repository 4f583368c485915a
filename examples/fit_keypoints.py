"""Fits a body that moves to 2D keypoints of its joints in the pictures of one or more cameras.

python examples/fit_keypoints.py [--views 4] [--frames 8] [--noise 1.0]
"""

from __future__ import annotations

import argparse

import torch

import avatorch
from avatorch import fit


def main() -> None:
    """Makes a motion, looks at it, finds it again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--noise", type=float, default=1.0, help="pixels")
    parser.add_argument("--steps", type=int, nargs=3, default=(10, 20, 30))
    given = parser.parse_args()
    torch.manual_seed(3)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    body = avatorch.open_body().to(device)
    like = body.v_template

    part = torch.linspace(0, 1, given.frames)[:, None].to(like)
    pose = part * (0.15 * torch.randn(1, 3 * body.num_joints)).to(like)
    truth = body(betas=torch.randn(1, body.num_betas).to(like), pose=pose)

    angle = torch.arange(given.views) * 2 * torch.pi / max(3, given.views)
    eyes = torch.stack([3 * angle.sin(), torch.full_like(angle, 0.4), 3 * angle.cos()], 1)
    camera = fit.Camera.looking_at(eyes, torch.zeros(3), 1100.0, (1000, 1000))
    pixels = camera.to(like).project(truth.joints)  # [frames, views, J, 2]
    pixels = pixels + given.noise * torch.randn_like(pixels)
    pixels[:, :, ::9] = torch.nan  # not detected

    terms = [fit.Keypoints(pixels, camera, sigma=max(given.noise, 0.1)), *fit.usual_priors(body, smooth=True)]
    problem = fit.Problem(body, terms, frames=given.frames, shared=("betas",))
    found = fit.solve(problem, schedule=fit.default_schedule(problem, given.steps), progress=True)
    error = 1000 * (found.posed().joints - truth.joints).norm(dim=-1).mean()
    print(
        f"{given.views} views, {given.frames} frames: joints are {error:.1f} mm from the truth; {found.seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
