"""The models as torch modules: copied, converted, written to, compiled, exported, mapped, trained."""

from __future__ import annotations

import copy
import io
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

import avatorch.compat.smplx as smplx
from compat import models
from model import synthetic

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def model_and_arguments(folder: Path, family: str = "smplx", **options: Any) -> tuple[Any, dict[str, Tensor]]:
    model = smplx.create(folder, family, dtype=torch.double, use_face_contour=True, **options)
    return model, models.arguments(family)


def same(found: Any, wanted: Any) -> None:
    for name in ("vertices", "joints"):
        torch.testing.assert_close(found[name], wanted[name], **CLOSE)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_copies(folder: Path, family: str) -> None:
    model, given = model_and_arguments(folder, family)
    wanted = model(**given)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    for other in copies:
        same(other(**given), wanted)
    fresh = smplx.create(folder, family, dtype=torch.double, use_face_contour=True)
    for tensor in fresh.state_dict().values():
        tensor.mul_(2)
    fresh.load_state_dict(model.state_dict())
    same(fresh(**given), wanted)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_dtypes(folder: Path, family: str) -> None:
    model, given = model_and_arguments(folder, family)
    wanted = model(**given)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 2e-1)):
        converted = copy.deepcopy(model).to(dtype)
        output = converted(**{name: tensor.to(dtype) for name, tensor in given.items()})
        assert output.vertices.dtype == output.joints.dtype == output.A.dtype == dtype
        torch.testing.assert_close(output.vertices.double(), wanted.vertices, rtol=0, atol=tolerance)
        assert converted().vertices.isfinite().all()  # at zero rotation too
    assert model.half().double()(**given).vertices.dtype == torch.double


@pytest.mark.parametrize("name", ["v_template", "shapedirs", "expr_dirs", "J_regressor", "lbs_weights", "posedirs"])
def test_writing_to_buffers(folder: Path, name: str) -> None:
    model, given = model_and_arguments(folder)
    before = model(**given), model(**given, return_verts=False)
    getattr(model, name)[2] *= 3
    fresh = pickle.loads(pickle.dumps(model))
    after = fresh(**given)
    assert not torch.equal(before[0].vertices, after.vertices)
    same(model(**given), after)
    torch.testing.assert_close(model(**given, return_verts=False).joints, after.joints, **CLOSE)
    setattr(model, name, getattr(model, name) * 2)
    same(model(**given), pickle.loads(pickle.dumps(model))(**given))


def test_training_after_inference(folder: Path) -> None:
    model, given = model_and_arguments(folder)
    with torch.inference_mode():
        model(**given, return_verts=False)
        model.v_template[0] += 1
        wanted = model(**given).joints, model(**given, return_verts=False).joints
    for verts, joints in zip((True, False), wanted, strict=True):
        torch.testing.assert_close(model(**given, return_verts=verts).joints, joints.clone())
        model(betas=given["betas"], return_verts=verts).joints.square().sum().backward()
        assert model.body_pose.grad.abs().sum() > 0


def test_gradients_of_buffers(folder: Path) -> None:
    model, given = model_and_arguments(folder)
    for name in ("shapedirs", "expr_dirs", "v_template"):
        getattr(model, name).requires_grad_()
    for flags in ({}, {"return_verts": False}):
        output = model(**given, **flags)
        joints = output.joints.sum() + (0 if output.vertices is None else output.vertices.sum())
        gradients = torch.autograd.grad(joints, [model.shapedirs, model.expr_dirs, model.v_template])
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_a_subclass_as_projects_write_it(folder: Path) -> None:
    class Wrapped(smplx.SMPL):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.register_buffer("J_regressor_extra", torch.ones(3, models.VERTICES) / models.VERTICES)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, pose2rot=False, **kwargs)
            extra = smplx.lbs.vertices2joints(self.J_regressor_extra, output.vertices)
            output.joints = torch.cat([output.joints[:, :24], extra], 1)
            output.full_joints2d = extra[..., :2]
            return output

    model = Wrapped(folder / "smpl", create_transl=False, batch_size=2)
    given = models.arguments("smpl", dtype=torch.float, matrices=True)
    output = model(**given)
    assert output.joints.shape == (3, 27, 3) and output.full_joints2d.shape == (3, 3, 2)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_any_batch(folder: Path, family: str) -> None:
    model, given = model_and_arguments(folder, family)
    whole = model(**given)
    assert model(**{name: tensor[:0] for name, tensor in given.items()}).vertices.shape == (0, models.VERTICES, 3)
    for name in given:
        one = model(**{**given, name: given[name][:1]})
        wanted = model(**{**given, name: given[name][:1].expand_as(given[name])})
        same(one, wanted)
        left_out = model(**{key: tensor for key, tensor in given.items() if key != name})
        same(left_out, model(**{**given, name: torch.zeros_like(given[name])}))
    same(model(**{name: tensor[1:2] for name, tensor in given.items()}),
         {name: whole[name][1:2] for name in ("vertices", "joints")})  # fmt: skip


