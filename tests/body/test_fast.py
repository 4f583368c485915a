"""The faster mode: pose directions and features rounded to halves, one product in the place of three."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import avatorch
from avatorch import reference
from avatorch.compat import smplx
from forward_cases import all_inputs, expected, forward
from model import synthetic
from rigs import POSED_RIGS, Rig

HALF = 2.0**-11  # what rounding to a half takes from a number at most, of itself


def needs_gpu(test):  # type: ignore[no-untyped-def]
    return pytest.mark.cuda(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")(test))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return synthetic.save_npz(tmp_path / "SMPL_NEUTRAL.npz", synthetic.smpl(vertices=60, faces=40))


def on_gpu(name: str) -> tuple[Rig, Rig, list[Tensor]]:
    """A rig in float64, in float32, and what is prepared of the latter to be fast."""
    exact = POSED_RIGS[name].to("cuda")
    narrow = exact.to("cuda", torch.float32)
    return exact, narrow, narrow.prepared(fast=True)


def asking(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Copies of which all but the offsets of vertices ask for a gradient: these would be no work for slabs."""
    return {name: t.detach().to(dtype).requires_grad_(name != "vertex_offsets") for name, t in inputs.items()}


def gradients(results: tuple[Tensor, ...], inputs: dict[str, Tensor], cotangents: list[Tensor]) -> dict[str, Tensor]:
    leaves = {name: tensor for name, tensor in inputs.items() if tensor.requires_grad}
    loss = sum((result * cotangent.to(result)).sum() for result, cotangent in zip(results, cotangents, strict=False))
    found = torch.autograd.grad(loss, list(leaves.values()))  # type: ignore[arg-type]
    return dict(zip(leaves, found, strict=True))


