"""A face's parts from the moves that a network gives them, frame by frame."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def skin(moves: Tensor, neutral: Tensor, eye_close: Tensor, lip_open: Tensor, p: Any, seconds: float) -> Tensor:
    """moves [F, V, 3], the others [V, 3], `p` the settings, `seconds` a frame -> positions [F, V, 3]"""
    y = neutral[:, 1]
    level = (y - y.min()) / (y.max() - y.min())
    mask = (1 / (1 + torch.exp(-(p.face_mask_level - level) / p.face_mask_softness)))[:, None]  # [V, 1]
    lids = -p.eyelid_open_offset + p.blink_offset * p.blink_strength
    parts = []
    for smoothing, strength, where in (
        (p.upper_face_smoothing, p.upper_face_strength, 1 - mask),
        (p.lower_face_smoothing, p.lower_face_strength, mask),
    ):
        once = twice = None
        frames = []
        for move in moves:
            wanted = p.skin_strength * move + lids * eye_close + p.lip_open_offset * lip_open
            if once is None or twice is None or smoothing <= 0:
                once = twice = wanted
            else:
                kept = 0.5 ** (seconds / smoothing)
                once = kept * once + (1 - kept) * wanted
                twice = kept * twice + (1 - kept) * once
            frames.append(twice)
        parts.append(strength * where * torch.stack(frames))
    return neutral + parts[0] + parts[1]


def tongue(moves: Tensor, neutral: Tensor, p: Any) -> Tensor:
    """moves [F, T, 3] -> positions [F, T, 3]"""
    return neutral + p.tongue_strength * moves + moves.new_tensor([0, p.tongue_height_offset, p.tongue_depth_offset])


def jaw(moves: Tensor, neutral: Tensor, p: Any) -> Tensor:
    """moves [F, points, 3] -> transforms [F, 4, 4], by Horn's quaternions"""
    shift = moves.new_tensor([0, p.lower_teeth_height_offset, p.lower_teeth_depth_offset])
    transforms = []
    for move in moves:
        target = neutral + p.lower_teeth_strength * move + shift
        m = (neutral - neutral.mean(0)).T @ (target - target.mean(0))
        (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = m.tolist()
        n = moves.new_tensor(
            [
                [xx + yy + zz, yz - zy, zx - xz, xy - yx],
                [yz - zy, xx - yy - zz, xy + yx, zx + xz],
                [zx - xz, xy + yx, yy - xx - zz, yz + zy],
                [xy - yx, zx + xz, yz + zy, zz - xx - yy],
            ]
        )
        w, x, y, z = torch.linalg.eigh(n)[1][:, -1].tolist()
        rotation = moves.new_tensor(
            [
                [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
            ]
        )
        transform = torch.eye(4, dtype=moves.dtype)
        transform[:3, :3] = rotation
        transform[:3, 3] = target.mean(0) - rotation @ neutral.mean(0)
        transforms.append(transform)
    return torch.stack(transforms)


def eyes(angles: Tensor, saccades: Tensor, p: Any, seconds: float) -> Tensor:
    """angles [F, 4], saccades [samples, 2] at 30 a second -> degrees [F, 2, 3], right, left"""
    frames = []
    for number, (right_x, right_y, left_x, left_y) in enumerate(angles.tolist()):
        place = math.floor(p.eye_saccade_seed + number * seconds * 30 + 1e-9) % len(saccades)
        jump_x, jump_y = (p.saccade_strength * saccades[place]).tolist()
        s = p.eyeballs_strength
        frames.append(
            [
                [p.right_eye_rot_x_offset + s * right_x + jump_x, p.right_eye_rot_y_offset + s * right_y + jump_y, 0.0],
                [p.left_eye_rot_x_offset + s * left_x + jump_x, p.left_eye_rot_y_offset + s * left_y + jump_y, 0.0],
            ]
        )
    return angles.new_tensor(frames)
