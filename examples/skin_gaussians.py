"""Points of your own, such as the centres of Gaussians, moved by the body's transforms; differentiable.

python examples/skin_gaussians.py [--points 50000] [--out out]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import avatorch
from avatorch import export


def main() -> None:
    """Scatters points over the body at rest, bends the body, and writes both clouds as meshes of no triangles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("out"))
    given = parser.parse_args()
    torch.manual_seed(3)
    body = avatorch.open_body()
    skeleton = body.subset([])  # joints and transforms alone: no mesh is computed
    points, weights = scatter(body, given.points)

    elbow = torch.tensor([[0.0, -1.2, 0.0]], requires_grad=True)
    posed = skeleton(pose={"lowerarm01.L": elbow, "upperarm01.L": torch.tensor([[0.0, 0.0, 0.8]])})
    moved = torch.ops.smplx.skinning(points[None], posed.A_global, weights)  # [1, N, 3]
    turned = turns(posed.A_global, weights)  # [1, N, 3, 3]: for covariances, R S R^T
    moved[..., 1].mean().backward()
    print(f"{given.points} points, {weights.shape[1]} joints; turned by up to {degrees(turned).max():.0f} degrees")
    print(f"their mean height by the elbow's rotation: {elbow.grad.tolist()[0]}")

    given.out.mkdir(exist_ok=True, parents=True)
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    for name, cloud in (("rest", points), ("posed", moved[0])):
        export.save_ply(given.out / f"gaussians_{name}.ply", cloud, nothing)
    print(f"wrote {given.out}/gaussians_rest.ply and gaussians_posed.ply")


def scatter(body: avatorch.Body, count: int) -> tuple[Tensor, Tensor]:
    """Points [N, 3] around the surface at rest, and their skinning weights [N, J], those of the nearest surface."""
    corners = body.v_template[body.faces]  # [F, 3, 3]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    face = torch.multinomial(area, count, replacement=True)
    share = torch.distributions.Dirichlet(torch.ones(3)).sample((count,))  # [N, 3]
    points = (share[..., None] * corners[face]).sum(1) + 0.002 * torch.randn(count, 3)
    weights = (share[..., None] * body.lbs_weights[body.faces[face]]).sum(1)
    return points, weights


def turns(transforms: Tensor, weights: Tensor) -> Tensor:
    """The rotation of each point, the nearest to its blended transform: [B, J, 4, 4], [N, J] -> [B, N, 3, 3]"""
    blended = torch.einsum("nj,bjxy->bnxy", weights, transforms[..., :3, :3])
    u, _, v = torch.linalg.svd(blended.detach())
    return u @ v


def degrees(rotations: Tensor) -> Tensor:
    """The angle of each rotation."""
    cosine = (rotations.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


if __name__ == "__main__":
    main()
