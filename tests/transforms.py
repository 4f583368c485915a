"""What every operator must pass: each function here takes an operator and its reference and compares them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils import _pytree as pytree

Function = Callable[[torch.Tensor], torch.Tensor]


def assert_equal(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    found, expected = pytree.tree_leaves(found), pytree.tree_leaves(expected)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def joined(function: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """All results of a function one after another, as one vector."""
    return lambda *inputs: torch.cat([y.flatten() for y in pytree.tree_leaves(function(*inputs))])


def scalar(function: Function) -> Function:
    """A curved scalar of the function's output, so that no derivative is accidentally zero."""

    def value(x: torch.Tensor) -> torch.Tensor:
        y = function(x)
        return (y.sin() * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype, device=y.device).reshape(y.shape)).sum()

    return value


# Every transform of torch.func and their nestings: (function, x, tangent, batch of x) -> tensors.
TRANSFORMS: dict[str, Callable[[Function, torch.Tensor, torch.Tensor, torch.Tensor], Any]] = {
    "grad": lambda f, x, t, xs: grad(scalar(f))(x),
    "vjp": lambda f, x, t, xs: (lambda y, pull: pull(y.detach()))(*vjp(f, x)),
    "jvp": lambda f, x, t, xs: jvp(f, (x,), (t,)),
    "jacrev": lambda f, x, t, xs: jacrev(f)(x),
    "jacfwd": lambda f, x, t, xs: jacfwd(f)(x),
    "hessian": lambda f, x, t, xs: hessian(scalar(f))(x),
    "vmap": lambda f, x, t, xs: vmap(f)(xs),
    "vmap out of the middle": lambda f, x, t, xs: vmap(f, in_dims=1)(xs.movedim(0, 1)),
    "grad of grad": lambda f, x, t, xs: grad(lambda y: grad(scalar(f))(y).square().sum())(x),
    "grad of grad of grad": lambda f, x, t, xs: grad(
        lambda z: grad(lambda y: grad(scalar(f))(y).square().sum())(z).square().sum()
    )(x),
    "jacrev of jacrev": lambda f, x, t, xs: jacrev(jacrev(scalar(f)))(x),
    "jvp of jvp": lambda f, x, t, xs: jvp(lambda y: jvp(f, (y,), (t,))[1], (x,), (t.flip(0),)),
    "vmap of grad": lambda f, x, t, xs: vmap(grad(scalar(f)))(xs),
    "vmap of hessian": lambda f, x, t, xs: vmap(hessian(scalar(f)))(xs),
    "vmap of jvp": lambda f, x, t, xs: vmap(lambda y: jvp(f, (y,), (t,))[1])(xs),
    "jvp of grad": lambda f, x, t, xs: jvp(grad(scalar(f)), (x,), (t,)),
    "grad of jvp": lambda f, x, t, xs: grad(lambda y: jvp(scalar(f), (y,), (t,))[1])(x),
}