def test_offsets_and_transforms(folder: Path) -> None:
    model, given = model_and_arguments(folder)
    offsets = {"vertex_offsets": 0.1 * torch.randn(1, models.VERTICES, 3).double(),
               "joint_offsets": 0.1 * torch.randn(3, 55, 3).double()}  # fmt: skip
    output = model(**given, **offsets)
    assert not torch.equal(output.vertices, model(**given).vertices)
    torch.testing.assert_close(model(**given, **offsets, return_verts=False).joints, output.joints, **CLOSE)
    # Points of one's own, as rigid parts of a joint: posed by A they go where the posed joint is.
    at_rest = model.J_regressor @ (model._shaped(given["betas"]) + smplx.lbs.blend_shapes(
        given["expression"], model.expr_dirs)) + offsets["joint_offsets"]  # fmt: skip
    moved = (output.A[..., :3, :3] @ at_rest[..., None]).squeeze(-1) + output.A[..., :3, 3]
    torch.testing.assert_close(moved, output.joints[:, :55])


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize("make", [smplx.create, smplx.build_layer])
def test_compiled(folder: Path, family: str, make: Any) -> None:
    torch._dynamo.reset()
    model = make(folder, family, dtype=torch.double, use_face_contour=True)
    given = models.arguments(family, matrices=make is smplx.build_layer)
    same(torch.compile(model, fullgraph=True, backend="aot_eager")(**given), model(**given))


def test_compiled_code_after_a_change(folder: Path) -> None:
    model, given = model_and_arguments(folder)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    compiled(**given)
    model.v_template[3] += 1
    with pytest.raises(ValueError, match="v_template was changed in place after smplx::prepare"):
        compiled(**given)
    model.prepare()
    same(compiled(**given), pickle.loads(pickle.dumps(model))(**given))


