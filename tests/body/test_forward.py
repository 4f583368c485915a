"""smplx::forward: values, and every gradient to second order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from forward_cases import all_inputs, expected, forward, with_leaves
from rigs import Rig, rig, rigs
from transforms import TRANSFORMS, assert_equal

RIGS = rigs()
double = torch.double


@pytest.mark.parametrize("name", RIGS)
@pytest.mark.parametrize("matrices", [False, True], ids=["vectors", "matrices"])
@pytest.mark.parametrize("batch", [0, 1, 2, 31])
@pytest.mark.parametrize("prepare", [False, True], ids=["plain", "prepared"])
def test_equals_the_reference(name: str, matrices: bool, batch: int, prepare: bool, device: str) -> None:
    model = RIGS[name].to(device)
    inputs = all_inputs(model, batch, matrices)
    found = forward(model, inputs, model.prepared() if prepare else None)
    assert len(found) == 7
    for one, other in zip(found, expected(model, inputs), strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("single", ["shape_coefficients", "pose", "transl", "vertex_offsets", "joint_offsets"])
def test_a_batch_of_one_broadcasts(single: str, device: str) -> None:
    model = RIGS["five joints"].to(device)
    model, inputs, leaves = with_leaves(model, all_inputs(model, 4))
    inputs[single] = inputs[single][:1].detach().requires_grad_()
    leaves = [*inputs.values(), *leaves[5:]]
    found, wanted = forward(model, inputs), expected(model, inputs)
    assert_equal(found, wanted)
    cotangents = [torch.randn_like(result) for result in wanted]
    assert_equal(torch.autograd.grad(found, leaves, cotangents), torch.autograd.grad(wanted, leaves, cotangents))


@pytest.mark.parametrize("matrices", [False, True], ids=["vectors", "matrices"])
@pytest.mark.parametrize("intermediates", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 40])
def test_every_result_has_memory_of_its_own(batch: int, intermediates: bool, matrices: bool, device: str) -> None:
    """What a call needs for itself lies together; no result must keep it alive."""
    model = RIGS["five joints"].to(device, torch.float32)
    inputs = {name: tensor.float() for name, tensor in all_inputs(model, batch, matrices).items()}
    leaves = [inputs[name].requires_grad_() for name in ("shape_coefficients", "pose", "transl", "joint_offsets")]
    found = forward(model, inputs, model.prepared(), intermediates=intermediates)
    made = [*found, *torch.autograd.grad(found[0].sum() + found[1].sum(), leaves)]
    storages = [tensor.untyped_storage() for tensor in made]
    assert [storage.nbytes() for storage in storages] == [tensor.nbytes for tensor in made]
    places = [storage.data_ptr() for storage in storages if storage.nbytes() > 0]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_template_for_each_body(batch: int, device: str) -> None:
    model = RIGS["five joints"].to(device)
    prepared = model.prepared()
    own = replace(
        model,
        v_template=model.v_template + 0.1 * torch.randn(batch, *model.v_template.shape, dtype=double, device=device),
    )
    inputs = all_inputs(model, 3)
    for preparation in (None, prepared):
        assert_equal(forward(own, inputs, preparation), expected(own, inputs))


@pytest.mark.parametrize("name", RIGS)
@pytest.mark.parametrize("matrices", [False, True], ids=["vectors", "matrices"])
def test_gradients_of_every_result_to_every_input(name: str, matrices: bool, device: str) -> None:
    model = RIGS[name].to(device)
    model, inputs, leaves = with_leaves(model, all_inputs(model, 3, matrices))
    found, wanted = forward(model, inputs), expected(model, inputs)
    cotangents = [torch.randn_like(result) for result in wanted]
    for i in range(len(found)):
        one = torch.autograd.grad(found[i], leaves, cotangents[i], retain_graph=True, allow_unused=True)
        other = torch.autograd.grad(wanted[i], leaves, cotangents[i], retain_graph=True, allow_unused=True)
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", RIGS)
def test_only_what_is_asked_for(name: str, device: str) -> None:
    model = RIGS[name].to(device)
    full_model, full_inputs, leaves = with_leaves(model, all_inputs(model, 2))
    everything = torch.autograd.grad(forward(full_model, full_inputs)[0].sin().sum(), leaves)
    inputs = {name: tensor.detach() for name, tensor in full_inputs.items()}
    tensors = {**inputs, **{n: t for n, t in vars(model).items() if t is not None and t.is_floating_point()}}
    for (argument, tensor), wanted in zip(tensors.items(), everything, strict=True):
        leaf = tensor.detach().clone().requires_grad_()
        some = {**inputs, argument: leaf} if argument in inputs else inputs
        rigged = model if argument in inputs else replace(model, **{argument: leaf})
        for prepared in (None, model.prepared()):
            if prepared is not None and argument not in inputs:
                continue
            (found,) = torch.autograd.grad(forward(rigged, some, prepared)[0].sin().sum(), leaf)
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


def flat_function(
    model: Rig, inputs: dict[str, Tensor], results: slice = slice(None)
) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """The operator as a function of every tensor that can have a gradient."""
    model, inputs, leaves = with_leaves(model, inputs)
    floating = [name for name, tensor in vars(model).items() if tensor is not None and tensor.is_floating_point()]

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip([*inputs, *floating], tensors, strict=True))
        return forward(replace(model, **{n: given[n] for n in floating}), {n: given[n] for n in inputs})[results]

    return function, leaves


SMALL = {
    "one vertex, one joint": rig(1, 1, 1, 1),
    "three joints": rig(3, 3, 2, 2),
    "no pose correctives, nine weights": rig(2, 9, 1, 9, posed=False),
    "no shapes": rig(2, 3, 0, 2),
    "joint directions": rig(3, 3, 2, 2, regressed=False, posed=False),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("matrices", [False, True], ids=["vectors", "matrices"])
def test_gradcheck(name: str, matrices: bool, device: str) -> None:
    model = SMALL[name].to(device)
    function, leaves = flat_function(model, all_inputs(model, 2, matrices))
    assert gradcheck(function, leaves, check_forward_ad=True, check_batched_grad=True, fast_mode=False)
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True, fast_mode=True)


def test_gradcheck_of_104_joints(device: str) -> None:
    model = rig(2, 104, 1, 9, posed=False).to(device)
    function, leaves = flat_function(model, all_inputs(model, 1))
    assert gradcheck(function, leaves, check_forward_ad=True, fast_mode=True)
    # Second derivatives of the chain go through torch's gathers, which on a GPU add with atomics.
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True, fast_mode=True, nondet_tol=1e-9)


def test_gradgradcheck_in_full(device: str) -> None:
    model = rig(2, 2, 1, 2).to(device)
    function, leaves = flat_function(model, all_inputs(model, 1))
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True, check_batched_grad=True)


@pytest.mark.parametrize("intermediates", [True, False])
def test_second_derivatives_with_preparation(intermediates: bool, device: str) -> None:
    model = RIGS["five joints"].to(device)
    prepared = model.prepared()
    pose = torch.zeros(2, 15, dtype=double, device=device, requires_grad=True)
    inputs = {**all_inputs(model, 2), "pose": pose}
    direction = torch.randn_like(pose)

    def product(run: Callable[[], Tensor]) -> Tensor:
        (gradient,) = torch.autograd.grad(run().sin().sum(), pose, create_graph=True)
        return torch.autograd.grad((gradient * direction).sum(), pose)[0]

    found = product(lambda: forward(model, inputs, prepared, intermediates=intermediates)[0])
    torch.testing.assert_close(found, product(lambda: expected(model, inputs)[0]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("argument", ["pose", "shape_coefficients", "v_template"])
def test_torch_func(transform: str, argument: str, device: str, recwarn: pytest.WarningsRecorder) -> None:
    model = rig(4, 3, 2, 2).to(device)
    inputs = all_inputs(model, 2)

    def of(run: Callable[[Rig, dict[str, Tensor]], tuple[Tensor, ...]]) -> Callable[[Tensor], Tensor]:
        def function(x: Tensor) -> Tensor:
            if argument == "v_template":
                return run(replace(model, v_template=x), inputs)[0]
            return run(model, {**inputs, argument: x})[0]

        return function

    x = model.v_template if argument == "v_template" else inputs[argument]
    if argument == "pose":
        x = torch.zeros_like(x)
    t, xs = torch.randn_like(x), torch.stack([x, x + 0.1 * torch.randn_like(x), 2 * x])
    found, wanted = (TRANSFORMS[transform](of(run), x, t, xs) for run in (forward, expected))
    assert_equal(found, wanted, 1e-8)
    assert not [warning for warning in recwarn if "performance drop" in str(warning.message)], "vmap has a rule"


@pytest.mark.parametrize("argument", ["shapedirs", "posedirs", "J_regressor", "lbs_weights"])
def test_vmap_over_the_model(argument: str, device: str) -> None:
    model = rig(4, 3, 2, 2).to(device)
    inputs = all_inputs(model, 2)
    stacked = torch.stack([getattr(model, argument) * (1 + i) for i in range(3)])
    found = torch.func.vmap(lambda x: forward(replace(model, **{argument: x}), inputs)[0])(stacked)
    wanted = torch.stack([expected(replace(model, **{argument: x}), inputs)[0] for x in stacked])
    assert_equal(found, wanted)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("bodies", [0, 1, 2])
def test_vmap_over_templates_and_weights_at_any_dimension(dim: int, bodies: int, device: str) -> None:
    model = rig(3, 3, 2, 2).to(device)  # as many slices as vertices and joints: a dimension taken for another shows
    inputs = model.inputs(bodies or 1)
    shape = (bodies, 3, 3) if bodies else (3, 3)
    templates = [model.v_template + 0.1 * torch.randn(shape, dtype=double, device=device) for _ in range(3)]
    weights = [model.lbs_weights * (1 + i) for i in range(3)]

    def of(run: Callable[..., tuple[Tensor, ...]], template: Tensor, weight: Tensor) -> Tensor:
        return run(replace(model, v_template=template, lbs_weights=weight), inputs)[0]

    found = torch.func.vmap(lambda t, w: of(forward, t, w), in_dims=(dim, 1))(
        torch.stack(templates, dim), torch.stack(weights, 1)
    )
    assert_equal(found, torch.stack([of(expected, t, w) for t, w in zip(templates, weights, strict=True)]))


def test_hessian_vector_product_at_zero_pose_is_exact(device: str) -> None:
    """The textbook `norm(r + 1e-8)` is off by 1.7 % here in float32."""
    model = rig(40, 8, 2, 3).to(device)
    shape = torch.zeros(1, 2, dtype=double, device=device)
    target = model.v_template + 0.1

    def product(run: Callable[[Rig, dict[str, Tensor]], tuple[Tensor, ...]], dtype: torch.dtype) -> Tensor:
        rigged, pose = model.to(device, dtype), torch.zeros(1, 24, dtype=dtype, device=device, requires_grad=True)
        loss = (run(rigged, {"shape_coefficients": shape.to(dtype), "pose": pose})[0] - target.to(dtype)).square().sum()
        (gradient,) = torch.autograd.grad(loss, pose, create_graph=True)
        return torch.autograd.grad(gradient.sum(), pose)[0].double()

    exact = product(expected, double)
    assert (product(forward, double) - exact).norm() <= 1e-12 * exact.norm()
    assert (product(forward, torch.float32) - exact).norm() <= 1e-5 * exact.norm()


def test_weights_that_do_not_sum_to_one_are_used_as_they_are(device: str) -> None:
    model = RIGS["five joints"].to(device)
    model = replace(model, lbs_weights=1.7 * model.lbs_weights)
    assert_equal(forward(model, model.inputs(2), model.prepared()), expected(model, model.inputs(2)))


def test_transposed_expanded_and_sliced_inputs(device: str) -> None:
    model = RIGS["five joints"].to(device)
    wanted_inputs = all_inputs(model, 3)
    inputs = {name: torch.stack([tensor, tensor], -1)[..., 0] for name, tensor in wanted_inputs.items()}
    inputs["transl"] = wanted_inputs["transl"].T.contiguous().T
    scattered = Rig(**{n: None if t is None else torch.stack([t, t], -1)[..., 1] for n, t in vars(model).items()})
    assert not scattered.posedirs.is_contiguous() and not inputs["pose"].is_contiguous()
    assert_equal(forward(scattered, inputs), expected(model, wanted_inputs))
    inputs["pose"] = wanted_inputs["pose"][:1].expand(3, -1)
    assert_equal(forward(model, inputs), expected(model, inputs))
