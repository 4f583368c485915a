"""BVH: a skeleton, and Euler angles in degrees for each of its joints over time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from avatorch.motion.sequence import Motion

MOST_BYTES = 1 << 30
MOST_DIGITS, SHORTEST = 18, 1e-9  # of the number of frames; seconds
MOST_ROTATIONS = 1 << 25  # joints without channels have some too, so few numbers could make many
LARGEST = float(np.finfo(np.float32).max)  # what a motion can hold
AXES = {"X": 0, "Y": 1, "Z": 2}


@dataclass
class _Joint:
    name: str
    parent: int
    offset: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    channels: list[str] = field(default_factory=list)


def read_bvh(path: Path, scale: float) -> Motion:
    """The file's own skeleton and its motion. `transl` is how far the root is from its place at rest."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: the file has more than {MOST_BYTES} bytes")
    if not 0 < scale < math.inf:
        raise ValueError(f"motion.load: scale is {scale}, expected metres in a unit of length, more than 0")
    hierarchy, *frames = re.split(r"(?<!\S)MOTION(?!\S)", path.read_bytes().decode("utf-8-sig", "replace"), maxsplit=1)
    try:
        if not frames:
            raise ValueError("there is no MOTION")
        joints = _skeleton(iter(hierarchy.split()))
        rate, values = _frames(frames[0], sum(len(joint.channels) for joint in joints))
        if len(values) * len(joints) > MOST_ROTATIONS:
            raise ValueError(
                f"{len(values)} frames of {len(joints)} joints are more rotations than {MOST_ROTATIONS}, the most"
            )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    rotations, root = _posed(joints, values)
    offsets = torch.tensor([joint.offset for joint in joints])  # [J, 3]
    vectors = torch.ops.smplx.matrix_to_rotvec(torch.from_numpy(rotations))
    return Motion(
        joint_names=[joint.name for joint in joints],
        pose=vectors.float(),
        transl=scale * torch.from_numpy(root).float(),
        frame_rate=rate,
        parents=[joint.parent for joint in joints],
        offsets=scale * offsets,
    )


def _skeleton(words: Iterator[str]) -> list[_Joint]:
    """Joints, every parent before its children."""
    joints: list[_Joint] = []
    open_blocks: list[int] = []  # the joint of each block that is open, -1 for an end site
    for word in words:
        if word in ("ROOT", "JOINT"):
            if word == "ROOT" and joints:
                raise ValueError("there is more than one ROOT")
            if word == "JOINT" and not open_blocks:
                raise ValueError("a JOINT is outside of the ROOT")
            joints.append(_Joint(_next(words), open_blocks[-1] if open_blocks else -1))
            _expect(words, "{")
            open_blocks.append(len(joints) - 1)
        elif word == "End":
            _expect(words, "Site")
            _expect(words, "{")
            open_blocks.append(-1)
        elif word == "}":
            if not open_blocks:
                raise ValueError("a } closes nothing")
            open_blocks.pop()
        elif word == "OFFSET":
            offset = [_number(_next(words)) for _ in range(3)]
            if open_blocks and open_blocks[-1] >= 0:
                joints[open_blocks[-1]].offset = offset
        elif word == "CHANNELS" and open_blocks and open_blocks[-1] >= 0:
            count = _next(words)
            if count not in list("0123456"):
                raise ValueError(f"CHANNELS is followed by {count!r}, expected 0 to 6")
            joints[open_blocks[-1]].channels = [_channel(_next(words)) for _ in range(int(count))]
        elif word != "HIERARCHY":
            raise ValueError(f"{word!r} is not expected in the hierarchy")
    if open_blocks or not joints:
        raise ValueError("the hierarchy ends before it is complete")
    return joints


def _frames(text: str, channels: int) -> tuple[float, np.ndarray]:
    """Frames a second, and values [N, channels]."""
    words = text.split()
    head = words[:5]
    if len(head) < 5 or head[0] != "Frames:" or head[2:4] != ["Frame", "Time:"]:
        raise ValueError("MOTION is not followed by `Frames: <number> Frame Time: <seconds>`")
    frames, seconds = head[1], _number(head[4])
    if not frames.isdecimal() or len(frames) > MOST_DIGITS or seconds < SHORTEST:
        raise ValueError(f"the motion has {frames} frames of {head[4]} s each, expected positive numbers")
    if channels == 0:
        raise ValueError("the hierarchy has no channels, so there is no motion")
    if len(words) - 5 != int(frames) * channels:
        raise ValueError(f"the motion has {len(words) - 5} numbers, expected {frames} frames of {channels} channels")
    try:
        values = np.array(words[5:], dtype=np.float64).reshape(int(frames), channels)
    except ValueError:
        raise ValueError("the motion holds something that is not a number") from None
    if not (np.abs(values) <= LARGEST).all():
        raise ValueError("the motion holds numbers that are not finite")
    return 1 / seconds, values


def _posed(joints: list[_Joint], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [N, J, 3, 3], and the root's distance from its offset [N, 3]."""
    rotations = np.tile(np.eye(3), (len(values), len(joints), 1, 1))
    root = np.zeros((len(values), 3))
    column = 0
    for index, joint in enumerate(joints):
        for channel in joint.channels:
            axis, value = AXES[channel[0]], values[:, column]
            column += 1
            if channel.endswith("rotation"):
                rotations[:, index] = rotations[:, index] @ _about(axis, np.deg2rad(value))
            elif index == 0:
                root[:, axis] = value - joint.offset[axis]
    return rotations, root


def _about(axis: int, angles: np.ndarray) -> np.ndarray:
    """Rotations [N, 3, 3] about one axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrices = np.tile(np.eye(3), (len(angles), 1, 1))
    matrices[:, first, first] = matrices[:, second, second] = np.cos(angles)
    matrices[:, second, first] = np.sin(angles)
    matrices[:, first, second] = -np.sin(angles)
    return matrices


def _next(words: Iterator[str]) -> str:
    word = next(words, None)
    if word is None:
        raise ValueError("the hierarchy ends before it is complete")
    return word


def _expect(words: Iterator[str], wanted: str) -> None:
    if (word := _next(words)) != wanted:
        raise ValueError(f"{word!r} stands where {wanted!r} is expected")


def _channel(word: str) -> str:
    if word[:1] not in AXES or word[1:] not in ("position", "rotation"):
        raise ValueError(f"{word!r} is no channel, expected such as Xposition or Zrotation")
    return word


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        raise ValueError(f"{word!r} stands where a number is expected") from None
    if not abs(number) <= LARGEST:
        raise ValueError(f"{word!r} stands where a finite number is expected")
    return number
