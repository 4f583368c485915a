"""Rows of tensors: products with one matrix for many, and which of them to take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def row_products(rows: Tensor, matrix: Tensor) -> Tensor:
    """[..., n] . [n, k] -> [..., k]

    On the CPU each row is multiplied alone and from memory aligned alike: a product of many rows rounds differently by
    their number, and a frame would depend on what else is computed with it.
    """
    if rows.device.type != "cpu":
        return rows @ matrix
    flat = rows.reshape(-1, rows.shape[-1])
    transposed = matrix.mT
    products = torch.empty(len(flat), matrix.shape[1], dtype=rows.dtype, device=rows.device)
    for product, row in zip(products, flat, strict=True):
        product.copy_(torch.mv(transposed, row.clone()))
    return products.reshape(*rows.shape[:-1], matrix.shape[1])


def run_of(numbers: Sequence[int], device: torch.device) -> Tensor | slice:
    """An index of rows: on a GPU a slice where they are equally far apart, since numbers from the host take a copy. On
    the CPU rows are always copied, to memory aligned alike.
    """
    if device.type != "cpu":
        steps = {after - before for before, after in pairwise(numbers)} or {1}
        first, step = (numbers[0], min(steps)) if numbers else (0, 1)
        if len(steps) == 1 and step > 0:
            return slice(first, first + len(numbers) * step, step)
    return torch.tensor(list(numbers), dtype=torch.int64, device="cpu").to(device, non_blocking=True)