class Exported(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, betas: Tensor, body_pose: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(betas=betas, body_pose=body_pose)
        return output.vertices, output.joints


@pytest.mark.parametrize(
    ("kind", "options", "error", "sentence"),
    [
        ("SMPL", {"num_betas": -1}, ValueError, "SMPL: num_betas is -1, expected at least 0"),
        ("SMPL", {"batch_size": 1.5}, TypeError, "SMPL: batch_size is 1.5, expected a whole number"),
        ("SMPL", {"dtype": torch.int64}, TypeError, "SMPL: dtype is torch.int64, expected torch.float32 or another"),
        ("SMPL", {"age": "kid"}, ValueError, "age='kid' needs kid_template_path"),
        ("SMPLX", {"num_expression_coeffs": -3}, ValueError, "num_expression_coeffs is -3, expected at least 0"),
        ("SMPLX", {"num_pca_comps": -1}, ValueError, "num_pca_comps is -1, expected at least 0"),
    ],
)
def test_options_that_cannot_be(
    kind: str, options: dict[str, Any], error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    make = {"SMPL": synthetic.smpl, "SMPLX": synthetic.smplx}[kind]
    file = synthetic.save_npz(tmp_path / f"{kind}_NEUTRAL.npz", make(vertices=60, faces=40))
    with pytest.raises(error, match=sentence):
        getattr(smplx, kind)(str(file), **options)
    with pytest.raises(TypeError, match="model_path is None, expected a file or a folder"):
        getattr(smplx, kind)(None)


def test_parents_of_numpy() -> None:
    turns, joints = torch.eye(3).expand(2, 3, 3, 3), torch.randn(2, 3, 3)
    posed, _ = smplx.lbs.batch_rigid_transform(turns, joints, np.array([-1, 0, 1]))
    torch.testing.assert_close(posed, joints)


def test_exported(folder: Path) -> None:
    model, given = model_and_arguments(folder)
    module = Exported(model)
    batch = torch.export.Dim("batch", min=2, max=64)
    arguments = given["betas"], given["body_pose"]
    program = torch.export.export(module, arguments, dynamic_shapes=({0: batch}, {0: batch}))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    twice = [torch.cat([argument, argument]) for argument in arguments]
    for found, wanted in zip(torch.export.load(file).module()(*twice), module(*twice), strict=True):
        torch.testing.assert_close(found, wanted, **CLOSE)


def test_functional(folder: Path) -> None:
    model, given = model_and_arguments(folder)
    betas, pose = given["betas"], given["body_pose"]
    each = torch.func.vmap(lambda b, p: model(betas=b[None], body_pose=p[None]).joints[0])(betas, pose)
    torch.testing.assert_close(each, model(betas=betas, body_pose=pose).joints)
    reverse, forward = (
        jacobian(lambda b: model(betas=b).joints.sum((0, 1)))(betas)
        for jacobian in (torch.func.jacrev, torch.func.jacfwd)
    )
    torch.testing.assert_close(reverse, forward)
    assert torch.func.hessian(lambda p: model(body_pose=p).joints.square().sum())(pose[:1]).isfinite().all()
    gradient = torch.func.grad(
        lambda dirs: torch.func.functional_call(model, {"shapedirs": dirs}, (), given).vertices.sum()
    )(model.shapedirs)
    assert gradient.shape == model.shapedirs.shape
    same(model(**given), copy.deepcopy(model)(**given))


def test_second_order_at_rest(folder: Path) -> None:
    """As trust-region methods need it, where the sum of a small number to each component would spoil it."""
    model = smplx.create(folder, "smplx", dtype=torch.double)

    def loss(pose: Tensor) -> Tensor:
        return model(body_pose=pose).vertices.square().sum()

    assert torch.autograd.gradgradcheck(loss, torch.zeros(1, 63, dtype=torch.double, requires_grad=True))


def step(rank: int, port: int, folder: Path, results: Tensor) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    models.shrink(smplx.vertex_ids.vertex_ids)
    model = smplx.create(folder, "smplx", batch_size=1)
    wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    given = models.arguments("smplx", batch=4, dtype=torch.float)
    given = {name: tensor[2 * rank : 2 * rank + 2] for name, tensor in given.items() if name != "body_pose"}
    for _ in range(2):
        model.zero_grad()
        wrapped(**given).joints.square().mean().backward()
    results[rank] = model.body_pose.grad
    torch.distributed.destroy_process_group()


def test_distributed(folder: Path) -> None:
    """Buffers are broadcast, written in place, before every step."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = torch.zeros(2, 1, 63).share_memory_()
    mp.spawn(step, (port, folder, results), nprocs=2)
    model = smplx.create(folder, "smplx")
    given = models.arguments("smplx", batch=4, dtype=torch.float)
    del given["body_pose"]
    model(**given).joints.square().mean().backward()
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], model.body_pose.grad)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("family", models.FAMILIES)
def test_on_a_gpu(folder: Path, family: str) -> None:
    model, given = model_and_arguments(folder, family)
    wanted = model(**given)
    moved = copy.deepcopy(model).cuda()
    output = moved(**{name: tensor.cuda() for name, tensor in given.items()})
    for name in ("vertices", "joints"):
        torch.testing.assert_close(output[name].cpu(), wanted[name], rtol=1e-9, atol=1e-9)
    same(moved.cpu()(**given), wanted)


def test_a_replica(folder: Path) -> None:
    """As DataParallel makes one for each call: parameters are plain attributes, every tensor is a copy."""
    model, given = model_and_arguments(folder)
    replica = model._replicate_for_data_parallel()
    replica.vertex_joint_selector = copy.deepcopy(model.vertex_joint_selector)
    for name, parameter in model._parameters.items():
        setattr(replica, name, parameter.clone())
    replica._buffers = {name: buffer.clone() for name, buffer in model._buffers.items()}
    same(replica(**given), model(**given))
    same(replica(betas=given["betas"], return_verts=True), model(betas=given["betas"]))


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_replicated(folder: Path) -> None:
    class Vertices(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = smplx.create(folder, "smplx")

        def forward(self, betas: Tensor) -> Tensor:
            return self.model(betas=betas).vertices

    module = Vertices().cuda()
    betas = torch.randn(6, 10, device="cuda")
    torch.testing.assert_close(torch.nn.DataParallel(module)(betas), module(betas), rtol=1e-5, atol=1e-5)
