"""smplx::forward under wrong arguments, bad numbers, threads, streams and huge batches."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forward_cases import expected, forward, with_leaves
from rigs import Rig, rig, rigs
from transforms import assert_equal

RIGS = rigs()
double = torch.double


def test_a_stale_preparation_is_refused(device: str) -> None:
    model = RIGS["five joints"].to(device)
    inputs = model.inputs(2)
    prepared = model.prepared()
    forward(model, inputs, prepared)
    copied = Rig(**{name: None if tensor is None else tensor.clone() for name, tensor in vars(model).items()})
    assert_equal(forward(copied, inputs, prepared), forward(model, inputs))
    copied.lbs_weights[0, 0] += 0.1
    with pytest.raises(ValueError, match="lbs_weights was changed in place after smplx::prepare"):
        forward(copied, inputs, prepared)
    assert_equal(forward(copied, inputs, copied.prepared()), expected(copied, inputs))
    other = replace(model, shapedirs=model.shapedirs.flip(0))
    with pytest.raises(ValueError, match="shapedirs is not the tensor that smplx::prepare looked at"):
        forward(other, inputs, prepared)
    with pytest.raises(ValueError, match="prepared holds 2 tensors, expected the 11"):
        forward(model, inputs, prepared[:2])


def test_a_preparation_is_refused_with_a_tensor_that_was_not_made_for_it(device: str) -> None:
    model, inputs = RIGS["five joints"].to(device), RIGS["five joints"].to(device).inputs(2)
    prepared = model.prepared()
    assert_equal(forward(model, inputs, [tensor.clone() for tensor in prepared]), forward(model, inputs))
    others = replace(model, lbs_weights=model.lbs_weights.roll(1, 1)).prepared()
    for place in (3, 4, 5, 6, 9, 10):
        mixed = [*prepared[:place], others[place], *prepared[place + 1 :]]
        if not torch.equal(mixed[place], prepared[place]):
            with pytest.raises(
                ValueError, match=rf"prepared\[{place}\] is not the tensor that smplx::prepare looked at"
            ):
                forward(model, inputs, mixed)
    for place in range(1, 7):
        no_memory = torch._efficientzerotensor(
            prepared[place].shape, dtype=prepared[place].dtype, device=prepared[place].device
        )
        with pytest.raises(ValueError, match=rf"prepared\[{place}\]"):
            forward(model, inputs, [*prepared[:place], no_memory, *prepared[place + 1 :]])
        negated = torch._neg_view(-prepared[place])
        with pytest.raises(ValueError, match=rf"prepared\[{place}\] stands for numbers that are not in memory"):
            forward(model, inputs, [*prepared[:place], negated, *prepared[place + 1 :]])
    prepared[4].add_(1000)
    with pytest.raises(ValueError, match=r"prepared\[4\] was changed in place"):
        forward(model, inputs, prepared)


def test_a_preparation_of_zeros_still_needs_memory(device: str) -> None:
    model = replace(RIGS["five joints"], J_regressor=torch.zeros(5, 7, dtype=double)).to(device)
    inputs, prepared = model.inputs(2), model.prepared()
    no_memory = torch._efficientzerotensor(prepared[1].shape, dtype=double, device=device)
    with pytest.raises(ValueError, match=r"prepared\[1\] stands for numbers that are not in memory"):
        forward(model, inputs, [prepared[0], no_memory, *prepared[2:]])


@pytest.mark.parametrize("name", ["v_template", "shapedirs", "J_regressor", "lbs_weights"])
@pytest.mark.parametrize("beside", [0.0, math.nan, math.inf])
def test_the_smallest_change_of_a_large_model_is_noticed(name: str, beside: float, device: str) -> None:
    model = rig(10475, 20, 4, 4, posed=False).to(device, torch.float32)
    model = replace(model, **{name: getattr(model, name).clone()})
    tensor = getattr(model, name)
    tensor.view(-1)[-1] = beside
    inputs, prepared = model.inputs(1), model.prepared()
    forward(model, inputs, prepared)
    tensor.view(-1)[7] += 1e-6
    with pytest.raises(ValueError, match=f"{name} was changed in place after smplx::prepare"):
        forward(model, inputs, prepared)


def test_shapes_are_checked_before_a_preparation_is_compared(device: str) -> None:
    model = RIGS["five joints"].to(device)
    inputs, prepared = model.inputs(2), model.prepared()
    endless = model.v_template.new_zeros(1)
    for name, shape in (
        ("v_template", (1 << 40, 3)),
        ("shapedirs", (7, 3, 1 << 40)),
        ("J_regressor", (5, 1 << 40)),
        ("lbs_weights", (1 << 40, 5)),
    ):
        with pytest.raises(ValueError, match="has shape"):
            forward(replace(model, **{name: endless.expand(shape)}), inputs, prepared)
    with pytest.raises(TypeError, match="smplx::forward: v_template is missing, expected a tensor"):
        forward(replace(model, v_template=None), inputs, prepared)


def backward_arguments(model: Rig, bodies: int) -> dict[str, Tensor | None]:
    """What a backward pass calls smplx::forward_backward with."""
    inputs, prepared = model.inputs(bodies), model.prepared()
    results = forward(model, inputs, prepared)
    names = ("vertices", "joints", "v_shaped", "J_shaped", "rot_mats", "A_global", "v_posed")
    gradients = {f"grad_{name}": torch.ones_like(result) for name, result in zip(names, results, strict=True)}
    kept = dict(zip(names[2:], results[2:], strict=True))
    rigged = {name: tensor for name, tensor in vars(model).items() if name not in ("v_template", "J_template")}
    lists = ("folded_dirs", "packed_weights", "packed_joints", "order", "start", "pose_pair", "pose_units", "moved")
    of_model = dict(zip((*lists, "moved_weights"), prepared[2:], strict=True))
    del inputs["transl"]
    return gradients | inputs | rigged | kept | of_model


def test_a_backward_pass_knows_its_joints() -> None:
    arguments = backward_arguments(RIGS["five joints"], 3)
    with pytest.raises(IndexError, match="smplx::forward_backward: joints holds 1004, expected -1 to 4"):
        torch.ops.smplx.forward_backward(
            **arguments | {"packed_joints": arguments["packed_joints"].clamp(4) + 1000}, needs=1
        )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("shape_coefficients", lambda x: x[:0]),
        ("shape_coefficients", lambda x: torch.cat([x, x])),
        ("pose", lambda x: x[:0]),
        ("pose", lambda x: x[:2]),
        ("pose", lambda x: torch.cat([x, x])),
        ("pose", lambda x: x[:, :-1]),
        ("pose", lambda x: x.new_zeros(())),
        ("pose", lambda x: x.new_zeros(3, 5, 0)),
        ("pose", lambda x: x.new_zeros(1).expand(3, 1 << 40)),
        ("folded_dirs", lambda x: x[:1]),
        ("order", lambda x: x[:-1]),
        ("order", Tensor.int),
        ("start", lambda x: x[:-1]),
        ("moved", lambda x: x[:-1]),
        ("moved", Tensor.long),
        ("moved_weights", Tensor.half),
    ],
)
def test_a_backward_pass_checks_what_it_reads(name: str, wrong: Callable[[Tensor], Tensor], device: str) -> None:
    arguments = backward_arguments(RIGS["five joints"].to(device), 3)
    needs = 0b11  # of the coefficients and the pose
    torch.ops.smplx.forward_backward(**arguments, needs=needs)
    with pytest.raises((ValueError, TypeError), match=r"smplx::forward_backward: .* expected"):
        torch.ops.smplx.forward_backward(**arguments | {name: wrong(arguments[name])}, needs=needs)


def test_a_backward_pass_without_joints_gives_zeros() -> None:
    few = backward_arguments(RIGS["joint directions"], 3)
    none = {name: None for name in few if name.startswith("grad_") or name in ("order", "start", "moved")}
    none |= {name: None for name in ("folded_dirs", "packed_weights", "packed_joints", "moved_weights")}
    of_joints = {name: few[name][:, :0] for name in ("J_shaped", "rot_mats", "A_global", "lbs_weights")}
    of_joints |= {name: few[name][:0] for name in ("parents", "J_shapedirs")}
    arguments = few | none | of_joints | {"pose": few["pose"][:, :0], "grad_vertices": few["grad_vertices"]}
    shape, pose, *_ = torch.ops.smplx.forward_backward(**arguments, needs=0b11)
    assert torch.equal(shape, torch.zeros_like(few["shape_coefficients"])) and pose.shape == (3, 0)


def test_numbers_that_are_none_are_prepared_as_they_are(device: str) -> None:
    for value in (math.inf, -math.inf, math.nan):
        model = RIGS["five joints"].to(device)
        model = replace(model, v_template=model.v_template.clone())
        model.v_template[2, 1] = value
        vertices = forward(model, model.inputs(2), model.prepared())[0]
        assert not vertices[:, 2].isfinite().all()


def test_what_is_missing_is_named() -> None:
    model = RIGS["five joints"]
    inputs = model.inputs(2)
    for name in ("v_template", "shapedirs", "parents", "lbs_weights"):
        without = replace(model, **{name: None})
        with pytest.raises(TypeError, match=f"smplx::forward: {name} is missing, expected a tensor"):
            forward(without, inputs)
        with pytest.raises(TypeError, match=f"smplx::prepare: {name} is missing, expected a tensor"):
            without.prepared()
    for preparation in (None, model.prepared()):
        with pytest.raises(TypeError, match="smplx::forward: pose is missing, expected a tensor"):
            forward(model, {**inputs, "pose": None}, preparation)


@pytest.mark.parametrize(
    ("error", "sentence", "name", "wrong"),
    [
        (TypeError, "v_template is bool, expected float32 or float64", "v_template", Tensor.bool),
        (TypeError, "shapedirs is complex64, expected float64 as v_template", "shapedirs", Tensor.cfloat),
        (TypeError, "lbs_weights is float32, expected float64 as v_template", "lbs_weights", Tensor.float),
        (TypeError, "parents is int32, expected int64", "parents", Tensor.int),
        (ValueError, r"posedirs has shape \[35, 21\], expected \[36, 21\]", "posedirs", lambda x: x[1:]),
        (ValueError, r"J_regressor has shape \[5, 6\], expected \[5, 7\]", "J_regressor", lambda x: x[:, 1:]),
        (ValueError, r"shapedirs has shape \[6, 3, 3\], expected \[7, 3, \*\]", "shapedirs", lambda x: x[1:]),
        (ValueError, r"parents has shape \[4\], expected \[5\]", "parents", lambda x: x[1:]),
    ],
)
def test_what_cannot_be_prepared_is_named(
    error: type[Exception], sentence: str, name: str, wrong: Callable[[Tensor], Tensor], device: str
) -> None:
    model = RIGS["five joints"].to(device)
    with pytest.raises(error, match=f"smplx::prepare: {sentence}"):
        replace(model, **{name: wrong(getattr(model, name))}).prepared()


def test_vmap_over_nothing(device: str) -> None:
    model = RIGS["five joints"].to(device)
    inputs = model.inputs(2)

    def nothing(name: str) -> Tensor:
        like = inputs.get(name, getattr(model, name, None))
        return like.new_zeros(0, *like.shape)

    by_pose = torch.vmap(lambda pose: forward(model, {**inputs, "pose": pose})[0])(nothing("pose"))
    by_weights = torch.vmap(lambda weights: forward(replace(model, lbs_weights=weights), inputs)[0])
    assert by_pose.shape == by_weights(nothing("lbs_weights")).shape == (0, 2, 7, 3)


def test_wrong_arguments_are_sentences(device: str) -> None:
    model = RIGS["five joints"].to(device)
    inputs = model.inputs(2)

    def refuses(error: type[Exception], sentence: str, rigged: Rig = model, **changed: Tensor) -> None:
        with pytest.raises(error, match=sentence):
            forward(rigged, {**inputs, **changed})

    refuses(
        ValueError,
        r"shape_coefficients has shape \[2, 4\], expected \[2, 3\]",
        shape_coefficients=torch.randn(2, 4, dtype=double, device=device),
    )
    refuses(
        ValueError,
        r"pose has shape \[2, 14\], expected \[2, 15\]",
        pose=torch.randn(2, 14, dtype=double, device=device),
    )
    refuses(ValueError, r"pose has shape \[5\]", pose=torch.randn(5, dtype=double, device=device))
    refuses(
        ValueError,
        r"transl has shape \[3, 3\], expected \[2, 3\]",
        transl=torch.randn(3, 3, dtype=double, device=device),
    )
    refuses(TypeError, "transl is float32, expected float64 as v_template", transl=torch.randn(2, 3, device=device))
    refuses(
        ValueError,
        r"shapedirs has shape \[6, 3, 3\], expected \[7, 3, \*\]",
        replace(model, shapedirs=model.shapedirs[1:]),
    )
    refuses(
        ValueError, r"posedirs has shape \[35, 21\], expected \[36, 21\]", replace(model, posedirs=model.posedirs[1:])
    )
    refuses(TypeError, "parents is int32, expected int64", replace(model, parents=model.parents.int()))
    refuses(ValueError, "either J_regressor or both J_template and J_shapedirs", replace(model, J_regressor=None))
    if device == "cpu":
        cyclic = model.parents.clone()
        cyclic[2] = 4
        refuses(
            IndexError,
            r"smplx::forward: parents\[2\] is 4, expected -1 for a root or an earlier joint",
            replace(model, parents=cyclic),
        )
    with pytest.raises(IndexError, match=r"smplx::prepare: parents\[0\] is 3"):
        replace(model, parents=model.parents + 4).prepared()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("bodies", [9, 70])  # one by one, and in slabs where there is a GPU
def test_one_bad_body_leaves_the_others_alone(bodies: int, value: float, device: str) -> None:
    model = rig(60, 24, 5, 4).to(device, torch.float32)
    prepared = model.prepared()
    inputs = {name: tensor.requires_grad_() for name, tensor in model.inputs(bodies).items()}
    bad = {name: tensor.detach().clone() for name, tensor in inputs.items()}
    bad["pose"][4, 7] = value
    bad["shape_coefficients"][4, 0] = value
    bad = {name: tensor.requires_grad_() for name, tensor in bad.items()}
    others = torch.arange(bodies, device=device) != 4
    clean, dirty = forward(model, inputs, prepared), forward(model, bad, prepared)
    assert dirty[0][4].isnan().any()
    for one, other in zip(clean, dirty, strict=True):
        assert torch.equal(one[others], other[others])
    clean[0].square().sum().backward()
    dirty[0].square().sum().backward()
    for name in inputs:
        assert torch.equal(inputs[name].grad[others], bad[name].grad[others])


def values_and_gradients(model: Rig, prepared: list[Tensor]) -> list[Tensor]:
    rigged, inputs, leaves = with_leaves(model, model.inputs(7))
    return [
        *(result.detach() for result in forward(model, inputs, prepared)),
        *torch.autograd.grad(forward(rigged, inputs)[0].square().sum(), leaves),
    ]


def test_the_same_bits_from_run_to_run(device: str) -> None:
    model = rig(500, 24, 5, 4).to(device, torch.float32)
    prepared = model.prepared()
    first = values_and_gradients(model, prepared)
    for _ in range(3):
        assert all(map(torch.equal, first, values_and_gradients(model, prepared)))
    torch.use_deterministic_algorithms(True)
    try:
        assert all(map(torch.equal, first, values_and_gradients(model, prepared)))
    finally:
        torch.use_deterministic_algorithms(False)


def test_eight_threads(device: str) -> None:
    model = rig(80, 12, 4, 4).to(device)
    prepared = model.prepared()
    inputs = model.inputs(5)

    def gradient() -> Tensor:
        pose = inputs["pose"].detach().clone().requires_grad_()
        return torch.autograd.grad(forward(model, {**inputs, "pose": pose}, prepared)[0].sin().sum(), pose)[0]

    wanted, wrong = gradient(), []

    def work() -> None:
        wrong.extend(i for i in range(25) if not torch.equal(gradient(), wanted))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_more_bodies_than_32_bits_of_coordinates() -> None:
    model = rig(10475, 5, 2, 2).to("cuda", torch.float32)
    prepared = model.prepared()
    inputs = model.inputs(68_400)
    pose = inputs["pose"].requires_grad_()
    vertices = forward(model, inputs, prepared)[0]
    for body in (0, 68_337, 68_338, 68_399):
        one = {name: tensor[body : body + 1].detach() for name, tensor in inputs.items()}
        torch.testing.assert_close(
            vertices[body : body + 1].detach(), forward(model, one, prepared)[0], rtol=1e-5, atol=1e-5
        )
    (gradient,) = torch.autograd.grad(vertices[68_399].sum(), pose)
    assert gradient[68_399].abs().sum() > 0 and gradient[:68_399].abs().max() == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_several_streams_at_once() -> None:
    model = rig(2000, 24, 5, 4).to("cuda", torch.float32)
    prepared = model.prepared()
    wanted = values_and_gradients(model, prepared)
    streams = [torch.cuda.Stream() for _ in range(4)]
    torch.cuda.synchronize()
    found = []
    for _ in range(5):
        for stream in streams:
            with torch.cuda.stream(stream):
                found.append(values_and_gradients(model, prepared))
    torch.cuda.synchronize()
    for results in found:
        assert all(map(torch.equal, wanted, results))


def test_a_meta_tensor_among_others_is_refused() -> None:
    model = RIGS["five joints"]
    inputs = model.inputs(2)
    for name, tensor in inputs.items():
        with pytest.raises(ValueError, match="smplx::forward: a tensor is on cpu, expected meta as others are"):
            forward(model, {**inputs, name: tensor.to("meta")})
    with pytest.raises(ValueError, match="smplx::skinning: a tensor is on cpu"):
        torch.ops.smplx.skinning(
            torch.randn(2, 7, 3, dtype=double, device="meta"), torch.randn(2, 5, 4, 4, dtype=double), model.lbs_weights
        )
    vertices = forward(model.to("meta"), {name: tensor.to("meta") for name, tensor in inputs.items()})[0]
    assert vertices.is_meta and vertices.shape == (2, 7, 3)


def test_no_body_and_no_vertex_have_gradients_too(device: str) -> None:
    model = RIGS["five joints"].to(device)
    rigged, inputs, leaves = with_leaves(model, model.inputs(0))
    gradients = torch.autograd.grad(sum(result.sum() for result in forward(rigged, inputs)), leaves)
    assert all(gradient.shape == leaf.shape for gradient, leaf in zip(gradients, leaves, strict=True))
    empty = replace(
        model, v_template=model.v_template[:0], shapedirs=model.shapedirs[:0], posedirs=None, J_regressor=None,
        lbs_weights=model.lbs_weights[:0], J_template=model.v_template[:5], J_shapedirs=model.shapedirs[:5],
    )  # fmt: skip
    rigged, inputs, leaves = with_leaves(empty, model.inputs(2))
    found, wanted = forward(rigged, inputs), expected(rigged, inputs)
    assert_equal(found, wanted)
    torch.autograd.grad(found[1].sum(), leaves, allow_unused=True)
