"""What every operator must pass. A test class derives from `OperatorTests` and says which operator, beside which
reference, on which inputs; pytest then runs each test here on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch._dynamo.utils
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils import _pytree as pytree

from transforms import TRANSFORMS, assert_equal, joined

double = torch.double


class OperatorTests:
    """The contract."""

    namespace: ClassVar[str] = "smplx"
    name: ClassVar[str]  # torch.ops.<namespace>.<name>
    # Positions of the inputs with a batch, of those that can have a gradient, and of the one whose dtype they share.
    batched: ClassVar[tuple[int, ...]] = (0,)
    differentiable: ClassVar[tuple[int, ...]] = (0,)
    # How far two runs may differ: torch's own gathers add their gradients with atomics on a GPU.
    run_to_run: ClassVar[float] = 0.0
    leading: ClassVar[int] = 0
    # A result that is a sum over the batch has none itself.
    sums_over_batch: ClassVar[bool] = False
    # Third derivatives multiply what the second ones lost.
    tolerance: ClassVar[float] = 1e-9

    def inputs(self, batch: int) -> list[Any]:
        """Random inputs, in float64."""
        raise NotImplementedError

    def reference(self, *inputs: Any) -> Any:
        """The operator in plain PyTorch, differentiable to any order."""
        raise NotImplementedError

    @property
    def operator(self) -> Callable[..., Any]:
        """The operator itself."""
        return getattr(getattr(torch.ops, self.namespace), self.name)  # type: ignore[no-any-return]

    def on(self, device: str, batch: int, dtype: torch.dtype = double) -> list[Any]:
        """Its inputs on a device."""
        return [converted(x, dtype).to(device) if isinstance(x, Tensor) else x for x in self.inputs(batch)]

    def leaves(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Tensor]]:
        """Copies of the inputs in which everything that can have a gradient asks for one, and those."""
        copies = list(inputs)
        for position in self.differentiable:
            copies[position] = inputs[position].detach().clone().requires_grad_()
        return copies, [copies[position] for position in self.differentiable]

    def gradients(
        self, function: Callable[..., Any], inputs: Sequence[Any], loss: Callable[[Tensor], Tensor] | None = None
    ) -> list[Tensor]:
        """Values, and derivatives of a loss of them, by default a curved one."""
        given, leaves = self.leaves(inputs)
        value = joined(function)(*given)
        slopes = torch.autograd.grad((loss or curved)(value), leaves, allow_unused=True)
        return [value.detach(), *(torch.zeros_like(x) if g is None else g for g, x in zip(slopes, leaves, strict=True))]

    @pytest.mark.parametrize("batch", [0, 1, 2, 31])
    def test_values_and_gradients(self, batch: int, device: str) -> None:
        inputs = self.on(device, batch)
        found, expected = (pytree.tree_leaves(f(*inputs)) for f in (self.operator, self.reference))
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == double and one.device == inputs[0].device
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
        assert_equal(self.gradients(self.operator, inputs), self.gradients(self.reference, inputs), 1e-11)

    def test_float32_errs_at_most_twice_as_much_as_torch(self, device: str) -> None:
        """Values and gradients, over several draws: the largest error of a few numbers is a matter of luck."""
        rows = []
        for _ in range(8):
            inputs = self.on(device, 101, torch.float32)
            exact = [converted(x, double) for x in inputs]
            loss = weighted(torch.randn_like(joined(self.reference)(*exact)))
            functions = ((self.operator, inputs), (self.reference, inputs), (self.reference, exact))
            rows.append([self.gradients(f, given, loss) for f, given in functions])
        for ours, torchs, truth in zip(*(joined_draws(same) for same in zip(*rows, strict=True)), strict=True):
            assert ours.dtype == torch.float32
            allowed = 2 * (torchs - truth).abs().max() + 1e-7 * truth.abs().max()
            assert (ours - truth).abs().max() <= allowed

    def test_inputs_of_any_layout(self, device: str) -> None:
        inputs = self.on(device, 3)

        def strided(*given: Any) -> Any:
            return self.operator(*(torch.stack([x, x], -1)[..., 1] if isinstance(x, Tensor) else x for x in given))

        assert_equal(self.gradients(strided, inputs), self.gradients(self.operator, inputs), 1e-12)

    def test_gradcheck_to_second_order(self, device: str) -> None:
        inputs, leaves = self.leaves(self.on(device, 2))
        function = of_some(self.operator, inputs, self.differentiable)
        assert gradcheck(
            function,
            leaves,
            check_forward_ad=True,
            check_batched_grad=True,
            check_batched_forward_grad=True,
            nondet_tol=self.run_to_run,
        )
        assert gradgradcheck(
            function,
            leaves,
            check_fwd_over_rev=True,
            check_batched_grad=True,
            fast_mode=True,
            nondet_tol=self.run_to_run,
        )

    @pytest.mark.parametrize("transform", TRANSFORMS)
    def test_torch_func(self, transform: str, device: str, recwarn: pytest.WarningsRecorder) -> None:
        inputs = self.on(device, 2)
        for position in self.differentiable:
            x = inputs[position]
            t, xs = torch.randn_like(x), torch.stack([x, x + 0.1 * torch.randn_like(x), 0.9 * x.flip(0) + 0.1])
            functions = (joined(of_some(f, inputs, (position,))) for f in (self.operator, self.reference))
            found, expected = (TRANSFORMS[transform](f, x, t, xs) for f in functions)
            assert_equal(found, expected, self.tolerance)
        assert not [warning for warning in recwarn if "performance drop" in str(warning.message)], "vmap has a rule"

    def test_vmap_of_everything(self, device: str) -> None:
        inputs = self.on(device, 2)
        slices = [
            [x + 0.1 * torch.randn_like(x) if at in self.differentiable else x for at, x in enumerate(inputs)]
            for _ in range(3)
        ]
        mapped = [
            torch.stack(same, -1) if isinstance(same[0], Tensor) else same[0] for same in zip(*slices, strict=True)
        ]
        in_dims = tuple(-1 if isinstance(x, Tensor) else None for x in inputs)
        found = torch.func.vmap(joined(self.operator), in_dims=in_dims)(*mapped)
        assert_equal(found, torch.stack([joined(self.reference)(*inputs) for inputs in slices]))

    def test_opcheck(self, device: str) -> None:
        inputs = self.on(device, 2)
        torch.library.opcheck(self.operator.default, tuple(inputs))  # type: ignore[attr-defined]
        torch.library.opcheck(self.operator.default, tuple(self.leaves(inputs)[0]))  # type: ignore[attr-defined]

    def test_compile_fullgraph_without_recompiling(self, device: str) -> None:
        torch._dynamo.utils.counters.clear()
        compiled = torch.compile(lambda *x: joined(self.operator)(*x).sin(), fullgraph=True, backend="aot_eager")
        for batch in (5, 7, 31):
            inputs, leaves = self.leaves(self.on(device, batch))
            for position in self.batched:
                torch._dynamo.mark_dynamic(inputs[position], 0)
            found, expected = compiled(*inputs), joined(self.operator)(*inputs).sin()
            torch.testing.assert_close(found, expected)
            assert_equal(*(torch.autograd.grad(y.sum(), leaves, allow_unused=True) for y in (found, expected)))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1

    def test_export_with_dynamic_batch(self, device: str, tmp_path: Path) -> None:
        batch = torch.export.Dim("batch")
        inputs = tuple(self.on(device, 4))
        module = Calls(self.operator)
        shapes = tuple({0: batch} if position in self.batched else None for position in range(len(inputs)))
        program = torch.export.export(module, inputs, dynamic_shapes={"inputs": shapes})
        torch.export.save(program, tmp_path / "operator.pt2")
        loaded = torch.export.load(tmp_path / "operator.pt2").module()
        others = tuple(self.on(device, 9))
        assert_equal(loaded(*others), module(*others))

    @pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
    def test_autocast_computes_in_float32(self, narrow: torch.dtype, device: str) -> None:
        inputs, leaves = self.leaves(self.on(device, 3, narrow))
        with torch.autocast(device, dtype=narrow):
            found = pytree.tree_leaves(self.operator(*inputs))
        assert all(result.dtype == torch.float32 for result in found)
        assert_equal(found, self.operator(*(converted(x, torch.float32) for x in inputs)), 1e-6)
        sum(result.sum() for result in found).backward()
        assert all(leaf.grad is None or leaf.grad.dtype == narrow for leaf in leaves)
        with torch.autocast(device, dtype=narrow):
            results = pytree.tree_leaves(self.operator(*self.on(device, 3)))
        assert all(result.dtype == double for result in results)

    def test_wrong_dtypes_and_devices_are_sentences(self, device: str) -> None:
        inputs = self.on(device, 2)
        names = [argument.name for argument in self.operator.default._schema.arguments]  # type: ignore[attr-defined]
        leading = names[self.leading]
        for dtype, word in [(torch.half, "float16"), (torch.bfloat16, "bfloat16"), (torch.int32, "int32")]:
            wrong = [x.to(dtype) if at == self.leading else x for at, x in enumerate(inputs)]
            with pytest.raises(
                TypeError, match=f"{self.namespace}::{self.name}: {leading} is {word}, expected float32 or float64"
            ):
                self.operator(*wrong)
        for position in set(self.differentiable) - {self.leading}:
            wrong = [x.float() if at == position else x for at, x in enumerate(inputs)]
            with pytest.raises(
                TypeError,
                match=f"{self.namespace}::{self.name}: {names[position]} is float32, expected float64 as {leading}",
            ):
                self.operator(*wrong)
            if device == "cuda":
                wrong = [x.cpu() if at == position else x for at, x in enumerate(inputs)]
                with pytest.raises(ValueError, match=f"{names[position]} is on cpu, expected cuda:0 as {leading}"):
                    self.operator(*wrong)

    def test_one_nan_stays_alone(self, device: str) -> None:
        inputs = self.on(device, 31)
        others = torch.arange(31, device=device) != 17
        for position in set(self.batched) & set(self.differentiable):
            spoiled = list(inputs)
            spoiled[position] = inputs[position].clone()
            spoiled[position][17].select(0, 0).fill_(torch.nan)
            clean, dirty = (pytree.tree_leaves(self.operator(*x)) for x in (inputs, spoiled))
            for one, other in zip(clean, dirty, strict=True):
                untouched = ~other.isnan() if self.sums_over_batch else others
                assert torch.equal(one[untouched], other[untouched])
            assert any(result.isnan().any() for result in dirty)

    def test_eight_threads(self, device: str) -> None:
        inputs = self.on(device, 16)
        expected = self.gradients(self.operator, inputs)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(10):
                    assert_equal(self.gradients(self.operator, inputs), expected, 1e-12)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=work) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not failures


class NodeTests(OperatorTests):
    """The contract of an operator with a Node of its own."""

    def test_compiled_autograd_of_two_calls(self, device: str) -> None:
        inputs, leaves = self.leaves(self.on(device, 3))

        def loss() -> Tensor:
            first = joined(self.operator)(*inputs)
            return curved(first * joined(self.operator)(*inputs))

        expected = torch.autograd.grad(loss(), leaves)
        with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager", fullgraph=True)):
            loss().backward()
        assert_equal([leaf.grad for leaf in leaves], expected)


class Calls(torch.nn.Module):
    """A module that calls one operator."""

    def __init__(self, operator: Callable[..., Any]) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, *inputs: Any) -> Any:
        """The operator's results, which differ from its inputs."""
        return pytree.tree_map(lambda result: 2 * result, self.operator(*inputs))


def converted(x: Any, dtype: torch.dtype) -> Any:
    """The same numbers in another dtype, if these are real numbers."""
    return x.detach().to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x


def of_some(function: Callable[..., Any], inputs: Sequence[Any], positions: Sequence[int]) -> Callable[..., Any]:
    """The function of its inputs at these positions, the others being given."""

    def some(*given: Tensor) -> Any:
        new = dict(zip(positions, given, strict=True))
        return function(*(new.get(position, x) for position, x in enumerate(inputs)))

    return some


def weighted(weights: Tensor) -> Callable[[Tensor], Tensor]:
    """A linear loss."""
    return lambda value: (value * weights.to(value.dtype)).sum()


def joined_draws(draws: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The same result of every draw in one vector."""
    return [torch.cat([result.flatten() for result in same]) for same in zip(*draws, strict=True)]


def curved(value: Tensor) -> Tensor:
    """A scalar in which every entry counts differently."""
    return (value.sin() * torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype, device=value.device)).sum()
