"""smplx::rodrigues: values, derivatives of every kind, and each way torch may run it."""

from __future__ import annotations

import math
import threading

import pytest
import torch
import torch._dynamo.utils
from torch.autograd import gradcheck, gradgradcheck

import avatorch
from transforms import TRANSFORMS, assert_equal

rodrigues = torch.ops.smplx.rodrigues
rodrigues_backward = torch.ops.smplx.rodrigues_backward
ANGLES = [0.0, 1e-12, 1e-8, 1e-4, 1e-2, 0.5, 0.999, 1.001, 1.0, 2.0, math.pi, 6.0, 2 * math.pi, 100.0]


def cross_matrix(r: torch.Tensor) -> torch.Tensor:
    x, y, z = r.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def reference(r: torch.Tensor) -> torch.Tensor:
    """The definition: the exponential of the cross product matrix."""
    return torch.linalg.matrix_exp(cross_matrix(r))


def vectors(angle: float, dtype: torch.dtype = torch.double) -> torch.Tensor:
    axes = torch.nn.functional.normalize(torch.randn(6, 3, dtype=torch.double), dim=-1)
    return torch.cat([axes * angle, torch.full((1, 3), -angle / math.sqrt(3), dtype=torch.double)]).to(dtype)


@pytest.mark.parametrize("angle", ANGLES)
def test_equals_the_exponential(angle: float, device: str) -> None:
    r = vectors(angle)
    found = rodrigues(r.to(device)).cpu()
    torch.testing.assert_close(found, reference(r), rtol=0, atol=2e-15 * max(1.0, angle))
    torch.testing.assert_close(found @ found.mT, torch.eye(3, dtype=torch.double).expand(7, 3, 3), rtol=0, atol=4e-15)


def naive(r: torch.Tensor) -> torch.Tensor:
    """The textbook formula in torch, safe at zero for first derivatives."""
    x = r.square().sum(-1, keepdim=True).unsqueeze(-1)
    angle = torch.where(x > 0, x, 1).sqrt()
    k = cross_matrix(r)
    c1 = torch.where(x > 0, angle.sin() / angle, 1)
    c2 = torch.where(x > 0, 2 * (angle / 2).sin().square() / x.clamp(min=1e-37), 0.5)
    return torch.eye(3, dtype=r.dtype, device=r.device) + c1 * k + c2 * (k @ k)


@pytest.mark.parametrize("angle", ANGLES)
def test_float32_errs_at_most_twice_as_much_as_torch(angle: float, device: str) -> None:
    r = torch.cat([vectors(angle, torch.float32) for _ in range(200)]).to(device)
    g = torch.randn(*r.shape, 3, device=device)

    def run(function, r, g):  # type: ignore[no-untyped-def]
        r = r.detach().requires_grad_()
        y = function(r)
        return y.detach().double(), torch.autograd.grad(y, r, g)[0].double()

    exact = run(rodrigues, r.double(), g.double())
    for ours, torchs, truth in zip(run(rodrigues, r, g), run(naive, r, g), exact, strict=True):
        allowed = 2 * (torchs - truth).abs().max() + 1e-7 * truth.abs().max()
        assert (ours - truth).abs().max() <= allowed


