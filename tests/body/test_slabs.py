"""Bodies on a GPU, few and many at once: slabs of 32 and products on tensor cores, beside the reference in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avatorch import reference
from forward_cases import all_inputs, expected, forward
from rigs import POSED_RIGS, Rig, rig

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

RIGS = POSED_RIGS | {
    "104 joints, nine weights": rig(130, 104, 0, 9, posed=False),
    "one whole tile": rig(64, 16, 20, 3),
    "two whole tiles": rig(128, 17, 12, 4),
    "65 joints, 20 shapes": rig(333, 65, 20, 4),
    "65 joints, 24 shapes": rig(70, 65, 24, 4),
    "64 joints, ten weights": rig(131, 64, 24, 10),
    "joint directions": rig(77, 33, 24, 2, regressed=False, posed=False),
    "more shapes than a lane keeps": rig(60, 16, 40, 4),
}
# What a gradient reaches without a gradient of each vertex's own.
INPUTS = ("shape_coefficients", "pose", "transl", "joint_offsets")


@pytest.fixture(scope="module", params=RIGS)
def models(request: pytest.FixtureRequest) -> tuple[Rig, Rig, list[Tensor]]:
    """A rig in float64, in float32, and what is prepared of the latter."""
    exact = RIGS[request.param].to("cuda")
    narrow = exact.to("cuda", torch.float32)
    return exact, narrow, narrow.prepared()


def narrowed(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in inputs.items()}


def gradients(results: tuple[Tensor, ...], inputs: dict[str, Tensor], cotangents: list[Tensor]) -> list[Tensor]:
    loss = sum((result * cotangent.to(result)).sum() for result, cotangent in zip(results, cotangents, strict=True))
    return list(torch.autograd.grad(loss, [inputs[name] for name in INPUTS]))


def assert_close(found: Tensor, exact: Tensor, tolerance: float = 3e-6) -> None:
    """Each body by itself: a large one must not hide a small one."""
    found, exact = found.double().flatten(1), exact.flatten(1)
    allowed = tolerance * exact.norm(dim=1) + 1e-6 * tolerance
    assert ((found - exact).norm(dim=1) <= allowed).all()


@pytest.mark.parametrize("batch", [1, 2, 4, 5, 31, 32, 33, 64, 100])
@pytest.mark.parametrize("matrices", [False, True], ids=["vectors", "matrices"])
def test_values_and_gradients(models: tuple[Rig, Rig, list[Tensor]], batch: int, matrices: bool) -> None:
    exact, narrow, prepared = models
    inputs = all_inputs(exact, batch)
    if matrices:
        inputs["pose"] = reference.rodrigues(inputs["pose"].unflatten(1, (-1, 3)))
    wide = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    thin = {name: tensor.detach().requires_grad_(name in INPUTS) for name, tensor in narrowed(inputs).items()}
    wanted, found = expected(exact, wide), forward(narrow, thin, prepared)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)
    cotangents = [torch.randn_like(wanted[0]), torch.randn_like(wanted[1])]
    for one, other in zip(gradients(found[:2], thin, cotangents), gradients(wanted[:2], wide, cotangents), strict=True):
        if other.numel():
            assert_close(one, other, 1e-5)
    few = forward(narrow, thin, prepared, intermediates=False)
    assert torch.equal(few[0], found[0]) and few[6].numel() == 0


@pytest.mark.parametrize("name", ["smpl", "two chunks of coordinates"])  # whose runs of vertices end differently
def test_more_bodies_than_one_launch(name: str) -> None:
    model = RIGS[name].to("cuda", torch.float32)
    prepared, inputs = model.prepared(), model.inputs(2100)
    leaves = [inputs[name].requires_grad_() for name in ("pose", "shape_coefficients")]
    vertices = forward(model, inputs, prepared)[0]
    gradients = torch.autograd.grad(vertices.sin().sum(), leaves)
    # The first and the last bodies, and those around where launches meet: forward 1056, backward 704 and 1408.
    for part in (slice(0, 40), slice(690, 720), slice(1040, 1070), slice(1390, 1430), slice(2070, 2100)):
        own = {name: tensor[part].detach() for name, tensor in inputs.items()}
        leaves = [own[name].requires_grad_() for name in ("pose", "shape_coefficients")]
        of_part = forward(model, own, prepared)[0]
        torch.testing.assert_close(vertices[part], of_part, rtol=1e-6, atol=1e-6)
        for whole, wanted in zip(gradients, torch.autograd.grad(of_part.sin().sum(), leaves), strict=True):
            torch.testing.assert_close(whole[part], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [3, 20, 40])
@pytest.mark.parametrize("single", ["shape_coefficients", "pose", "transl", "vertex_offsets", "joint_offsets"])
def test_a_batch_of_one_broadcasts(single: str, batch: int) -> None:
    exact = RIGS["smplx"].to("cuda")
    narrow = exact.to("cuda", torch.float32)
    inputs = all_inputs(exact, batch)
    inputs[single] = inputs[single][:1]
    found, wanted = forward(narrow, narrowed(inputs), narrow.prepared()), expected(exact, inputs)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


def test_gradients_of_every_size() -> None:
    """Halves have a narrow range; each body has a scale of its own."""
    exact = RIGS["smplx"].to("cuda")
    narrow = exact.to("cuda", torch.float32)
    inputs = all_inputs(exact, 48)
    wide = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    thin = {name: tensor.detach().requires_grad_(name in INPUTS) for name, tensor in narrowed(inputs).items()}
    sizes = 10.0 ** torch.linspace(-30, 25, 48, dtype=torch.double, device="cuda")
    sizes[7] = 0
    wanted, found = expected(exact, wide)[0], forward(narrow, thin, narrow.prepared())[0]
    cotangent = torch.randn_like(wanted) * sizes[:, None, None]
    for one, other in zip(
        torch.autograd.grad(found, [thin["pose"], thin["shape_coefficients"]], cotangent.float()),
        torch.autograd.grad(wanted, [wide["pose"], wide["shape_coefficients"]], cotangent),
        strict=True,
    ):
        assert ((one.double() - other).norm(dim=1) <= 1e-5 * other.norm(dim=1)).all()


def test_poses_of_every_size() -> None:
    exact = RIGS["smplx"].to("cuda")
    narrow = exact.to("cuda", torch.float32)
    inputs = exact.inputs(40, matrices=True)
    inputs["pose"] *= 10.0 ** torch.linspace(-6, 0, 40, dtype=torch.double, device="cuda")[:, None, None, None]
    found, wanted = forward(narrow, narrowed(inputs), narrow.prepared()), expected(exact, inputs)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)
    still = {**narrowed(inputs), "pose": torch.zeros(40, 165, device="cuda")}
    rest = forward(narrow, still, narrow.prepared())
    torch.testing.assert_close(rest[6], rest[2], rtol=0, atol=0)


@pytest.mark.parametrize("batch", [1, 3, 20, 333])
def test_the_same_bits_from_run_to_run(batch: int) -> None:
    model = RIGS["smplx"].to("cuda", torch.float32)
    prepared, inputs = model.prepared(), model.inputs(batch)
    pose = inputs["pose"].requires_grad_()

    def run() -> tuple[Tensor, ...]:
        vertices = forward(model, inputs, prepared)[0]
        return vertices.detach(), *torch.autograd.grad(vertices.square().sum(), pose)

    first = run()
    for _ in range(3):
        assert all(map(torch.equal, first, run()))


def test_pose_directions_anywhere_in_memory() -> None:
    model = RIGS["smplx"].to("cuda", torch.float32)
    prepared, inputs = model.prepared(), model.inputs(20)
    pose = inputs["pose"].requires_grad_()
    pair = prepared[7]
    elsewhere = torch.cat([torch.zeros(1, device="cuda").half(), pair.flatten()])[1:].view_as(pair)
    assert elsewhere.data_ptr() % 16 and elsewhere.is_contiguous()

    def run(preparation: list[Tensor]) -> tuple[Tensor, ...]:
        vertices = forward(model, inputs, preparation)[0]
        return vertices.detach(), *torch.autograd.grad(vertices.square().sum(), pose)

    assert all(map(torch.equal, run(prepared), run([*prepared[:7], elsewhere, *prepared[8:]])))


def test_saved_tensors_anywhere_in_memory() -> None:
    model = RIGS["smplx"].to("cuda", torch.float32)
    prepared, inputs = model.prepared(), {n: t.requires_grad_() for n, t in model.inputs(20).items()}

    def elsewhere(tensor: Tensor) -> Tensor:
        return torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view_as(tensor)

    def run() -> tuple[Tensor, ...]:
        vertices = forward(model, inputs, prepared)[0]
        return torch.autograd.grad(vertices.square().sum(), list(inputs.values()))

    usual = run()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, elsewhere):
        assert all(map(torch.equal, usual, run()))


@pytest.mark.parametrize("batch", [3, 40])
def test_a_template_that_is_copied_meanwhile(batch: int) -> None:
    """Skinning begins before the kernel in front of it has ended."""
    model = RIGS["joint directions"].to("cuda", torch.float32)
    inputs = model.inputs(batch)
    across = replace(model, v_template=model.v_template.t().contiguous().t())
    assert not across.v_template.is_contiguous()
    found, wanted = forward(across, inputs, across.prepared()), forward(model, inputs, model.prepared())
    assert all(map(torch.equal, found, wanted))


def test_changed_pose_directions_are_noticed() -> None:
    model = RIGS["smplx"].to("cuda", torch.float32)
    prepared, inputs = model.prepared(), model.inputs(20)
    forward(model, inputs, prepared)
    assert model.posedirs is not None
    model.posedirs.mul_(1.5)
    with pytest.raises(ValueError, match="posedirs was changed in place after smplx::prepare"):
        forward(model, inputs, prepared)


def test_sums_in_halves_that_torch_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RIGS["smplx"].to("cuda", torch.float32)
    prepared, inputs = model.prepared(), {n: t.requires_grad_() for n, t in model.inputs(70).items()}

    def run() -> tuple[Tensor, ...]:
        vertices = forward(model, inputs, prepared)[0]
        return vertices.detach(), *torch.autograd.grad(vertices.square().sum(), list(inputs.values()))

    usual = run()
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", True)
    assert all(map(torch.equal, usual, run()))
    assert torch.backends.cuda.matmul.allow_fp16_accumulation
