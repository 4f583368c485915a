"""One damped step for every frame: (H + lambda D) step = -g, D the diagonal of H.

Without ties each frame is solved alone. Unknowns that a sequence shares are solved first, by Schur's complement. Terms
that tie neighbouring frames need conjugate gradients, with that solution as preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from avatorch.fit.priors import Smooth
from avatorch.fit.unknowns import Unknowns

ROUNDS = 20  # of conjugate gradients: steps need not be exact


def step(
    unknowns: Unknowns,
    columns: Tensor,  # [n]
    H: Tensor,  # [B, n, n]
    g: Tensor,  # [B, n]
    damping: Tensor,  # [B]
    ties: Sequence[tuple[Smooth, float]],  # terms between frames, and their factors
) -> Tensor:
    """[B, n]; zero where a matrix was not positive."""
    shared = unknowns.shared[columns]  # [n]
    scale = _scale(unknowns, H, shared)  # [B, n], to a diagonal of ones
    damped = (H / scale[:, :, None]).div_(scale[:, None])
    own = torch.ones_like(scale) if not unknowns.is_shared else _part_of_diagonal(unknowns, H, shared)
    damped.diagonal(dim1=1, dim2=2).add_(damping[:, None] * own)
    solve = _solver(unknowns, damped, columns)
    right = -g / scale
    if not ties:
        return solve(right) / scale

    def times(vector: Tensor) -> Tensor:
        # What shared columns get stays apart in frames; `dot` and `solve` add it up.
        return (damped @ vector[..., None])[..., 0] + _between(unknowns, columns, ties, vector / scale) / scale

    return _conjugate_gradients(times, solve, unknowns, right) / scale


def _scale(unknowns: Unknowns, H: Tensor, shared: Tensor) -> Tensor:
    diagonal = H.diagonal(dim1=1, dim2=2)
    if unknowns.is_shared:
        diagonal = torch.where(shared, unknowns.summed(diagonal)[unknowns.sequence], diagonal)
    root = diagonal.clamp_min(0).sqrt()
    return torch.where(root > 1e-12, root, 1.0)


def _part_of_diagonal(unknowns: Unknowns, H: Tensor, shared: Tensor) -> Tensor:
    """One for a frame's own columns; shared ones add up to one over the frames of a sequence."""
    frames = unknowns.summed(torch.ones_like(H[:, 0, :1]))[unknowns.sequence]
    return torch.where(shared, 1 / frames, torch.ones_like(frames))


def _solver(unknowns: Unknowns, H: Tensor, columns: Tensor) -> Callable[[Tensor], Tensor]:
    """Solves for right sides [B, n] with a factorisation made once; shared columns are those of the sum."""
    if not unknowns.is_shared:
        factor, failed = torch.linalg.cholesky_ex(H)
        # A row that is not positive gives no step; the damping grows, and the next one is.
        return lambda right: torch.where((failed == 0)[:, None], _solve(factor, right), 0)
    sequence = unknowns.sequence
    ours, theirs = unknowns.parted(columns)
    factor, failed = torch.linalg.cholesky_ex(H[:, ours[:, None], ours])
    mixed = H[:, ours[:, None], theirs]  # [B, own, shared]
    removed = _solve(factor, mixed)
    complement = unknowns.summed(H[:, theirs[:, None], theirs] - mixed.mT @ removed)
    outer, outer_failed = torch.linalg.cholesky_ex(complement)
    bad = (unknowns.summed((failed != 0).to(H)) + (outer_failed != 0).to(H))[sequence] > 0  # [B]

    def solve(right: Tensor) -> Tensor:
        alone = _solve(factor, right[:, ours])
        total = unknowns.summed(right[:, theirs] - (mixed.mT @ alone[..., None])[..., 0])
        common = _solve(outer, total)[sequence]
        result = torch.zeros_like(right)
        result[:, ours] = alone - (removed @ common[..., None])[..., 0]
        result[:, theirs] = common
        return torch.where(bad[:, None], 0, result)

    return solve


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    if right.ndim == 3:
        # On a GPU cholesky_solve takes one matrix after another as soon as there is more than one right side.
        forward = torch.linalg.solve_triangular(factor, right, upper=False)
        return torch.linalg.solve_triangular(factor.mT, forward, upper=True)
    return torch.cholesky_solve(right[..., None], factor)[..., 0]


def _between(unknowns: Unknowns, columns: Tensor, ties: Sequence[tuple[Smooth, float]], vector: Tensor) -> Tensor:
    """What terms between frames add to the product, beyond the diagonal that H already has."""
    full = vector.new_zeros(len(vector), unknowns.N)
    full[:, columns] = vector
    result = torch.zeros_like(full)
    for term, factor in ties:
        values = full[:, unknowns.slices[term.unknown]]
        beyond = term.transposed(term.differences(values)) - term.diagonal() * values
        result[:, unknowns.slices[term.unknown]] += factor / term.sigma**2 * beyond
    return result[:, columns]


def _conjugate_gradients(
    times: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    unknowns: Unknowns,
    right: Tensor,
) -> Tensor:
    """Solves for [B, n], each sequence with its own coefficients; never waits for the device."""

    def dot(vector: Tensor, covector: Tensor) -> Tensor:
        # A shared entry stands in every frame of a vector, and in parts in those of a covector: one sum serves both.
        return unknowns.summed((vector * covector).sum(1))

    def over(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(b.abs() > 0, a / b.where(b.abs() > 0, 1), 0)[unknowns.sequence][:, None]

    result = torch.zeros_like(right)
    residual = right
    towards = precondition(residual)
    direction, measure = towards, dot(towards, residual)
    for _ in range(ROUNDS):
        image = times(direction)
        length = over(measure, dot(direction, image))
        result = result + length * direction
        residual = residual - length * image
        towards = precondition(residual)
        renewed = dot(towards, residual)
        direction = towards + over(renewed, measure) * direction
        measure = renewed
    return result
