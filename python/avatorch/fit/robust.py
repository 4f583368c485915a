"""Kernels that bound what an outlier can do: rho(s) of a squared residual s in units of its sigma, rho'(0) = 1."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Kernel(NamedTuple):
    """`weight` is rho', the factor that turns a robust step into a weighted one."""

    rho: Callable[[Tensor], Tensor]
    weight: Callable[[Tensor], Tensor]


def _squared(width: float) -> float:
    if not width > 0:
        raise ValueError(f"fit: the width of a robust kernel is {width}, expected more than 0")
    return width * width


def huber(width: float = 1.345) -> Kernel:
    """Grows linearly from `width` sigmas on."""
    square = _squared(width)

    def rho(s: Tensor) -> Tensor:
        # The clamp keeps the gradient of the root finite where it is not used.
        return torch.where(s <= square, s, 2 * width * s.clamp_min(square).sqrt() - square)

    return Kernel(rho, lambda s: width * s.clamp_min(square).rsqrt())


def geman_mcclure(width: float = 3.0) -> Kernel:
    """Bounded by `width` squared: what is much further away than `width` sigmas does not count."""
    square = _squared(width)
    return Kernel(lambda s: s * square / (s + square), lambda s: (square / (s + square)).square())


def cauchy(width: float = 2.385) -> Kernel:
    """Grows like a logarithm."""
    square = _squared(width)
    return Kernel(lambda s: square * torch.log1p(s / square), lambda s: square / (s + square))


KERNELS = {"huber": huber, "geman_mcclure": geman_mcclure, "cauchy": cauchy}


def kernel(wanted: Kernel | str | None) -> Kernel | None:
    """A kernel by its name, with its usual width."""
    if isinstance(wanted, str):
        if wanted not in KERNELS:
            raise ValueError(f"fit: there is no robust kernel {wanted!r}, expected one of {', '.join(KERNELS)}")
        return KERNELS[wanted]()
    return wanted
