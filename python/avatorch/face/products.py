"""Products with one matrix for many rows."""

from __future__ import annotations

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
