"""smplx::forward in each way torch may run it: compiled, exported, under autocast, in a CUDA graph, ..."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._dynamo.utils
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import avatorch
from forward_cases import all_inputs, forward, with_leaves
from rigs import Rig, rig, rigs
from transforms import TRANSFORMS, assert_equal

RIGS = rigs()
double = torch.double


def test_opcheck(device: str) -> None:
    model = RIGS["five joints"].to(device)
    for options in ({}, {"prepared": model.prepared()}, {"intermediates": False}):
        for asking in (False, True):
            rigged, inputs = (model, all_inputs(model, 2))
            if asking:
                rigged, inputs, _ = with_leaves(model, inputs)
                if "prepared" in options:
                    rigged = model
            arguments = (
                inputs["shape_coefficients"], inputs["pose"], inputs["transl"], rigged.v_template, rigged.shapedirs,
                rigged.posedirs, rigged.J_regressor, rigged.parents, rigged.lbs_weights,
            )  # fmt: skip
            torch.library.opcheck(torch.ops.smplx.forward.default, arguments, options)


class Module(torch.nn.Module):
    """A body with its preparation, as a user would hold it."""

    def __init__(self, model: Rig) -> None:
        super().__init__()
        self.names = [name for name, tensor in vars(model).items() if tensor is not None]
        for name in self.names:
            self.register_buffer(name, getattr(model, name))
        for i, tensor in enumerate(model.prepared()):
            self.register_buffer(f"prepared_{i}", tensor)

    def forward(self, shape: Tensor, pose: Tensor) -> tuple[Tensor, ...]:
        model = Rig(
            **{name: None for name in Rig.__dataclass_fields__} | {name: getattr(self, name) for name in self.names}
        )
        prepared = [getattr(self, f"prepared_{i}") for i in range(11)]
        return forward(model, {"shape_coefficients": shape, "pose": pose}, prepared)


def test_compile_fullgraph_without_recompiling(device: str) -> None:
    model = RIGS["five joints"].to(device)
    body = Module(model)
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(lambda s, p: body(s, p)[0].sin() + body(s, p)[6], fullgraph=True, dynamic=True)
    for batch in (4, 8, 31):
        inputs = model.inputs(batch)
        shape, pose = (inputs[name].requires_grad_() for name in ("shape_coefficients", "pose"))
        found, wanted = compiled(shape, pose), body(shape, pose)[0].sin() + body(shape, pose)[6]
        torch.testing.assert_close(found, wanted)
        assert_equal(torch.autograd.grad(found.sum(), (shape, pose)), torch.autograd.grad(wanted.sum(), (shape, pose)))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("transform", ["grad", "jvp", "hessian", "vmap of grad"])
def test_compile_of_transforms(transform: str, device: str) -> None:
    model = rig(4, 3, 2, 2).to(device)
    inputs = model.inputs(2)
    x, t = inputs["pose"], torch.randn_like(inputs["pose"])
    xs = torch.randn(3, *x.shape, dtype=double, device=device)
    function = lambda pose: forward(model, {**inputs, "pose": pose})[0]
    run = torch.compile(lambda x, t, xs: TRANSFORMS[transform](function, x, t, xs), fullgraph=True, backend="aot_eager")
    assert_equal(run(x, t, xs), TRANSFORMS[transform](function, x, t, xs))


def test_export_with_dynamic_batch(device: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    export_and_load(device, tmp_path)


def test_aot_inductor(tmp_path) -> None:  # type: ignore[no-untyped-def]
    program, body, inputs = export_and_load("cpu", tmp_path)
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "compiled.pt2"))
    assert_equal(torch._inductor.aoti_load_package(package)(*inputs), body(*inputs), 1e-6)


def export_and_load(device: str, tmp_path):  # type: ignore[no-untyped-def]
    model = RIGS["five joints"].to(device, torch.float32)
    body = Module(model)
    example = tuple(model.inputs(4)[name] for name in ("shape_coefficients", "pose"))
    batch = torch.export.Dim("batch", max=4096)
    program = torch.export.export(body, example, dynamic_shapes={"shape": {0: batch}, "pose": {0: batch}})
    torch.export.save(program, tmp_path / "body.pt2")
    loaded = torch.export.load(tmp_path / "body.pt2").module()
    inputs = tuple(model.inputs(9)[name] for name in ("shape_coefficients", "pose"))
    assert_equal(loaded(*inputs), body(*inputs), 1e-6)
    return program, body, inputs


def test_compiled_autograd(device: str) -> None:
    model = RIGS["five joints"].to(device)
    rigged, inputs, leaves = with_leaves(model, all_inputs(model, 2))
    wanted = torch.autograd.grad(forward(rigged, inputs)[0].sin().sum(), leaves)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager", fullgraph=True)):
        forward(rigged, inputs)[0].sin().sum().backward()
    assert_equal([leaf.grad for leaf in leaves], wanted)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_autocast_computes_in_float32(narrow: torch.dtype, device: str) -> None:
    model = RIGS["five joints"].to(device, torch.float32)
    inputs = {name: tensor.to(narrow).requires_grad_() for name, tensor in model.inputs(3).items()}
    with torch.autocast(device, dtype=narrow):
        found = forward(model, inputs, model.prepared())
    assert all(result.dtype == torch.float32 for result in found)
    assert_equal(found, forward(model, {name: tensor.float() for name, tensor in inputs.items()}), 1e-6)
    with torch.autocast(device, dtype=narrow):
        found[0].sum().backward()
    assert all(tensor.grad is not None and tensor.grad.dtype == narrow for tensor in inputs.values())
    with pytest.raises(TypeError, match=r"float16|bfloat16"):
        forward(model, inputs)


def test_autocast_leaves_the_prepared_halves_to_a_backward_pass(device: str) -> None:
    model = RIGS["five joints"].to(device, torch.float32)
    prepared, inputs = model.prepared(), model.inputs(20)
    pose = inputs["pose"].requires_grad_()
    arrived = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.smplx.forward_backward.default:
                names = [argument.name for argument in func._schema.arguments]
                arrived.append(dict(zip(names, args, strict=False))["pose_pair"])
            return func(*args, **(kwargs or {}))

    with torch.autocast(device, dtype=torch.bfloat16), Watch():
        torch.autograd.grad(forward(model, inputs, prepared)[0].sum(), pose)
    (pair,) = arrived
    assert pair.dtype == torch.float16 and torch.equal(pair, prepared[7])


@pytest.mark.parametrize("intermediates", [True, False])
def test_gradients_inside_autocast_are_those_outside(intermediates: bool, device: str) -> None:
    model = RIGS["five joints"].to(device, torch.float32)
    prepared, inputs = model.prepared(), model.inputs(3)

    def loss(pose: Tensor) -> Tensor:
        return forward(model, inputs | {"pose": pose}, prepared, intermediates=intermediates)[0].sin().sum()

    def of_autograd(pose: Tensor) -> Tensor:
        pose = pose.detach().requires_grad_()
        return torch.autograd.grad(loss(pose), pose, create_graph=True)[0].detach()

    for gradient in (torch.func.grad(loss), of_autograd):
        wanted = gradient(inputs["pose"])
        with torch.autocast(device, dtype=torch.bfloat16):
            assert_equal(gradient(inputs["pose"]), wanted, 1e-6)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_a_model_of_16_bits_has_its_joints_in_float32(narrow: torch.dtype, device: str) -> None:
    model = RIGS["five joints"].to(device, narrow)
    wide, inputs = model.to(device, torch.float32), model.inputs(3)
    with torch.autocast(device, dtype=narrow):
        found = forward(model, inputs, model.prepared())
    assert_equal(found, forward(wide, {name: tensor.float() for name, tensor in inputs.items()}), 1e-6)


def test_checkpoint_hooks_inference_and_no_grad(device: str) -> None:
    model = RIGS["five joints"].to(device)
    inputs = model.inputs(3)
    pose = inputs["pose"].requires_grad_()
    (wanted,) = torch.autograd.grad(forward(model, inputs)[0].sin().sum(), pose)
    y = torch.utils.checkpoint.checkpoint(
        lambda p: forward(model, {**inputs, "pose": p})[0].sin(), pose, use_reentrant=False
    )
    assert_equal(torch.autograd.grad(y.sum(), pose), (wanted,))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y = forward(model, inputs)[0].sin().sum()
    assert_equal(torch.autograd.grad(y, pose), (wanted,))
    with torch.inference_mode():
        assert_equal(forward(model, inputs), forward(model, inputs))
    with torch.no_grad():
        assert not forward(model, inputs)[0].requires_grad


def test_without_intermediates_they_are_recomputed(device: str) -> None:
    model = RIGS["five joints"].to(device)
    inputs = {name: tensor.requires_grad_() for name, tensor in all_inputs(model, 3).items()}
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        results = forward(model, inputs, model.prepared(), intermediates=False)
    assert all(result.numel() == 0 for result in results[2:])
    assert (
        sum(t.numel() for t in kept if t.ndim and len(t) == 3 and t.shape[1:] == results[0].shape[1:])
        == inputs["vertex_offsets"].numel()
    )
    found = torch.autograd.grad(results[0].sin().sum() + results[1].sum(), list(inputs.values()))
    again = forward(model, inputs)
    assert_equal(found, torch.autograd.grad(again[0].sin().sum() + again[1].sum(), list(inputs.values())))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("batch", [6, 20, 40])  # by themselves, in slabs by our own products, and by cuBLAS's
def test_cuda_graph_of_an_optimiser_step(batch: int) -> None:
    avatorch.warm_up("cuda")
    model = rig(200, 24, 5, 4).to("cuda", torch.float32)
    prepared = model.prepared()
    inputs = model.inputs(batch)
    target = forward(model, inputs, prepared)[0]
    pose = torch.zeros_like(inputs["pose"]).requires_grad_()
    optimiser = torch.optim.Adam([pose], lr=0.02, capturable=True)

    def step() -> Tensor:
        optimiser.zero_grad(set_to_none=False)
        loss = (forward(model, {**inputs, "pose": pose}, prepared)[0] - target).square().mean()
        loss.backward()
        optimiser.step()
        return loss.detach()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        first = step().clone()
        step(), step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    for _ in range(300):
        graph.replay()
    assert loss < 0.02 * first
