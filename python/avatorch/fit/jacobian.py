"""Exact derivatives of points on a body, in closed form.

Turning joint k by a small rotation w about its place t_k moves a skinned point by w x s_k,
    s_k = sum over joints j at or below k of w_j (x_j - t_k),    x_j = A_j (v_posed; 1),
so all rotations of a point follow from sums over subtrees. The derivative of axis-angle is the left Jacobian of SO(3).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.rig import Posed


class Skeleton(NamedTuple):
    """What all points of posed bodies have in common; without translation."""

    below: Tensor  # [J, J], 1 where the first joint is the second or below it
    parents: Tensor  # [J]
    A_global: Tensor  # [B, J, 4, 4]
    places: Tensor  # [B, J, 3], of the joints
    frames: Tensor  # [B, J, 3, 3], what each component of a joint's axis-angle turns about
    local: Tensor  # [B, J, 3, 3], the same before the parents turn it
    rot_mats: Tensor  # [B, J, 3, 3]


def skeleton(body: Body, below: Tensor, posed: Posed, pose: Tensor, transl: Tensor) -> Skeleton:
    """below [J, J], pose [B, J, 3], transl [B, 3]"""
    parents = body.parents.long()
    turned = posed.A_global[:, :, :3, :3]
    root = torch.eye(3, dtype=pose.dtype, device=pose.device).expand_as(turned)
    before = torch.where((parents >= 0)[:, None, None], turned[:, parents.clamp_min(0)], root)
    local = left_jacobian(pose)
    places = posed.joints - transl[:, None]
    return Skeleton(below, parents, posed.A_global, places, before @ local, local, posed.rot_mats)


def subtrees(parents: Tensor) -> Tensor:
    """[J, J], true where the first joint is the second or below it."""
    joints = len(parents)
    below = torch.eye(joints, dtype=torch.bool)
    for joint, parent in enumerate(parents.tolist()):
        if parent >= 0:
            below[joint] |= below[parent]
    return below.to(parents.device)


def cross_matrix(v: Tensor) -> Tensor:
    """[..., 3] -> [..., 3, 3], the product v x"""
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))


def left_jacobian(theta: Tensor) -> Tensor:
    """How a rotation turns with its axis-angle: exp(theta + d) = exp(J d) exp(theta). [..., 3] -> [..., 3, 3]"""
    square = theta.square().sum(-1)[..., None, None]
    small = square < 1e-4  # there the next term of each series is below 1e-12
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    first = torch.where(small, 0.5 - square / 24 + square.square() / 720, (1 - angle.cos()) / safe)
    second = torch.where(small, 1 / 6 - square / 120 + square.square() / 5040, (angle - angle.sin()) / (safe * angle))
    k = cross_matrix(theta)
    return torch.eye(3, dtype=theta.dtype, device=theta.device) + first * k + second * (k @ k)


def turned_by_joints(bones: Skeleton, weighted: Tensor, weights: Tensor, joints: Tensor) -> Tensor:
    """How points move when joints turn, [B, U, 3, K, 3] for the K `joints`.

    weighted [B, U, J, 3] is w_j x_j, weights [B|1, U, J] is w_j.
    """
    below = bones.below[:, joints]  # [J, K]
    lever = torch.einsum("bujx,jk->bukx", weighted, below)
    lever = lever - (weights @ below)[..., None] * bones.places[:, None, joints]
    axes = bones.frames[:, joints].transpose(-1, -2)[:, None]  # [B, 1, K, axis, xyz]
    moved = torch.linalg.cross(axes, lever[:, :, :, None].expand(-1, -1, -1, 3, -1))  # [B, U, K, axis, xyz]
    return moved.permute(0, 1, 4, 2, 3)


def skinned_points(
    body: Body,
    posed: Posed,
    bones: Skeleton,
    corners: Tensor,  # [B|1, U, k], vertices
    shares: Tensor,  # [B|1, U, k], of each corner in its point
    joints: Tensor,  # [K]
    coefficients: Tensor,  # [C'], columns of shapedirs
) -> tuple[Tensor, Tensor]:
    """Derivatives of surface points by joints [B, U, 3, K, 3] and by shape [B, U, 3, C']."""
    batch = torch.arange(len(posed.v_posed), device=corners.device)[:, None, None]
    homogeneous = torch.nn.functional.pad(posed.v_posed[batch, corners], (0, 1), value=1.0)  # [B, U, k, 4]
    weights = body.lbs_weights[corners] * shares[..., None]  # [B|1, U, k, J]
    blended = torch.einsum("bukj,bukh->bujh", weights.expand(len(batch), -1, -1, -1), homogeneous)  # [B, U, J, 4]
    weighted = torch.einsum("bujh,bjxh->bujx", blended, bones.A_global[:, :, :3])
    by_joints = turned_by_joints(bones, weighted, weights.sum(2), joints)
    turned = torch.einsum("bukj,bjxy->bukxy", weights, bones.A_global[:, :, :3, :3])  # [B, U, k, 3, 3]
    if body.posedirs is not None:
        by_joints = by_joints + _correctives(body, bones, turned, corners, joints)
    moved = turned @ body.shapedirs[corners][..., coefficients]  # [B, U, k, 3, C']
    carried = joints_by_shape(body, bones, coefficients)[1]  # [B, J, 3, C']
    by_shape = moved.sum(2) + torch.einsum("buj,bjxc->buxc", weights.sum(2).expand(len(batch), -1, -1), carried)
    return by_joints, by_shape


def _correctives(body: Body, bones: Skeleton, turned: Tensor, corners: Tensor, joints: Tensor) -> Tensor:
    """What the pose correctives add, [B, U, 3, K, 3]; the root has none."""
    assert body.posedirs is not None
    per_joint = body.posedirs.reshape(len(bones.parents) - 1, 9, -1, 3)
    moves = (
        cross_matrix(bones.local[:, joints].transpose(-1, -2)) @ bones.rot_mats[:, joints, None]
    )  # [B, K, axis, 3, 3]
    moves = torch.where((joints > 0)[:, None, None], moves.flatten(-2), 0)  # [B, K, axis, 9]
    result = turned.new_zeros(*turned.shape[:2], 3, len(joints), 3)
    for corner in range(corners.shape[2]):
        places = corners[:, :, corner].expand(len(turned), -1)  # [B, U]
        if corners.shape[0] == 1:
            directions = per_joint[(joints - 1).clamp_min(0)][:, :, corners[0, :, corner]]  # [K, 9, U, 3]
            offsets = torch.einsum("bkaf,kfux->buxka", moves, directions)
        else:
            directions = per_joint[(joints - 1).clamp_min(0)][:, :, places]  # [K, 9, B, U, 3]
            offsets = torch.einsum("bkaf,kfbux->buxka", moves, directions)
        result += torch.einsum("buxy,buyka->buxka", turned[:, :, corner], offsets)
    return result


def joints_by_shape(body: Body, bones: Skeleton, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives by shape, [B, J, 3, C'] each: of the joints' places, and of the translations in A_global."""
    directions = body.rig().prepared[2][..., coefficients]  # [J, 3, C']
    parents = bones.parents
    has_parent = (parents >= 0)[:, None, None]
    bone = directions - torch.where(has_parent, directions[parents.clamp_min(0)], 0)
    turned = bones.A_global[:, :, :3, :3]
    root = torch.eye(3, dtype=turned.dtype, device=turned.device).expand_as(turned)
    before = torch.where(has_parent, turned[:, parents.clamp_min(0)], root)
    places = torch.einsum("jk,bkxc->bjxc", bones.below, before @ bone)
    return places, places - turned @ directions


def joint_points(
    body: Body, bones: Skeleton, chosen: Tensor, joints: Tensor, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """The same for `chosen` joints [U] as points: a joint moves with its parent."""
    batch = len(bones.places)
    parents = bones.parents[chosen]
    weights = torch.nn.functional.one_hot(parents.clamp_min(0), len(bones.parents)).to(bones.places)
    weights = weights * (parents >= 0)[:, None]  # [U, J]
    weighted = weights[None, :, :, None] * bones.places[:, chosen, None]  # [B, U, J, 3]
    by_joints = turned_by_joints(bones, weighted, weights[None].expand(batch, -1, -1), joints)
    return by_joints, joints_by_shape(body, bones, coefficients)[0][:, chosen]
