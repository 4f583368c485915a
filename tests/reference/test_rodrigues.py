"""Rotation matrices of axis-angle vectors, and their derivatives near zero."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from avatorch.reference.rodrigues import rodrigues, skew

MAGNITUDES = [0.0, 1e-300, 1e-160, 1e-8, 1e-4, 1e-2, 0.5, 0.999, 1.001, 2.0, 3.1415, 6.0, 20.0]


def vectors_of(magnitude: float, count: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return magnitude * direction / direction.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_equals_the_matrix_exponential(magnitude):
    r = vectors_of(magnitude)
    R = rodrigues(r)
    torch.testing.assert_close(R, torch.linalg.matrix_exp(skew(r)), rtol=0, atol=2e-14 * max(1, magnitude))
    torch.testing.assert_close(R.mT @ R, torch.eye(3, dtype=R.dtype).expand_as(R), rtol=0, atol=2e-15)


def test_the_offset_that_breaks_other_formulas_is_harmless():
    r = torch.full((1, 3), -1e-8, dtype=torch.float64)
    torch.testing.assert_close(rodrigues(r), torch.linalg.matrix_exp(skew(r)), rtol=0, atol=1e-16)
    assert rodrigues(torch.zeros(1, 3, dtype=torch.float16)).isfinite().all()


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_derivatives_match_finite_differences(magnitude):
    r = vectors_of(magnitude, count=3).requires_grad_()
    assert gradcheck(rodrigues, r, atol=1e-7, check_forward_ad=True)
    assert gradgradcheck(rodrigues, r, atol=1e-6)


def test_derivatives_at_zero_are_exact():
    """R = sum of K^n / n!, so the n-th derivative at 0 is the symmetrised product of n generators over n!."""
    zero = torch.zeros(3, dtype=torch.float64)
    L = skew(torch.eye(3, dtype=torch.float64))  # [xyz, 3, 3]
    first = torch.func.jacrev(rodrigues)
    second, third = torch.func.jacrev(first), torch.func.jacrev(torch.func.jacrev(first))
    products = torch.einsum("iab,jbc->acij", L, L)
    triples = torch.einsum("iab,jbc,kcd->adijk", L, L, L)
    orders = [(2, 3, 4), (2, 4, 3), (3, 2, 4), (3, 4, 2), (4, 2, 3), (4, 3, 2)]
    torch.testing.assert_close(first(zero), L.permute(1, 2, 0), rtol=0, atol=0)
    torch.testing.assert_close(second(zero), (products + products.mT) / 2, rtol=0, atol=1e-16)
    symmetric = sum(triples.permute(0, 1, *order) for order in orders) / 6
    torch.testing.assert_close(third(zero), symmetric, rtol=0, atol=1e-15)


def test_second_derivatives_do_not_jump_between_series_and_closed_form():
    direction = vectors_of(1.0, count=1)[0]
    hessian = torch.func.jacfwd(torch.func.jacrev(rodrigues))
    below, above = hessian(direction * (1 - 1e-9)), hessian(direction * (1 + 1e-9))
    torch.testing.assert_close(below, above, rtol=0, atol=1e-8)


@pytest.mark.parametrize("shape", [(0, 3), (3,), (1, 3), (2, 5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_batch_and_dtype(shape, dtype):
    R = rodrigues(torch.ones(shape, dtype=dtype))
    assert R.shape == (*shape[:-1], 3, 3) and R.dtype == dtype