def test_second_derivative_at_zero_is_exact(device: str) -> None:
    r = torch.zeros(3, dtype=torch.double, device=device)
    g = torch.randn(3, 3, dtype=torch.double, device=device)
    found = torch.func.hessian(lambda r: (rodrigues(r) * g).sum())(r)
    # R = I + [r] + [r]^2 / 2 + ..., and the Hessian of <G, [r]^2> / 2 is (G + G^T) / 2 - tr(G) I.
    expected = (g + g.mT) / 2 - g.trace() * torch.eye(3, dtype=torch.double, device=device)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("magnitude", [0.0, 1e-45, 1e-30, 1e-12, 1e-8, 1e-4, 1.0, 2 * math.pi, 1e4, 1e15, 3e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_input_gives_finite_results(magnitude: float, dtype: torch.dtype, device: str) -> None:
    r = vectors(magnitude, dtype).to(device).requires_grad_()
    y = rodrigues(r)
    (g,) = torch.autograd.grad(y.sin().sum(), r, create_graph=magnitude < 1e9)
    assert y.isfinite().all() and g.isfinite().all()
    if g.requires_grad:
        (h,) = torch.autograd.grad(g.sum(), r)
        assert h.isfinite().all()


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.99, 1.0, math.pi, 7.0])
def test_gradcheck_to_second_order(angle: float, device: str) -> None:
    r = vectors(angle).to(device).requires_grad_()
    g = torch.randn(*r.shape, 3, dtype=torch.double, device=device, requires_grad=True)
    assert gradcheck(rodrigues, r, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)
    assert gradgradcheck(rodrigues, r, check_fwd_over_rev=True, check_rev_over_rev=True)
    assert gradcheck(rodrigues_backward, (g, r), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(rodrigues_backward, (g, r), check_fwd_over_rev=True)


@pytest.mark.parametrize("order", range(7))
def test_stumpff_gradcheck(order: int, device: str) -> None:
    x = torch.tensor(
        [0.0, 1e-3, 0.5, 0.99, 1.01, 5.0, 9.99, 10.01, 40.0], dtype=torch.double, device=device, requires_grad=True
    )
    function = torch.ops.smplx.stumpff
    assert gradcheck(lambda x: function(x, order), x, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(lambda x: function(x, order), x)
    closed = {
        0: lambda t: t.cos(),
        1: lambda t: t.sin() / t,
        2: lambda t: (1 - t.cos()) / t**2,
        3: lambda t: (t - t.sin()) / t**3,
    }
    if order in closed:
        expected = closed[order](x.detach()[2:].sqrt())
        torch.testing.assert_close(function(x, order)[2:], expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_torch_func(name: str, angle: float, device: str, recwarn: pytest.WarningsRecorder) -> None:
    r = vectors(angle)[:2].to(device)
    t, rs = torch.randn_like(r), torch.randn(3, *r.shape, dtype=torch.double, device=device)
    found, expected = (TRANSFORMS[name](f, r, t, rs) for f in (rodrigues, reference))
    # matrix_exp's own third derivatives are good to about 1e-7 only.
    assert_equal(found, expected, 1e-6 if name.count("grad") > 2 else 1e-9)
    assert not [warning for warning in recwarn if "performance drop" in str(warning.message)], "vmap has a rule"


@pytest.mark.parametrize("shape", [(3,), (0, 3), (1, 3), (31, 3), (2, 0, 3), (4, 5, 3), (2, 3, 4, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_leading_dimensions(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    r = torch.randn(shape, dtype=dtype, device=device, requires_grad=True)
    y = rodrigues(r)
    assert y.shape == (*shape, 3) and y.dtype == dtype and y.device == r.device
    y.sum().backward()
    assert r.grad is not None and r.grad.shape == shape
    tolerance = 2e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(y.detach().cpu(), reference(r.detach().cpu()), rtol=0, atol=tolerance)


def test_transposed_expanded_and_sliced_inputs(device: str) -> None:
    base = torch.randn(3, 8, 2, dtype=torch.double, device=device)
    for r in (
        base.permute(2, 1, 0),
        base.permute(2, 1, 0)[:, ::2],
        torch.randn(1, 3, dtype=torch.double, device=device).expand(5, 3),
    ):
        torch.testing.assert_close(rodrigues(r), rodrigues(r.contiguous()))
        g = torch.randn(3, *r.shape, dtype=torch.double, device=device).movedim(0, -1)
        torch.testing.assert_close(rodrigues_backward(g, r), rodrigues_backward(g.contiguous(), r.contiguous()))


def test_wrong_arguments_are_sentences(device: str) -> None:
    r = torch.randn(2, 3, device=device)
    with pytest.raises(ValueError, match=r"smplx::rodrigues: rotvec has shape \[2, 4\], expected \[\.\.\., 3\]"):
        rodrigues(torch.randn(2, 4, device=device))
    with pytest.raises(ValueError, match=r"rotvec has shape \[\]"):
        rodrigues(torch.tensor(1.0, device=device))
    for dtype, name in [
        (torch.half, "float16"),
        (torch.bfloat16, "bfloat16"),
        (torch.int32, "int32"),
        (torch.bool, "bool"),
    ]:
        with pytest.raises(TypeError, match=f"rotvec is {name}, expected float32 or float64"):
            rodrigues(r.to(dtype))
    with pytest.raises(ValueError, match=r"grad has shape \[2, 3\], expected \[2, 3, 3\]"):
        rodrigues_backward(r, r)
    with pytest.raises(TypeError, match="grad is float64, expected float32 as rotvec"):
        rodrigues_backward(torch.randn(2, 3, 3, dtype=torch.double, device=device), r)
    with pytest.raises(ValueError, match="order is -1, expected 0 to 64"):
        torch.ops.smplx.stumpff(r, -1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_mixed_devices_are_refused() -> None:
    r = torch.randn(2, 3)
    g = torch.randn(2, 3, 3)
    with pytest.raises(ValueError, match="grad is on cpu, expected cuda:0 as rotvec"):
        rodrigues_backward(g, r.cuda())
    with pytest.raises(ValueError, match="grad is on cuda:0, expected cpu as rotvec"):
        rodrigues_backward(g.cuda(), r)


def test_opcheck(device: str) -> None:
    r = torch.randn(4, 3, dtype=torch.double, device=device, requires_grad=True)
    g = torch.randn(4, 3, 3, dtype=torch.double, device=device, requires_grad=True)
    torch.library.opcheck(rodrigues.default, (r,))
    torch.library.opcheck(rodrigues_backward.default, (g.detach(), r.detach()))
    torch.library.opcheck(rodrigues_backward.default, (g, r))
    torch.library.opcheck(torch.ops.smplx.stumpff.default, (r.detach().square().requires_grad_(), 2))


def test_compile_fullgraph_without_recompiling(device: str) -> None:
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(lambda r: rodrigues(2 * r).sin(), fullgraph=True, dynamic=True)
    for batch in (5, 7, 31):  # not 3: torch would take it for the same symbol as the three coordinates
        r = torch.randn(batch, 3, dtype=torch.double, device=device, requires_grad=True)
        y = compiled(r)
        torch.testing.assert_close(y, rodrigues(2 * r).sin())
        (found,) = torch.autograd.grad(y.sum(), r)
        (expected,) = torch.autograd.grad(rodrigues(2 * r).sin().sum(), r)
        torch.testing.assert_close(found, expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("transform", ["grad", "jvp", "hessian", "vmap of grad"])
def test_compile_of_transforms(transform: str, device: str) -> None:
    r, t, rs = (torch.randn(*s, dtype=torch.double, device=device) for s in ((2, 3), (2, 3), (3, 2, 3)))
    run = torch.compile(
        lambda r, t, rs: TRANSFORMS[transform](rodrigues, r, t, rs), fullgraph=True, backend="aot_eager"
    )
    assert_equal(run(r, t, rs), TRANSFORMS[transform](rodrigues, r, t, rs))


class Rotate(torch.nn.Module):
    def forward(self, r: torch.Tensor) -> torch.Tensor:
        return rodrigues(r) @ rodrigues(-r)


def test_export_with_dynamic_batch(device: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    batch = torch.export.Dim("batch")
    program = torch.export.export(Rotate(), (torch.randn(4, 3, device=device),), dynamic_shapes={"r": {0: batch}})
    torch.export.save(program, tmp_path / "rotate.pt2")
    loaded = torch.export.load(tmp_path / "rotate.pt2").module()
    r = torch.randn(9, 3, device=device)
    torch.testing.assert_close(loaded(r), Rotate()(r))


def test_aot_inductor(tmp_path) -> None:  # type: ignore[no-untyped-def]
    batch = torch.export.Dim("batch", max=1024)
    program = torch.export.export(Rotate(), (torch.randn(4, 3),), dynamic_shapes={"r": {0: batch}})
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "rotate.pt2"))
    r = torch.randn(9, 3)
    torch.testing.assert_close(torch._inductor.aoti_load_package(package)(r), Rotate()(r))


def test_compiled_autograd(device: str) -> None:
    r = torch.randn(5, 3, dtype=torch.double, device=device, requires_grad=True)
    (expected,) = torch.autograd.grad(rodrigues(r).sin().sum(), r)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager", fullgraph=True)):
        rodrigues(r).sin().sum().backward()
    torch.testing.assert_close(r.grad, expected)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_autocast_computes_in_float32(narrow: torch.dtype, device: str) -> None:
    r = torch.randn(4, 3, device=device).to(narrow).requires_grad_()
    with torch.autocast(device, dtype=narrow):
        y = rodrigues(r)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, rodrigues(r.float()))
    y.sum().backward()
    assert r.grad is not None and r.grad.dtype == narrow
    with torch.autocast(device, dtype=narrow):
        assert rodrigues(r.detach().double()).dtype == torch.float64


def test_checkpoint_hooks_and_inference_mode(device: str) -> None:
    r = torch.randn(5, 3, dtype=torch.double, device=device, requires_grad=True)
    (expected,) = torch.autograd.grad(rodrigues(r).sin().sum(), r)
    y = torch.utils.checkpoint.checkpoint(lambda r: rodrigues(r).sin(), r, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), r)[0], expected)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t.clone(), lambda t: t):
        y = rodrigues(r)
    assert packed
    torch.testing.assert_close(torch.autograd.grad(y.sin().sum(), r)[0], expected)
    with torch.inference_mode():
        assert torch.equal(rodrigues(r), rodrigues(r.detach()))


def test_misuse_of_the_graph_is_noticed(device: str) -> None:
    r = torch.randn(5, 3, dtype=torch.double, device=device, requires_grad=True)
    y = rodrigues(r).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    x = r.detach().clone().requires_grad_()
    inner = x * 1
    y = rodrigues(inner).sum()
    inner.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_one_nan_stays_alone(device: str) -> None:
    r = torch.randn(100, 3, device=device)
    clean = rodrigues(r)
    r[17, 1] = math.nan
    dirty = rodrigues(r)
    others = torch.arange(100, device=device) != 17
    assert torch.equal(dirty[others], clean[others]) and dirty[17].isnan().any()


def test_eight_threads(device: str) -> None:
    r = torch.randn(64, 3, dtype=torch.double, device=device)
    expected = torch.autograd.grad(rodrigues(r.requires_grad_()).sin().sum(), r)[0]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            x = r.detach().clone().requires_grad_()
            rodrigues(x).sin().sum().backward()
            if not torch.equal(x.grad, expected):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_graph_of_a_training_step() -> None:
    avatorch.warm_up("cuda")
    r = torch.randn(64, 3, device="cuda", requires_grad=True)
    target = rodrigues(torch.randn(64, 3, device="cuda"))

    def step() -> torch.Tensor:
        r.grad = None
        loss = (rodrigues(r) - target).square().sum()
        loss.backward()
        return loss.detach()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    grad = r.grad
    with torch.no_grad():
        r.copy_(torch.randn(64, 3, device="cuda"))
    graph.replay()
    replayed = loss.clone(), grad.clone()
    assert_equal((step(), r.grad), replayed, 1e-5)
