"""Weights of blend shapes: the least squares problem of a face, and bounded least squares by active sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def system(deltas: Tensor, neutral: Tensor, pairs: Sequence[tuple[int, int]], p: Any) -> tuple[Tensor, float]:
    """deltas [k, n] of the active poses, neutral [V, 3], mirrored pairs -> A [k, k], the factor of the last weights"""
    scale = float(((neutral.amax(0) - neutral.amin(0)).square().sum().sqrt() / p.template_bb_size).square())
    k = len(deltas)
    a = deltas @ deltas.T
    for i in range(k):
        a[i, i] += 10 * p.l2_regularization * scale + 100 * p.temporal_smoothing * scale
        for j in range(k):
            a[i, j] += p.l1_regularization**2 / 4 * scale
    for left, right in pairs:
        for i, j, sign in ((left, left, 1), (right, right, 1), (left, right, -1), (right, left, -1)):
            a[i, j] += sign * 10 * p.symmetry * scale
    return a, p.temporal_smoothing * scale


def bounded(a: Tensor, b: Tensor, upper: Tensor) -> Tensor:
    """argmin |a x - b|^2, 0 <= x <= upper, as Stark and Parker do it. [k, k], [k], [k] -> [k]"""
    x = torch.zeros_like(b)
    free: set[int] = set()
    tolerance = 1e-12 * float((a.T @ b).abs().max() + (a.T @ a).abs().max() * upper.max())
    for _ in range(100 * len(b)):
        slope = a.T @ (b - a @ x)  # the way down
        inward = torch.where(x <= 0, slope, torch.where(x >= upper, -slope, 0 * slope))
        inward[list(free)] = 0
        if float(inward.max()) <= tolerance:
            break
        free.add(int(inward.argmax()))
        while free:
            index = torch.tensor(sorted(free))
            held = x.clone()
            held[index] = 0
            wanted = torch.linalg.lstsq(a[:, index], (b - a @ held)[:, None], driver="gelsd").solution[:, 0]
            now = x[index]
            low, high = wanted < 0, wanted > upper[index]
            if not (low | high).any():
                x[index] = wanted
                break
            reach = torch.where(
                low, now / (now - wanted), torch.where(high, (upper[index] - now) / (wanted - now), 2.0)
            )
            step = reach.argmin()
            x[index] = now + reach[step] * (wanted - now)
            x[index[step]] = 0.0 if bool(low[step]) else upper[index[step]]
            free.remove(int(index[step]))
    return x


def weights(a: Tensor, b: Tensor, cancel: Sequence[tuple[int, int]] = ()) -> Tensor:
    """Solves, bounds the smaller of each cancel pair by 1e-10, and solves again. [k, k], [k] -> [k]"""
    upper = torch.ones_like(b)
    x = bounded(a, b, upper)
    for i, j in cancel:
        upper[j if x[i] >= x[j] else i] = 1e-10
    return bounded(a, b, upper) if cancel else x
