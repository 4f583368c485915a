"""What is said of a call's argument that does not fit."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from .lbs import widened_dtype


def check_options(model: str, dtype: torch.dtype, **counts: int) -> None:
    """Of a constructor: real numbers, and counts of things."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"{model}: dtype is {dtype!r}, expected torch.float32 or another type of real numbers")
    for name, count in counts.items():
        if not isinstance(count, Integral) or isinstance(count, bool):
            raise TypeError(f"{model}: {name} is {count!r}, expected a whole number")
        if count < 0:
            raise ValueError(f"{model}: {name} is {count}, expected at least 0")


class ArgumentCheck(NamedTuple):
    """Looks at the arguments of one call."""

    model: str  # its class
    like: Tensor  # v_template, whose device and type arguments have

    def shape(self, name: str, given: Tensor | None, *sizes: int) -> None:
        """[B, *sizes]"""
        if given is None:
            return
        self._kind(name, given)
        if given.ndim != 1 + len(sizes) or given.shape[1:] != sizes:
            self._refuse(name, given, f"[B, {', '.join(map(str, sizes))}]")

    def vectors(self, name: str, given: Tensor | None, joints: int, components: int | None) -> None:
        """[B, components], or [B, 3 joints] and what a view of it makes of that."""
        if given is None:
            return
        self._kind(name, given, whole_numbers=True)
        shape = tuple(given.shape)
        if components is not None:
            if given.ndim != 2 or shape[1] != components:
                self._refuse(name, given, f"[B, {components}], components of the hand; use_pca=False takes vectors")
            return
        if given.ndim >= 4 and shape[-2:] == (3, 3):
            self._refuse(name, given, f"[B, {3 * joints}]; pose2rot=False takes matrices")
        if shape[-1:] != (3 * joints,) and shape[-2:] != (joints, 3):
            self._refuse(name, given, f"[B, {3 * joints}]")

    def matrices(self, name: str, given: Tensor | None, joints: int) -> None:
        """[B, joints, 3, 3], and what a view of it makes of that."""
        if given is None:
            return
        self._kind(name, given)
        shape = tuple(given.shape)
        fits = shape[-3:] == (joints, 3, 3) or shape[-2:] == (joints, 9) or shape[-1:] == (9 * joints,)
        if not fits and not (joints == 1 and (shape[-2:] == (3, 3) or shape[-1:] == (9,))):
            self._refuse(name, given, f"rotation matrices [B, {joints}, 3, 3]")

    def _kind(self, name: str, given: Tensor, whole_numbers: bool = False) -> None:
        if not isinstance(given, Tensor):
            raise TypeError(f"{self.model}: {name} is of type {type(given).__name__}, expected a tensor")
        if given.device != self.like.device:
            raise ValueError(f"{self.model}: {name} is on {given.device}, expected {self.like.device} as the model")
        whole = not given.is_floating_point() and not given.is_complex()
        if not (whole and whole_numbers) and widened_dtype(given.dtype) != widened_dtype(self.like.dtype):
            raise TypeError(f"{self.model}: {name} is {given.dtype}, expected {self.like.dtype} as the model")

    def _refuse(self, name: str, given: Tensor, expected: str) -> None:
        raise ValueError(f"{self.model}: {name} has shape {list(given.shape)}, expected {expected}")
