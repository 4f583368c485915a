"""Bodies as ONNX graphs: exported in torch's own operators, run by onnxruntime, compared with the fused operator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import avatorch
import avatorch.compat.smplx as smplx
from compat import models
from model import synthetic

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


class OfBody(nn.Module):
    def __init__(self, body: avatorch.Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, betas: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        posed = self.body(betas=betas, pose=pose)
        return posed.vertices, posed.joints


class OfModel(nn.Module):
    def __init__(self, model: smplx.SMPLX) -> None:
        super().__init__()
        self.model = model

    def forward(self, betas: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(betas=betas, body_pose=pose)
        return output.vertices, output.joints


def runs_the_same(module: nn.Module, pose: Tensor, path: Path) -> None:
    arguments = torch.randn(3, 10), pose
    batch = torch.export.Dim("batch", min=2, max=64)
    with avatorch.plain_torch():
        program = torch.onnx.export(module, arguments, dynamic_shapes=({0: batch}, {0: batch}), verbose=False)
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path)
    more = [torch.cat([argument, 0.5 * argument[:2]]) for argument in arguments]
    inputs = {given.name: tensor.numpy() for given, tensor in zip(session.get_inputs(), more, strict=True)}
    for found, wanted in zip(session.run(None, inputs), module(*more), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_body(tmp_path: Path) -> None:
    file = synthetic.save_npz(tmp_path / "SMPL_NEUTRAL.npz", synthetic.smpl(vertices=40, faces=30))
    runs_the_same(OfBody(avatorch.Body.load(file)), 0.5 * torch.randn(3, 24, 3), tmp_path / "body.onnx")


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_smplx(tmp_path: Path) -> None:
    models.shrink(smplx.vertex_ids.vertex_ids)
    (tmp_path / "models").mkdir()
    model = smplx.create(models.write(tmp_path / "models"), "smplx", use_face_contour=True)
    runs_the_same(OfModel(model), 0.5 * torch.randn(3, 63), tmp_path / "model.onnx")


def test_plain_torch_ends() -> None:
    body = avatorch.open_body()
    pose = 0.3 * torch.randn(2, 104, 3)
    with avatorch.plain_torch():
        plain = body(pose=pose, expression={"jawOpen": 0.5})
    fused = body(pose=pose, expression={"jawOpen": 0.5})
    for one, other in zip(plain, fused, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
