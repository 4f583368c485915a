"""The network's motion to a face's parts: skin, tongue, jaw, eyes. Batched over tracks; frames follow one another.

A track is known by its number, 0 to tracks - 1. R of them are taken at a time, with F frames each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from avatorch.face.bundle import Identity
from avatorch.face.engine.precision import PRECISIONS, computing
from avatorch.face.parameters import AnimatorParameters
from avatorch.face.products import run_of
from avatorch.face.smoothing import smooth_at_once

SACCADE_RATE = 30  # samples of the table a second, whatever the frame rate
MOST_AT_ONCE = 1 << 25  # values of both halves of faces that are smoothed at once


class SkinAnimator:
    """Strength, offsets of lids and lips, and smoothing that differs between the upper and the lower face."""

    def __init__(
        self, identity: Identity, tracks: int, seconds: float, device: torch.device, columns: Tensor | None = None
    ) -> None:
        """`columns` are the values of a frame that are animated: all, or those that a solver looks at."""
        height = identity.neutral_skin[:, 1]
        low, high = height.min(), height.max()
        level = (height - low) / (high - low) if high > low else torch.zeros_like(height)
        flat = (identity.neutral_skin, identity.eye_close, identity.lip_open, level[:, None].expand(-1, 3))
        picked = (values.reshape(-1).to(device) for values in flat)
        self._neutral, self._eye_close, self._lip_open, self._height = (
            values if columns is None else values[columns] for values in picked
        )
        size = len(self._neutral)
        self._seconds = seconds
        self._first = [True] * tracks
        self._once = torch.zeros(
            tracks, 2, size, dtype=torch.float32, device=device
        )  # lower and upper face, filtered once
        self._twice = torch.zeros(tracks, 2, size, dtype=torch.float32, device=device)
        self._gain = torch.zeros(tracks, 2, size, dtype=torch.float32, device=device)
        self._constant = torch.zeros(tracks, size, dtype=torch.float32, device=device)
        self._strength = torch.zeros(tracks, 1, dtype=torch.float32, device=device)
        self._alpha = torch.zeros(tracks, 2, 1, dtype=torch.float32, device=device)
        self._unsmoothed = [False] * tracks  # the upper or the lower face
        for track in range(tracks):
            self.set_parameters(track, identity.parameters)

    def set_parameters(self, track: int, parameters: AnimatorParameters) -> None:
        """For the frames that follow."""
        p = parameters
        lids = -p.eyelid_open_offset + p.blink_offset * p.blink_strength
        self._constant[track] = self._eye_close * lids + self._lip_open * p.lip_open_offset
        lower = torch.sigmoid((p.face_mask_level - self._height) / p.face_mask_softness)  # about 1 on the lower face
        self._gain[track, 0] = p.lower_face_strength * lower
        self._gain[track, 1] = p.upper_face_strength * (1 - lower)
        self._strength[track] = p.skin_strength
        self._unsmoothed[track] = min(p.lower_face_smoothing, p.upper_face_smoothing) <= 0
        for half, smoothing in enumerate((p.lower_face_smoothing, p.upper_face_smoothing)):
            # The smoothing is a half-life in seconds; 1 passes everything.
            self._alpha[track, half] = 1.0 - 0.5 ** (self._seconds / smoothing) if smoothing > 0 else 1.0

    def reset(self, track: int) -> None:
        """The next frame of a track is its first, and is not smoothed."""
        self._first[track] = True

    def animate(self, tracks: Sequence[int], deltas: Tensor, *, smooth: bool = True) -> Tensor:
        """[R, F, values] -> positions [R, F, values]; without `smooth` each frame alone, and nothing is remembered."""
        if deltas.device.type == "cpu" and len(tracks) > 1:  # What is worked on stays in the cache.
            rows = zip(tracks, deltas.split(1), strict=True)
            return torch.cat([self.animate([track], row, smooth=smooth) for track, row in rows])
        which = run_of(tracks, deltas.device)
        wanted = deltas * self._strength[which, None] + self._constant[which, None]
        if not smooth:
            gain = self._gain[which]  # [R, 2, values]
            return self._neutral + wanted * gain[:, None, 1] + wanted * gain[:, None, 0]
        if not deltas.shape[1]:
            return wanted
        smoothed = self._by_frame if deltas.device.type == "cpu" else self._at_once
        positions = smoothed(tracks, which, wanted)
        for track in tracks:
            self._first[track] = False
        return positions

    def _by_frame(self, tracks: Sequence[int], which: Tensor | slice, wanted: Tensor) -> Tensor:
        """Of moves [R, F, values], one frame after the other."""
        gain, alpha = self._gain[which], self._alpha[which]  # [R, 2, values], [R, 2, 1]
        first = torch.tensor([self._first[track] for track in tracks], device="cpu")[:, None, None]
        once, twice = self._once[which], self._twice[which]
        positions, way = torch.empty_like(wanted), torch.empty_like(once)
        for frame in range(wanted.shape[1]):
            target = wanted[:, frame, None]  # [R, 1, values]
            passes = None
            if any(self._unsmoothed[track] or (frame == 0 and self._first[track]) for track in tracks):
                passes = (alpha >= 1) | first if frame == 0 else alpha >= 1
            once = _towards(once, target, alpha, way, target, passes)
            twice = _towards(twice, once, alpha, way, target, passes)
            torch.mul(twice[:, 1], gain[:, 1], out=positions[:, frame])
            positions[:, frame] += self._neutral
            positions[:, frame] += torch.mul(twice[:, 0], gain[:, 0], out=way[:, 0])
        self._once[which], self._twice[which] = once, twice
        return positions

    def _at_once(self, tracks: Sequence[int], which: Tensor | slice, wanted: Tensor) -> Tensor:
        """The same for a GPU, which many small steps would keep waiting."""
        gain, alpha = self._gain[which][:, None], self._alpha[which]  # [R, 1, 2, values], [R, 2, 1]
        begins = torch.tensor([self._first[track] for track in tracks], device="cpu")
        first = begins.to(wanted.device, non_blocking=True)[:, None, None]
        once = torch.where(first, wanted[:, :1], self._once[which])
        twice = torch.where(first, wanted[:, :1], self._twice[which])
        step = max(1, MOST_AT_ONCE // once.numel())
        parts = []
        with computing(PRECISIONS["float32"]):
            for some in wanted.split(step, 1):
                halves = some[:, :, None].expand(-1, -1, 2, -1)
                smoothed, once, twice = smooth_at_once(halves, once, twice, alpha)
                parts.append(self._neutral + (smoothed * gain).sum(2))
        self._once[which], self._twice[which] = once, twice
        return torch.cat(parts, 1)


def _towards(value: Tensor, aim: Tensor, part: Tensor, way: Tensor, target: Tensor, passes: Tensor | None) -> Tensor:
    """Moves a value, in place, by a part of its way to an aim; to the target itself where that passes."""
    torch.sub(aim, value, out=way)
    value += way.mul_(part)
    return value if passes is None else torch.where(passes, target, value)


class TongueAnimator:
    """Strength and a shift up and forward."""

    def __init__(self, identity: Identity, tracks: int, device: torch.device) -> None:
        self._neutral = identity.neutral_tongue.reshape(-1).to(device)
        self._strength = torch.zeros(tracks, 1, 1, dtype=torch.float32, device=device)
        self._shift = torch.zeros(tracks, 1, len(self._neutral), dtype=torch.float32, device=device)
        for track in range(tracks):
            self.set_parameters(track, identity.parameters)

    def set_parameters(self, track: int, parameters: AnimatorParameters) -> None:
        """For the frames that follow."""
        self._strength[track] = parameters.tongue_strength
        self._shift[track, 0, 1::3] = parameters.tongue_height_offset
        self._shift[track, 0, 2::3] = parameters.tongue_depth_offset

    def animate(self, tracks: Sequence[int], deltas: Tensor) -> Tensor:
        """[R, F, values] -> positions [R, F, values]"""
        which = run_of(tracks, deltas.device)
        return self._neutral + self._strength[which] * deltas + self._shift[which]


class JawAnimator:
    """Points of the lower teeth to the rigid motion that fits them best."""

    def __init__(self, identity: Identity, tracks: int, device: torch.device) -> None:
        self._neutral = identity.neutral_jaw.to(device)  # [points, 3]
        self._strength = torch.zeros(tracks, 1, 1, 1, dtype=torch.float32, device=device)
        self._shift = torch.zeros(tracks, 1, 1, 3, dtype=torch.float32, device=device)
        for track in range(tracks):
            self.set_parameters(track, identity.parameters)

    def set_parameters(self, track: int, parameters: AnimatorParameters) -> None:
        """For the frames that follow."""
        self._strength[track] = parameters.lower_teeth_strength
        self._shift[track, 0, 0, 1] = parameters.lower_teeth_height_offset
        self._shift[track, 0, 0, 2] = parameters.lower_teeth_depth_offset

    def animate(self, tracks: Sequence[int], deltas: Tensor) -> Tensor:
        """[R, F, 3 points] -> transforms [R, F, 4, 4]"""
        which = run_of(tracks, deltas.device)
        moves = deltas.unflatten(-1, (-1, 3))
        return rigid_fit(self._neutral, self._neutral + self._strength[which] * moves + self._shift[which])


def rigid_fit(points: Tensor, targets: Tensor) -> Tensor:
    """The rotation and translation that bring `points` [P, 3] nearest to `targets` [..., P, 3]. -> [..., 4, 4]

    Always a rotation, never a reflection. Where the points leave it open, as on a line, it turns them no further than
    it must.
    """
    points, targets = points.double(), targets.double()
    middle, aim = points.mean(-2), targets.mean(-2)
    spread = (points - middle).mT @ (targets - aim[..., None, :])  # [..., 3, 3]
    # What the points leave open is drawn towards no rotation; what they settle moves by less than float32 can tell.
    weight = spread.square().sum((-1, -2)).sqrt() * 1e-12 + 1e-300
    u, _, vh = torch.linalg.svd(
        spread + weight[..., None, None] * torch.eye(3, dtype=torch.float64, device=points.device)
    )
    sign = torch.linalg.det(vh.mT @ u.mT)
    proper = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    rotation = vh.mT @ (proper[..., None] * u.mT)
    transform = torch.zeros(*rotation.shape[:-2], 4, 4, dtype=torch.float64, device=points.device)
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = aim - (rotation @ middle[..., None])[..., 0]
    transform[..., 3, 3] = 1
    return transform.float()


class EyesAnimator:
    """Directions of both eyes, with the small jumps that eyes make."""

    def __init__(self, identity: Identity, tracks: int, seconds: Fraction, device: torch.device) -> None:
        self._saccades = identity.saccades.to(device)  # [samples, 2]
        self._step = seconds * SACCADE_RATE
        self._time = [Fraction(0)] * tracks  # in samples of the table
        self._parameters = [identity.parameters] * tracks

    def set_parameters(self, track: int, parameters: AnimatorParameters) -> None:
        """For the frames that follow."""
        self._parameters[track] = parameters

    def reset(self, track: int) -> None:
        """The table begins again."""
        self._time[track] = Fraction(0)

    def live_time(self, track: int) -> Fraction:
        """Where in the table the next frame is, in seconds."""
        return self._time[track] / SACCADE_RATE

    def set_live_time(self, track: int, seconds: float | Fraction) -> None:
        """Where in the table the next frame is."""
        self._time[track] = Fraction(seconds) * SACCADE_RATE

    def animate(self, tracks: Sequence[int], angles: Tensor) -> Tensor:
        """[R, F, 4], right x, y, left x, y -> degrees [R, F, 2, 3], the right eye, then the left"""
        result = torch.zeros(*angles.shape[:2], 2, 3, dtype=torch.float32, device=angles.device)
        for row, track in enumerate(tracks):
            p = self._parameters[track]
            begin = Fraction(p.eye_saccade_seed) + self._time[track]
            places = [math.floor(begin + self._step * frame) % len(self._saccades) for frame in range(angles.shape[1])]
            numbers = torch.tensor(places, dtype=torch.int64, device="cpu")
            jumps = self._saccades[numbers.to(angles.device, non_blocking=True)]  # [F, 2]
            right = p.right_eye_rot_x_offset, p.right_eye_rot_y_offset
            left = p.left_eye_rot_x_offset, p.left_eye_rot_y_offset
            turned = torch.tensor([right, left], dtype=torch.float32, device="cpu")
            offsets = turned.to(angles.device, non_blocking=True)
            eyes = angles[row].unflatten(-1, (2, 2))  # [F, eye, 2]
            result[row, :, :, :2] = offsets + p.eyeballs_strength * eyes + p.saccade_strength * jumps[:, None]
            self._time[track] = (self._time[track] + self._step * angles.shape[1]) % len(self._saccades)
        return result
