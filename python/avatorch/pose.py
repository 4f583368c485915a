"""Poses as a caller writes them: in one of four kinds of rotation, as a tensor or joint by joint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

Rotations = Literal["axis_angle", "quaternion", "sixd", "matrix"]

# The numbers of one rotation of each kind, and of the one that turns nothing.
SHAPES: dict[str, tuple[int, ...]] = {"axis_angle": (3,), "quaternion": (4,), "sixd": (6,), "matrix": (3, 3)}
IDENTITY: dict[str, list[float]] = {
    "axis_angle": [0, 0, 0],
    "quaternion": [1, 0, 0, 0],
    "sixd": [1, 0, 0, 0, 1, 0],
    "matrix": [1, 0, 0, 0, 1, 0, 0, 0, 1],
}


def joined_pose(
    pose: Tensor | Mapping[str, Tensor],
    rotations: Rotations,
    joints: int,
    joint: Callable[[str], int],
    like: Tensor,
) -> Tensor:
    """Axis-angle [..., J, 3] as it is; every other kind as matrices [..., J, 3, 3]."""
    shape = SHAPES[rotations]
    every = _by_name(pose, rotations, joints, joint, like) if isinstance(pose, Mapping) else check_tensor("pose", pose)
    if rotations == "axis_angle" and every.shape[-2:] != (joints, 3) and every.shape[-1:] == (3 * joints,):
        every = every.unflatten(-1, (joints, 3))
    if every.shape[-1 - len(shape) :] != (joints, *shape):
        raise ValueError(_wrong_shape(every, rotations, joints))
    if rotations == "quaternion":
        every = torch.ops.smplx.quaternion_to_matrix(every)
    elif rotations == "sixd":
        every = torch.ops.smplx.sixd_to_matrix(every)
    return every


def check_rotations(rotations: str) -> None:
    """A kind of rotation there is."""
    if rotations not in tuple(SHAPES):
        raise ValueError(f"Body: rotations is {rotations!r}, expected one of {', '.join(SHAPES)}")


def check_tensor(name: str, given: object) -> Tensor:
    """A tensor: numbers and lists say neither their dtype nor their device."""
    if not isinstance(given, Tensor):
        raise TypeError(f"Body: {name} is of type {type(given).__name__}, expected a tensor")
    return given


def numbers(name: str, given: object, like: Tensor) -> Tensor:
    """What stands under a name, which may be numbers or lists of them."""
    try:
        return torch.as_tensor(given, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"Body: {name} is of type {type(given).__name__}, expected numbers: {error}") from None


def side_by_side(kind: str, named: Mapping[str, Tensor], every: Sequence[Tensor], own: int) -> Tensor:
    """Those of all places broadcast against each other, along the first of their `own` last dimensions."""
    try:
        return torch.stack(torch.broadcast_tensors(*every), -1 - own)
    except RuntimeError:
        each = ", ".join(f"{list(tensor.shape)} of {name}" for name, tensor in named.items())
        raise ValueError(f"Body: the leading dimensions of {kind} do not broadcast: {each}") from None


def _by_name(
    pose: Mapping[str, Tensor], rotations: str, joints: int, joint: Callable[[str], int], like: Tensor
) -> Tensor:
    """[..., J, *shape] from the rotations of some joints, each [..., *shape]."""
    shape = SHAPES[rotations]
    named, given = {}, {}
    for name, value in pose.items():
        rotation = numbers(f"the pose of {name}", value, like)
        if rotation.shape[-len(shape) :] != shape:
            raise ValueError(
                f"Body: the pose of {name} has shape {list(rotation.shape)}, expected [..., "
                f"{', '.join(map(str, shape))}] for rotations={rotations!r}"
            )
        given[joint(name)] = named[name] = rotation
    rest = torch.tensor(IDENTITY[rotations], dtype=like.dtype, device=like.device).reshape(shape)
    return side_by_side("pose", named, [given.get(index, rest) for index in range(joints)], len(shape))


def _wrong_shape(pose: Tensor, rotations: str, joints: int) -> str:
    expected = f"[..., {', '.join(map(str, (joints, *SHAPES[rotations])))}]"
    if rotations == "axis_angle":
        expected += f" or [..., {3 * joints}]"
    fitting = [kind for kind, shape in SHAPES.items() if pose.shape[-1 - len(shape) :] == (joints, *shape)]
    hint = f"; it would fit rotations={fitting[0]!r}" if fitting else ""
    return f"Body: pose has shape {list(pose.shape)}, expected {expected} for rotations={rotations!r}{hint}"
