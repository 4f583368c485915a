"""From moments of the vertices that two joints share to a matrix over rotations."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn.functional import pad

from avatorch.body import Body
from avatorch.fit.jacobian import Skeleton, cross_matrix


class Pairs:
    """The joints that share vertices, each pair once, and the products of their weights."""

    def __init__(self, body: Body) -> None:
        weights = body.lbs_weights
        used = (weights != 0).to(weights)
        self.first, self.second = (used.T @ used).triu().nonzero().T  # [p] each
        self.products = (weights[:, self.first] * weights[:, self.second]).T  # [p, V]

    def __len__(self) -> int:
        return len(self.first)

    def over_twists(self, bones: Skeleton, shared: Tensor) -> Tensor:
        """The matrix over all twists [B, 6 J, 6 J] from sums of (v; 1)(v; 1)^T for each pair, [B, p, 4, 4]."""
        batch, joints = bones.places.shape[:2]
        A = bones.A_global
        shared = A[:, self.first] @ shared @ A[:, self.second].mT
        products, mass = shared[..., :3, :3], shared[..., 3, 3]
        identity = torch.eye(3, dtype=A.dtype, device=A.device)
        trace = products.diagonal(dim1=-2, dim2=-1).sum(-1)
        blocks = torch.cat(
            [
                torch.cat([trace[..., None, None] * identity - products.mT, cross_matrix(shared[..., :3, 3])], -1),
                torch.cat([-cross_matrix(shared[..., 3, :3]), mass[..., None, None] * identity], -1),
            ],
            -2,
        )  # [B, p, 6, 6]
        matrix = A.new_zeros(batch, joints, 6, joints, 6)
        blocks = blocks.transpose(0, 1)  # [p, B, 6, 6]
        matrix[:, self.second, :, self.first] = blocks.mT
        matrix[:, self.first, :, self.second] = blocks
        return matrix.flatten(3).flatten(1, 2)


class Partners:
    """Both orders of each pair, by their first joint, in rows of a fixed width: sums over a row are one product."""

    WIDTH = 8

    def __init__(self, pairs: Pairs) -> None:
        count, joints = len(pairs), torch.cat([pairs.first, pairs.second]).tolist()
        others = torch.cat([pairs.second, pairs.first]).tolist()
        rows: dict[int, list[list[int]]] = {}
        for number, (joint, other) in enumerate(zip(joints, others, strict=True)):
            if number >= count and joint == other:
                continue  # a joint with itself counts once
            of_joint = rows.setdefault(joint, [[]])
            if len(of_joint[-1]) == self.WIDTH:
                of_joint.append([])
            of_joint[-1].append(number)
        listed = [(joint, row) for joint in sorted(rows) for row in rows[joint]]
        device = pairs.first.device
        self.owners = torch.tensor([joint for joint, _ in listed], device=device)  # [r]
        self.numbers = torch.tensor([[*row, *[-1] * (self.WIDTH - len(row))] for _, row in listed], device=device)
        partners = torch.tensor(others, device=device)[self.numbers]
        self.joints = torch.where(self.numbers < 0, self.owners[:, None], partners)  # [r, W]

    def of(self, values: Tensor) -> Tensor:
        """What belongs to a place in a row, of values [p, ...] of the pairs: [r, W, ...], zero where none is."""
        there = (self.numbers >= 0).reshape(*self.numbers.shape, *[1] * (values.ndim - 1))
        return torch.where(there, values[self.numbers % len(values)], 0)


def twists(bones: Skeleton, joints: Tensor) -> Tensor:
    """Each joint's twist for each unknown, [B, 6 J, 3 K + 3]."""
    axes = bones.frames[:, joints]  # [B, K, 3, 3]
    moves = cross_matrix(bones.places[:, joints]) @ axes
    one = torch.cat([axes, moves], 2)  # [B, K, 6, 3]
    everywhere = bones.below[:, None, joints, None] * one.transpose(1, 2)[:, None]  # [B, J, 6, K, 3]
    shift = pad(torch.eye(3, dtype=axes.dtype, device=axes.device), (0, 0, 3, 0))  # [6, 3]
    shift = shift.expand(*bones.places.shape[:2], 6, 3)
    return torch.cat([everywhere.flatten(3), shift], 3).flatten(1, 2)


def curl(met: Tensor) -> Tensor:
    """Sums of x cross y from those of x y^T: [..., 3, 3, C] -> [..., 3, C]"""
    turned = [met[..., (i + 1) % 3, (i + 2) % 3, :] - met[..., (i + 2) % 3, (i + 1) % 3, :] for i in range(3)]
    return torch.stack(turned, -2)


def sparse(matrix: Tensor) -> Tensor:
    """In rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


def times(matrix: Tensor, rows: Tensor) -> Tensor:
    """A sparse [m, n] times [n, ...]"""
    return (matrix @ rows.flatten(1)).unflatten(1, rows.shape[1:])
