"""How near the open body is to anny's own forward: prints the accuracy numbers of `docs/open-body.md`.

Needs anny==0.6.2:
    PYTHONPATH=python python tools/open_body_accuracy.py
"""

from __future__ import annotations

import anny
import numpy as np
import torch
from torch import Tensor

from avatorch.reference import rodrigues
from open_body import (
    NUM_ADULTS,
    NUM_BETAS,
    SMPL_FROM_ANNY,
    blend_shape_coefficients,
    load_anny,
    principal_shapes,
    rest_blend_shapes,
    sample_adults,
)
from open_body_reader import OpenBody, read_body


class Anny:
    """anny's own forward, in the parameters of the open body."""

    def __init__(self, model: anny.Anny, body: OpenBody) -> None:
        self.model, self.body = model, body
        vertices, _ = rest_blend_shapes(model)  # [1 + 310 + 52, V, 3]
        shapes = vertices[: len(vertices) - len(model.facial_action_labels)]
        self.template, self.basis = shapes[0], shapes[1:]
        adults = blend_shape_coefficients(model, sample_adults(model, NUM_ADULTS, seed=0))
        self.mean, self.directions = principal_shapes(adults, shapes)  # [310], [310, 20]

    def forward(self, coefficients: Tensor, rot_mats: Tensor) -> tuple[Tensor, Tensor]:
        """As `OpenBody.forward`, computed by anny."""
        betas, expression = coefficients[:, :NUM_BETAS].numpy(), coefficients[:, NUM_BETAS:]
        face = torch.zeros(len(coefficients), len(self.model.facial_action_labels), dtype=torch.float64)
        for k, name in enumerate(self.body.expression_names):
            face[:, self.model.facial_action_labels.index(name)] = expression[:, k]
        shape = torch.from_numpy(self.mean + betas @ self.directions.T)
        return self.forward_own(torch.cat([shape, face], dim=1), rot_mats)

    def forward_own(self, coefficients: Tensor, rot_mats: Tensor) -> tuple[Tensor, Tensor]:
        """As above for anny's own 310 + 52 blend shape coefficients.

        Our rotations r_j turn about the world's axes in the rest pose. anny's D_j start from a reference
        orientation U_j of each bone, while its rest orientation R_j follows the shape:
        D_j = A_p r_j A_j^T with A_j = U_j R_j^T.
        """
        rest = self.model.get_rest_model(coefficients)["rest_bone_poses"][..., :3, :3]  # R, [B, J, 3, 3]
        reference = self.model.reference_bone_orientations  # U, [J, 3, 3]
        turn = torch.from_numpy(SMPL_FROM_ANNY)
        local = turn.T @ rot_mats @ turn  # r in anny's axes
        to_reference = reference @ rest.mT  # A
        to_reference[:, 0] = torch.eye(3, dtype=torch.float64)
        delta = torch.eye(4, dtype=torch.float64).repeat(*local.shape[:2], 1, 1)
        delta[:, 1:, :3, :3] = to_reference[:, self.body.parents[1:]] @ local[:, 1:] @ to_reference[:, 1:].mT
        delta[:, 0, :3, :3] = reference[0] @ local[:, 0] @ rest[:, 0] @ reference[0].mT
        model = super(anny.Anny, self.model)  # takes blend shape coefficients instead of phenotypes
        output = model.forward(delta, coefficients, pose_parameterization="local-ref")
        return output["vertices"] @ turn.T, output["bone_poses"][..., :3, 3] @ turn.T


def random_bodies(body: OpenBody, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """betas from N(0, 1), face units from U(0, 1), rotations of about 0.4 rad: [B, 72], [B, J, 3, 3]."""
    generator = torch.Generator().manual_seed(seed)
    betas = torch.randn(count, NUM_BETAS, generator=generator, dtype=torch.float64)
    expression = torch.rand(count, len(body.expression_names), generator=generator, dtype=torch.float64)
    axis_angle = 0.25 * torch.randn(count, len(body.parents), 3, generator=generator, dtype=torch.float64)
    return torch.cat([betas, expression], dim=1), rodrigues(axis_angle)


def nearest_betas(body: OpenBody, rest_vertices: np.ndarray) -> Tensor:
    """The betas of the body nearest to these rest vertices, root joint at the origin. [N, V, 3] -> [N, 20]"""
    directions = body.shapedirs[..., :NUM_BETAS].reshape(-1, NUM_BETAS).numpy()
    offsets = (rest_vertices - body.v_template.numpy()).reshape(len(rest_vertices), -1)  # [N, 3V]
    return torch.from_numpy(np.linalg.lstsq(directions, offsets.T, rcond=None)[0].T.copy())


def describe(name: str, millimetres: Tensor) -> None:
    values = millimetres.numpy()
    median, most = np.quantile(values, [0.5, 0.95])
    print(f"{name:62s} median {median:.4f}  95 % {most:.4f}  largest {values.max():.4f} mm")


def main() -> None:
    body = read_body()
    reference = Anny(load_anny(), body)

    coefficients, rot_mats = random_bodies(body, 32, seed=0)
    ours, theirs = body.forward(coefficients, rot_mats), reference.forward(coefficients, rot_mats)
    describe("same shape, pose and face units: vertices", (ours[0] - theirs[0]).norm(dim=-1) * 1e3)
    describe("same shape, pose and face units: joints", (ours[1] - theirs[1]).norm(dim=-1) * 1e3)

    # What 16 bits cost: against the directions before rounding.
    exact = torch.from_numpy(np.einsum("cvx,ck->vxk", reference.basis, reference.directions))  # [V, 3, 20]
    error = body.shapedirs[..., :NUM_BETAS] - exact
    rounding = torch.einsum("vxk,bk->bvx", error, coefficients[:, :NUM_BETAS])
    describe("16-bit shapedirs against float64, betas from N(0, 1)", rounding.norm(dim=-1) * 1e3)

    adults = blend_shape_coefficients(reference.model, sample_adults(reference.model, 400, seed=1))
    rest = reference.template + np.einsum("nc,cvx->nvx", adults, reference.basis)
    betas = nearest_betas(body, rest)
    neutral_face = torch.zeros(len(adults), len(body.expression_names), dtype=torch.float64)
    _, posed = random_bodies(body, len(adults), seed=1)
    for name, rot_mats in ("rest pose", torch.eye(3, dtype=torch.float64).expand_as(posed)), ("posed", posed):
        ours, _ = body.forward(torch.cat([betas, neutral_face], dim=1), rot_mats)
        own = torch.cat([torch.from_numpy(adults), neutral_face], dim=1)
        distance = (ours - reference.forward_own(own, rot_mats)[0]).norm(dim=-1) * 1e3
        describe(f"20 betas against anny's adults, {name}: vertices", distance)
        describe("    the mean of each adult", distance.mean(dim=1))
    largest = betas.abs().max()
    print(f"betas of those adults: mean {betas.mean():.3f}, std {betas.std():.3f}, largest {largest:.2f}")

    people = torch.randn(1000, NUM_BETAS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = body.v_template[:, 1] + torch.einsum("vk,bk->bv", body.shapedirs[:, 1, :NUM_BETAS], people)
    stature = y.amax(1) - y.amin(1)
    print(f"stature with betas from N(0, 1): {stature.mean():.3f} m, std {stature.std():.3f}, "
          f"{stature.min():.2f} to {stature.max():.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
