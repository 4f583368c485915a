"""vmap rules: the mapped dimension is folded into the batch of the operator itself, so one call serves all slices.

Where an argument without a batch is mapped (a model's tensors), or a result is a sum over the batch (their gradients),
the slices are computed one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Operator = Callable[..., Any]
Rule = Callable[..., tuple[Any, Any]]


def register() -> None:
    """Registers the rule of every operator; done once, on import."""
    smplx = torch.ops.smplx
    for name in ("rodrigues", "rodrigues_backward", "stumpff"):
        torch.library.register_vmap(f"smplx::{name}", _leading_dimensions(getattr(smplx, name)))
    for name in ("skinning", "skinning_transforms"):
        torch.library.register_vmap(f"smplx::{name}", _bodies(getattr(smplx, name), (0, 1)))
    for name, batched in (("kinematic_chain", (0, 1)), ("kinematic_chain_backward", (0, 1, 2, 3))):
        torch.library.register_vmap(f"smplx::{name}", _bodies(getattr(smplx, name), batched, all_bodies=True))
    torch.library.register_vmap("smplx::skinning_weights", _slices(smplx.skinning_weights))
    torch.library.register_vmap("smplx::forward", _forward)
    torch.library.register_vmap("smplx::forward_backward", _forward_backward)
    # The waveform and its lengths, and the gradient before them, share their leading dimensions.
    torch.library.register_vmap("mel::log_mel", _clips(torch.ops.mel.log_mel, (0, 4)))
    torch.library.register_vmap("mel::log_mel_backward", _clips(torch.ops.mel.log_mel_backward, (0, 1, 5)))
    torch.library.register_vmap("audio2face::solve", _solve)


def _leading_dimensions(operator: Operator) -> Rule:
    """For operators whose tensors share any leading dimensions."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Tensor, int]:
        moved = [
            _to_front(argument, dim, info.batch_size) if isinstance(argument, Tensor) else argument
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        return operator(*moved), 0

    return rule


def _bodies(operator: Operator, batched: Sequence[int], all_bodies: bool = False) -> Rule:
    """For operators whose results have the batch that the arguments at `batched` have; each, if `all_bodies`, or 1."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        if _maps_others(in_dims, batched):
            return _one_by_one(operator, info.batch_size, in_dims, arguments)
        folded = list(arguments)
        bodies = _fold(folded, in_dims, batched, info.batch_size, all_bodies)
        results = operator(*folded)
        if isinstance(results, Tensor):
            return _unfold(results, info.batch_size, bodies), 0
        return tuple(_unfold(result, info.batch_size, bodies) for result in results), (0,) * len(results)

    return rule


def _slices(operator: Operator) -> Rule:
    """For operators whose result is a sum over the batch."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        return _one_by_one(operator, info.batch_size, in_dims, arguments)

    return rule


def _clips(operator: Operator, batched: Sequence[int]) -> Rule:
    """For operators on clips, whose tables and convention, the last argument, all share."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        text = arguments[-1] if isinstance(arguments[-1], str) else ""
        if _maps_others(in_dims, batched) or "loudest=batch" in text.split():
            return _one_by_one(operator, info.batch_size, in_dims, arguments)
        moved = [
            _to_front(argument, in_dims[at], info.batch_size)
            if at in batched and isinstance(argument, Tensor)
            else argument
            for at, argument in enumerate(arguments)
        ]
        return operator(*moved), 0

    return rule


# Positions of the arguments of smplx::forward that have a batch; v_template is one when it has three dimensions.
_FORWARD_BATCHED = (0, 1, 2, 11, 12)
_TEMPLATE, _INTERMEDIATES = 3, 14


def _forward(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    template, template_dim = arguments[_TEMPLATE], in_dims[_TEMPLATE]
    batched: tuple[int, ...] = _FORWARD_BATCHED
    folded, as_mapped = list(arguments), in_dims
    if template_dim is not None and template.ndim == 3:
        # A template for each slice is a template for each body of it.
        folded[_TEMPLATE] = template.movedim(template_dim, 0).unsqueeze(1)
        in_dims = (*in_dims[:_TEMPLATE], 0, *in_dims[_TEMPLATE + 1 :])
        template = folded[_TEMPLATE]
    if template.ndim == (3 if template_dim is None else 4):
        batched = (*batched, _TEMPLATE)
    if _maps_others(in_dims, batched):
        return _one_by_one(torch.ops.smplx.forward, info.batch_size, as_mapped, arguments)
    bodies = _fold(folded, in_dims, batched, info.batch_size)
    results = torch.ops.smplx.forward(*folded)
    whole = 7 if len(arguments) <= _INTERMEDIATES or arguments[_INTERMEDIATES] else 2
    unfolded = [_unfold(result, info.batch_size, bodies) for result in results[:whole]]
    return (*unfolded, *results[whole:]), (0,) * whole + (None,) * (7 - whole)


# Positions of the arguments of smplx::forward_backward that have a batch; the bits of `needs` whose gradients are sums
# over the batch.
_BACKWARD_BATCHED = (*range(9), 15, 16, 17, 18, 19)
_SUMMED = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9


def _forward_backward(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
    needs = arguments[-1]
    if needs & _SUMMED or _maps_others(in_dims, _BACKWARD_BATCHED):
        return _one_by_one(torch.ops.smplx.forward_backward, info.batch_size, in_dims, arguments)
    folded = list(arguments)
    bodies = _fold(folded, in_dims, _BACKWARD_BATCHED, info.batch_size, all_bodies=True)
    results = torch.ops.smplx.forward_backward(*folded)
    asked = [bool(needs >> i & 1) for i in range(len(results))]
    unfolded = [_unfold(r, info.batch_size, bodies) if wanted else r for r, wanted in zip(results, asked, strict=True)]
    return tuple(unfolded), tuple(0 if wanted else None for wanted in asked)


def _solve(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
    """For audio2face::solve: slices become tracks, which may share one matrix, the first argument."""
    operator, normal = torch.ops.audio2face.solve, arguments[0]
    shared = in_dims[0] is None and len(normal) == 1
    if _maps_others(in_dims, (0, 1, 2, 3)):
        results, dims = _one_by_one(operator, info.batch_size, in_dims, arguments)
        return results, dims
    folded = list(arguments)
    tracks = _fold(folded, in_dims, (1, 2, 3) if shared else (0, 1, 2, 3), info.batch_size, all_bodies=True)
    return operator(*folded).unflatten(0, (info.batch_size, tracks)), 0


def _maps_others(in_dims: Sequence[Any], batched: Sequence[int]) -> bool:
    """Whether an argument without a batch is mapped."""
    others = [dim for position, dim in enumerate(in_dims) if position not in batched]
    return any(dim is not None for dim in pytree.tree_leaves(others))


def _fold(
    arguments: list[Any], in_dims: Sequence[Any], batched: Sequence[int], size: int, all_bodies: bool = False
) -> int:
    """Folds the mapped dimension of the batched arguments, in place, into their batch; returns the bodies of a slice.

    A batch of one that is shared by all slices stays one, unless `all_bodies`.
    """
    # Trailing arguments that have their defaults may be left out.
    present = [i for i in batched if i < len(arguments) and isinstance(arguments[i], Tensor)]
    moved = {position: (arguments[position], in_dims[position]) for position in present}
    lengths = [
        (tensor.movedim(dim, 0).shape[1] if dim is not None else tensor.shape[0]) for tensor, dim in moved.values()
    ]
    bodies = next((length for length in lengths if length != 1), 1)
    for position, (tensor, dim) in moved.items():
        if dim is None and tensor.shape[0] == 1 and not all_bodies:
            continue
        front = _to_front(tensor, dim, size)
        arguments[position] = front.expand(size, bodies, *front.shape[2:]).flatten(0, 1)
    return bodies


def _unfold(result: Tensor, size: int, bodies: int) -> Tensor:
    # A call in which nothing was folded made one body that every slice shares.
    return result.unflatten(0, (size, bodies)) if len(result) == size * bodies else result.expand(size, *result.shape)


def _one_by_one(operator: Operator, size: int, in_dims: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, Any]:
    """Every slice by itself."""
    leaves, structure = pytree.tree_flatten(list(arguments))
    dims = _dims_of_leaves(list(in_dims), list(arguments))
    if size == 0:  # one slice of zeros tells the shapes
        leaves = [
            leaf if dim is None else leaf.new_zeros(leaf.movedim(dim, 0).shape[1:]).unsqueeze(dim)
            for leaf, dim in zip(leaves, dims, strict=True)
        ]
    results = []
    for index in range(max(size, 1)):
        slices = [leaf if dim is None else leaf.select(dim, index) for leaf, dim in zip(leaves, dims, strict=True)]
        results.append(operator(*pytree.tree_unflatten(slices, structure)))
    if isinstance(results[0], Tensor):
        return torch.stack(results)[:size], 0
    stacked = [torch.stack(same)[:size] for same in zip(*results, strict=True)]
    return type(results[0])(stacked), type(results[0])([0] * len(stacked))


def _dims_of_leaves(in_dims: list[Any], arguments: list[Any]) -> list[int | None]:
    """One dimension for each leaf of the arguments; a list may have one for all its members."""
    dims: list[int | None] = []
    for dim, argument in zip(in_dims, arguments, strict=True):
        count = len(pytree.tree_leaves(argument))
        dims.extend(dim if isinstance(dim, (list, tuple)) else [dim] * count)
    return dims


def _to_front(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
