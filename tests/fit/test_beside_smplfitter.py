"""The same vertices and joints for smplfitter (MIT), a closed form of few rounds: ours ends nearer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import avatorch
from avatorch import fit
from model import synthetic


@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_at_least_as_accurate(tmp_path: Path, noise: float) -> None:
    pt = pytest.importorskip("smplfitter.pt", reason="smplfitter is not installed: `pip install smplfitter`")
    arrays = synthetic.smplx(vertices=2000, faces=3000, columns=20, dtype=np.float32)
    file = synthetic.save_npz(tmp_path / "SMPLX_NEUTRAL.npz", arrays)
    np.save(tmp_path / "kid_template.npy", arrays["v_template"])  # which it wants to see
    body = avatorch.Body.load(file)
    theirs = pt.BodyModel("smplx", "neutral", model_root=str(tmp_path), num_betas=10)
    target = body(betas=torch.randn(2, 10), pose=0.15 * torch.randn(2, 165), transl=torch.randn(2, 3))
    vertices = target.vertices + noise * torch.randn_like(target.vertices)
    joints = target.joints + noise * torch.randn_like(target.joints)

    terms = [fit.Joints(joints), fit.Vertices(vertices)]
    schedule = [fit.Stage(("betas", "pose", "transl"), 20)]
    ours = fit.solve(fit.Problem(body, terms, frames=2), schedule=schedule).posed().vertices
    fitter = pt.BodyFitter(theirs)
    found = fitter.fit(
        vertices, joints, num_iter=3, beta_regularizer=0.0, requested_keys=["pose_rotvecs", "shape_betas"]
    )
    again = theirs(pose_rotvecs=found["pose_rotvecs"], shape_betas=found["shape_betas"], trans=found["trans"])
    our_error, their_error = ((v - target.vertices).norm(dim=-1).mean() for v in (ours, again["vertices"]))
    assert our_error <= their_error
    assert our_error < (1e-5 if noise == 0 else noise / 2)