def step(model: Rig, inputs: dict[str, Tensor], prepared: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Vertices and a gradient of the pose."""
    pose = inputs["pose"].detach().requires_grad_()
    vertices = forward(model, inputs | {"pose": pose}, prepared)[0]
    return vertices.detach(), torch.autograd.grad(vertices.square().sum(), pose)[0]


def assert_alike(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    """Two such results of sums in different orders: a gradient that differs by a bit may be rounded to another half."""
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert ((found[1] - wanted[1]).norm(dim=1) <= HALF * wanted[1].norm(dim=1)).all()


def test_on_a_cpu_nothing_changes() -> None:
    for dtype in (torch.float32, torch.float64):
        model = POSED_RIGS["smpl"].to("cpu", dtype)
        exact, fast = model.prepared(), model.prepared(fast=True)
        assert all(map(torch.equal, exact, fast))
        inputs = model.inputs(20)
        assert all(map(torch.equal, forward(model, inputs, fast), forward(model, inputs, exact)))
        assert all(map(torch.equal, step(model, inputs, fast), step(model, inputs, exact)))


def test_whatever_is_made_of_a_body_keeps_the_mode(file: Path) -> None:
    body, plain = avatorch.Body.load(file, fast=True), avatorch.Body.load(file)
    assert body.fast and body.rig().fast and not plain.fast and not plain.rig().fast
    saved = io.BytesIO()
    torch.save(body, saved)
    saved.seek(0)
    for other in (
        body.subset([3, 1, 2]),
        body.subset([]),
        copy.deepcopy(body),
        pickle.loads(pickle.dumps(body)),
        torch.load(saved, weights_only=False),
        copy.deepcopy(body).to(torch.double).float(),
    ):
        assert other.fast and other.rig().fast
        other.load_state_dict(other.state_dict())
        other.v_template.add_(1)
        assert other.rig().fast
    assert list(body.state_dict()) == list(plain.state_dict())
    pose = 0.4 * torch.randn(20, body.num_joints, 3)
    assert torch.equal(body(pose=pose).vertices, plain(pose=pose).vertices)
    compiled = torch.compile(body, fullgraph=True)
    torch.testing.assert_close(compiled(pose=pose).vertices, plain(pose=pose).vertices)
    plain.fast = True
    assert plain.rig().fast
    plain.fast = False
    assert not plain.rig().fast


@pytest.mark.parametrize("value", ["yes", None, 1])
def test_it_is_true_or_false(file: Path, value: object) -> None:
    with pytest.raises(TypeError, match=f"Body: fast is {value!r}, expected True or False"):
        avatorch.Body.load(file, fast=value)  # type: ignore[arg-type]
    body = avatorch.Body.load(file)
    with pytest.raises(TypeError, match=f"Body: fast is {value!r}, expected True or False"):
        body.fast = value  # type: ignore[assignment]
    assert body.fast is False and body.rig().prepared


def test_it_may_be_set_before_there_are_numbers(file: Path) -> None:
    whole = avatorch.Body.load(file)
    body = copy.deepcopy(whole).to_empty(device="cpu")
    body.parents.fill_(99)
    body.fast = True
    body.load_state_dict(whole.state_dict())
    assert body.rig().fast and body.rig().prepared


def test_the_interface_of_smplx_has_it_too(tmp_path: Path) -> None:
    model = smplx.create(synthetic.save_npz(tmp_path / "SMPL_NEUTRAL.npz", synthetic.smpl(dtype=np.float32)), "smpl")
    assert not model.fast
    wanted = model().vertices
    model.fast = True
    assert model.rig().fast and copy.deepcopy(model).rig().fast and torch.equal(model().vertices, wanted)


@needs_gpu
@pytest.mark.parametrize("name", POSED_RIGS)
def test_what_is_prepared(name: str) -> None:
    _, narrow, fast = on_gpu(name)
    exact = narrow.prepared()
    assert torch.equal(fast[7], exact[7][:, :, :1]) and fast[7].dtype == torch.float16
    assert all(map(torch.equal, fast[1:7] + fast[8:], exact[1:7] + exact[8:]))


@needs_gpu
@pytest.mark.parametrize(("batch", "matrices"), [(5, False), (17, True), (32, False), (33, True), (70, False)])
@pytest.mark.parametrize("name", POSED_RIGS)
def test_errors(name: str, batch: int, matrices: bool) -> None:
    exact, narrow, prepared = on_gpu(name)
    inputs = all_inputs(exact, batch)
    if matrices:
        inputs["pose"] = reference.rodrigues(inputs["pose"].unflatten(1, (-1, 3)))
    wide, thin = asking(inputs, torch.float64), asking(inputs, torch.float32)
    wanted, found = expected(exact, wide), forward(narrow, thin, prepared)
    # Each term of the blend is a product of two rounded numbers. What moves a vertex makes no error longer: the weights
    # are positive and add up to 1.
    assert exact.posedirs is not None
    features = (wanted[4][:, 1:] - torch.eye(3).to(wanted[4])).flatten(1)
    allowed = 2.01 * HALF * (features.abs() @ exact.posedirs.abs()).unflatten(1, (-1, 3)) + 1e-5
    assert ((found[6].double() - wanted[6]).abs() <= allowed).all()
    assert ((found[0].double() - wanted[0]).norm(dim=2) <= allowed.norm(dim=2) + 1e-5).all()
    cotangents = [torch.randn_like(wanted[0]), torch.randn_like(wanted[1])]
    wanted_gradients = gradients(wanted, wide, cotangents)
    for place, gradient in gradients(found, thin, cotangents).items():
        truth = wanted_gradients[place].flatten(1)
        # That of the pose sums terms which err by twice HALF at most; the others have no rounded number in them.
        tolerance = 4 * HALF if place == "pose" else 1e-5
        errors = (gradient.double().flatten(1) - truth).norm(dim=1)
        assert (errors <= tolerance * truth.norm(dim=1) + 1e-10).all(), place
    assert torch.equal(forward(narrow, thin, prepared, intermediates=False)[0], found[0])
    assert not torch.equal(forward(narrow, thin, narrow.prepared())[0], found[0])


@needs_gpu
def test_few_bodies_are_exact() -> None:
    _, narrow, prepared = on_gpu("smplx")
    inputs = narrow.inputs(4)
    assert torch.equal(forward(narrow, inputs, prepared)[0], forward(narrow, inputs, narrow.prepared())[0])
    one = narrow.inputs(1)
    assert all(map(torch.equal, step(narrow, one, prepared), step(narrow, one, narrow.prepared())))


@needs_gpu
@pytest.mark.parametrize("batch", [2, 40])
def test_the_gradient_of_the_pose_alone(batch: int) -> None:
    _, narrow, prepared = on_gpu("smplx")
    inputs = narrow.inputs(batch)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    vertices = forward(narrow, leaves, prepared)[0]
    _, pose, *_ = torch.autograd.grad(vertices.square().sum(), list(leaves.values()))
    assert list(leaves)[1] == "pose"
    assert_alike((vertices.detach(), pose), step(narrow, inputs, prepared))


@needs_gpu
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("batch", [4, 5, 40])
def test_bodies_that_are_not_finite_keep_to_themselves(batch: int, fast: bool) -> None:
    _, narrow, _ = on_gpu("smplx")
    prepared, inputs = narrow.prepared(fast), narrow.inputs(batch)
    wanted = step(narrow, inputs, prepared)
    inputs["pose"][1, 7], inputs["pose"][2, 20] = float("nan"), float("inf")
    found = step(narrow, inputs, prepared)
    others = [body for body in range(batch) if body not in (1, 2)]
    assert all(torch.equal(one[others], other[others]) for one, other in zip(found, wanted, strict=True))
    assert all(result[[1, 2]].isnan().flatten(1).any(dim=1).all() for result in found)


@needs_gpu
def test_a_body_at_rest_has_no_correctives() -> None:
    _, narrow, prepared = on_gpu("smplx")
    results = forward(narrow, narrow.inputs(40) | {"pose": torch.zeros(40, 165, device="cuda")}, prepared)
    assert torch.equal(results[6], results[2])


@needs_gpu
@pytest.mark.parametrize("name", ["smpl", "two chunks of coordinates"])
def test_more_bodies_than_one_launch(name: str) -> None:
    _, narrow, prepared = on_gpu(name)
    inputs = narrow.inputs(2100)
    vertices, gradient = step(narrow, inputs, prepared)
    for part in (slice(0, 40), slice(1390, 1430), slice(2070, 2100)):
        own = step(narrow, {name: tensor[part] for name, tensor in inputs.items()}, prepared)
        assert_alike((vertices[part], gradient[part]), own)


@needs_gpu
@pytest.mark.parametrize("batch", [20, 333])
def test_the_same_bits_from_run_to_run_and_from_anywhere_in_memory(batch: int) -> None:
    _, narrow, prepared = on_gpu("smplx")
    inputs = narrow.inputs(batch)
    elsewhere = torch.cat([torch.zeros(1, device="cuda").half(), prepared[7].flatten()])[1:].view_as(prepared[7])
    assert elsewhere.data_ptr() % 16
    first = step(narrow, inputs, prepared)
    for again in (prepared, [*prepared[:7], elsewhere, *prepared[8:]], prepared):
        assert all(map(torch.equal, first, step(narrow, inputs, again)))


@needs_gpu
@pytest.mark.parametrize("products", [0, 2, 4])
def test_other_numbers_of_halves_are_refused(products: int) -> None:
    _, narrow, prepared = on_gpu("smplx")
    wrong = prepared[7].expand(-1, -1, max(products, 1), -1).contiguous()
    wrong = wrong if products else wrong.flatten(1, 2)
    with pytest.raises(
        ValueError, match=r"prepared posedirs has shape \[.*\], expected \[\*, \*, 3, \*\], or \[\*, \*, 1, \*\]"
    ):
        forward(narrow, narrow.inputs(20), [*prepared[:7], wrong, *prepared[8:]])


@needs_gpu
def test_a_body_on_a_gpu(tmp_path: Path) -> None:
    arrays = synthetic.smplx(vertices=500, faces=40, columns=20, dtype=np.float32)
    path = synthetic.save_npz(tmp_path / "SMPLX_NEUTRAL.npz", arrays)
    body = avatorch.Body.load(path, fast=True).cuda()
    for other in (body, copy.deepcopy(body), body.subset(range(100)), copy.deepcopy(body).double().float()):
        assert other.rig().prepared[7].shape[2] == 1
    pose = 0.4 * torch.randn(40, body.num_joints, 3, device="cuda")
    found = body(pose=pose).vertices
    torch.testing.assert_close(body.subset(range(100))(pose=pose).vertices, found[:, :100], rtol=1e-5, atol=1e-5)
    compiled = torch.compile(body, fullgraph=True)
    assert torch.equal(compiled(pose=pose).vertices, found)
    state = copy.deepcopy(body.state_dict())
    body.v_template.add_(1)
    assert body(pose=pose).vertices.shape == found.shape and body.rig().prepared[7].shape[2] == 1
    body.load_state_dict(state)
    assert torch.equal(body(pose=pose).vertices, found)
    body.fast = False
    assert body.rig().prepared[7].shape[2] == 3
    assert 0 < (body(pose=pose).vertices - found).abs().max() < 1e-4


@needs_gpu
@pytest.mark.parametrize("batch", [32, 70])
def test_a_cuda_graph(batch: int) -> None:
    _, narrow, prepared = on_gpu("smplx")
    inputs = narrow.inputs(batch)
    wanted = step(narrow, inputs, prepared)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(narrow, inputs, prepared)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step(narrow, inputs, prepared)
    graph.replay()
    assert_alike(found, wanted)
