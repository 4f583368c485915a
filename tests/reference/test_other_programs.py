"""The reference against independent programs that read the same synthetic SMPL-X file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatorch.reference import forward

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


def test_body_models_in_float64(smplx_folder, smplx_model, inputs):
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


def test_smplfitter_in_float32(smplx_folder, smplx_model, inputs):
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
