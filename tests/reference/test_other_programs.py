"""The reference and the operator against independent programs that read the same synthetic SMPL-X file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import avatorch
from avatorch import reference
from model import synthetic

B, NUM_BETAS, NUM_EXPRESSIONS = 5, 300, 10


@pytest.fixture(scope="module")
def smplx_folder(smplx_arrays, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("smplx")
    names = {f"joint{j:02d}": j for j in range(55)}
    np.savez(folder / "SMPLX_NEUTRAL.npz", **smplx_arrays, joint2num=np.array(names, dtype=object))
    np.save(folder / "kid_template.npy", np.zeros_like(smplx_arrays["v_template"]))
    return folder


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    betas = torch.randn(B, NUM_BETAS, generator=generator, dtype=torch.float64)
    expression = torch.randn(B, NUM_EXPRESSIONS, generator=generator, dtype=torch.float64)
    pose = torch.randn(B, 55, 3, generator=generator, dtype=torch.float64)
    transl = torch.randn(B, 3, generator=generator, dtype=torch.float64)
    return {"betas": betas, "expression": expression, "pose": pose, "transl": transl}


def operator(coefficients, pose, transl, v_template, shapedirs, posedirs, J_regressor, parents, lbs_weights):
    results = torch.ops.smplx.forward(
        coefficients, pose, transl, v_template, shapedirs, posedirs, J_regressor, parents, lbs_weights
    )
    return reference.Body(*results)


@pytest.fixture(params=[reference.forward, operator], ids=["reference", "operator"])
def forward(request) -> Callable[..., reference.Body]:
    return request.param


def test_body_models_in_float64(forward, smplx_folder, smplx_model, inputs):
    pytest.importorskip("body_models", reason="body-models is not installed: `pip install body-models`")
    from body_models.smplx.torch import SMPLX

    theirs = SMPLX(model_path=smplx_folder / "SMPLX_NEUTRAL.npz").double()
    pose = inputs["pose"]
    arguments = {
        "pelvis_rotation": pose[:, 0],
        "body_pose": pose[:, 1:22],
        "head_pose": pose[:, 22:25],
        "hand_pose": pose[:, 25:],
        "shape": inputs["betas"],
        "expression": torch.nn.functional.pad(inputs["expression"], (0, 100 - NUM_EXPRESSIONS)),
        "global_translation": inputs["transl"],
    }
    coefficients = torch.cat([arguments["shape"], arguments["expression"]], dim=1)
    ours = forward(coefficients, pose.flatten(1), inputs["transl"], **smplx_model)
    assert (ours.vertices - theirs.forward_vertices(**arguments)).abs().max() < 1e-12
    skeleton = theirs.forward_skeleton(**arguments)  # [B, J, 4, 4]
    assert (ours.joints - skeleton[..., :3, 3]).abs().max() < 1e-12
    assert (ours.A_global[..., :3, :3] - skeleton[..., :3, :3]).abs().max() < 1e-12


def test_smplfitter_in_float32(forward, smplx_folder, smplx_model, inputs):
    pytest.importorskip("smplfitter", reason="smplfitter is not installed: `pip install smplfitter`")
    from smplfitter.pt import BodyModel

    theirs = BodyModel("smplx", "neutral", model_root=str(smplx_folder))
    coefficients = torch.cat([inputs["betas"], torch.zeros(B, 100, dtype=torch.float64)], dim=1)
    expected = theirs(pose_rotvecs=inputs["pose"].flatten(1), shape_betas=inputs["betas"], trans=inputs["transl"])
    ours = forward(coefficients, inputs["pose"], inputs["transl"], **smplx_model)
    rounding = 1e-6 * ours.vertices.abs().max()  # a few times float32's
    assert (ours.vertices - expected["vertices"]).abs().max() < 10 * rounding
    assert (ours.joints - expected["joints"]).abs().max() < 10 * rounding
    assert (ours.A_global[..., :3, :3] - expected["orientations"]).abs().max() < 10 * rounding


PARTS = {"global_orient": 3, "body_pose": 63, "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3}
PARTS |= {"left_hand_pose": 45, "right_hand_pose": 45}


def smplx_vertices(module: torch.nn.Module, pose: torch.Tensor) -> torch.Tensor:
    shape = pose.new_full((len(pose), 10), 0.5)
    parts = dict(zip(PARTS, pose.split(list(PARTS.values()), 1), strict=True))
    return module(betas=shape, expression=shape, **parts).vertices


def our_vertices(body: avatorch.Body, pose: torch.Tensor) -> torch.Tensor:
    shape = pose.new_full((len(pose), 10), 0.5)
    return body(betas=shape, expression=shape, pose=pose).vertices


def test_smplx_and_its_curvature_at_the_rest_pose(tmp_path):
    """`smplx` adds 1e-8 to a rotation vector before it takes the norm: harmless for values, not for curvature."""
    smplx = pytest.importorskip("smplx", reason="smplx is not installed; its licence is for users to accept")
    file = tmp_path / "SMPLX_NEUTRAL.npz"
    # float32, since smplx rounds what it reads to that.
    synthetic.save_npz(file, synthetic.smplx(columns=20, seed=1, dtype=np.float32))
    options = {"use_pca": False, "flat_hand_mean": True, "num_betas": 10, "num_expression_coeffs": 10}
    body = avatorch.Body.load(file, dtype=torch.double)
    theirs = smplx.create(str(file), "smplx", dtype=torch.double, **options)
    pose = 0.5 * torch.randn(2, 165, dtype=torch.double)
    assert (our_vertices(body, pose) - smplx_vertices(theirs, pose)).abs().max() < 1e-7

    target = body.v_template + 0.1

    def product(vertices, module, dtype) -> torch.Tensor:
        """The second derivative of a squared distance at the rest pose, times a vector of ones."""
        rest = torch.zeros(1, 165, dtype=dtype, requires_grad=True)
        distance = (vertices(module, rest) - target.to(dtype)).square().sum()
        (slope,) = torch.autograd.grad(distance, rest, create_graph=True)
        return torch.autograd.grad(slope.sum(), rest)[0].double()

    exact = product(our_vertices, body, torch.double)
    narrow = smplx.create(str(file), "smplx", **options)
    errors = [
        (found - exact).norm() / exact.norm()
        for found in (
            product(our_vertices, avatorch.Body.load(file, dtype=torch.float), torch.float),
            product(smplx_vertices, narrow, torch.float),
        )
    ]
    print(f"\ncurvature at the rest pose, float32: ours errs by {errors[0]:.1e}, smplx by {errors[1]:.1e}")
    assert errors[0] < 1e-5 < 1e-3 < errors[1]
