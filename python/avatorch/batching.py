"""vmap rules: the mapped dimension becomes one more batch dimension of the operator itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def register() -> None:
    """Registers the rule of every operator; done once, on import."""
    for name in ("rodrigues", "rodrigues_backward", "stumpff"):
        operator = getattr(torch.ops.smplx, name)
        torch.library.register_vmap(f"smplx::{name}", _leading_dimensions(operator))


def _leading_dimensions(operator: Callable[..., Any]) -> Callable[..., Any]:
    """For operators whose tensors share any leading dimensions."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[torch.Tensor, int]:
        moved = [
            _to_front(argument, dim, info.batch_size) if isinstance(argument, torch.Tensor) else argument
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        return operator(*moved), 0

    return rule


def _to_front(tensor: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
