"""What can be set of a face while it runs: strengths, offsets, smoothing and poses, each with its range."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from avatorch.face.errors import FaceError
from avatorch.face.record import Record


def _setting(default: float, least: float, most: float, key: str = "") -> float:
    value: float = dataclasses.field(default=default, metadata={"least": least, "most": most, "key": key})
    return value


@dataclass(frozen=True)
class AnimatorParameters:
    """Settings of one track. Lengths are in the bundle's unit, angles in degrees, smoothing in seconds."""

    upper_face_smoothing: float = _setting(0.001, 0, 0.1)
    lower_face_smoothing: float = _setting(0.0023, 0, 0.1)
    upper_face_strength: float = _setting(1.0, 0, 2)
    lower_face_strength: float = _setting(1.3, 0, 2)
    face_mask_level: float = _setting(0.6, 0, 1)
    face_mask_softness: float = _setting(0.0085, 0.001, 0.5)
    skin_strength: float = _setting(1.0, 0, 2)
    blink_strength: float = _setting(1.0, 0, 2)
    eyelid_open_offset: float = _setting(0.06, -1, 1)
    lip_open_offset: float = _setting(-0.03, -0.2, 0.2)
    blink_offset: float = _setting(0.0, 0, 1, "-")  # of no file: the caller's own blinking
    tongue_strength: float = _setting(1.5, 0, 3)
    tongue_height_offset: float = _setting(0.2, -3, 3)
    tongue_depth_offset: float = _setting(0.13, -3, 3)
    lower_teeth_strength: float = _setting(1.0, 0, 2)
    lower_teeth_height_offset: float = _setting(0.0, -3, 3)
    lower_teeth_depth_offset: float = _setting(0.0, -3, 3)
    eyeballs_strength: float = _setting(1.0, 0, 2)
    saccade_strength: float = _setting(1.0, 0, 2)
    right_eye_rot_x_offset: float = _setting(0.0, -10, 10)
    right_eye_rot_y_offset: float = _setting(0.0, -10, 10)
    left_eye_rot_x_offset: float = _setting(0.0, -10, 10)
    left_eye_rot_y_offset: float = _setting(0.0, -10, 10)
    eye_saccade_seed: float = _setting(0.0, 0, 4999)

    def __post_init__(self) -> None:
        check(self)

    @staticmethod
    def read(config: Record) -> AnimatorParameters:
        """From the `config` of a model_config.json."""
        names = [field for field in fields(AnimatorParameters) if field.metadata["key"] != "-"]
        given = {
            field.name: config.number(field.name, field.metadata["least"], field.metadata["most"]) for field in names
        }
        return AnimatorParameters(**given)

    def changed(self, **settings: float) -> AnimatorParameters:
        """A copy with some settings changed."""
        known = [field.name for field in fields(self)]
        for name in settings:
            if name not in known:
                raise FaceError("eInvalidValue", f"there is no setting {name!r}, expected one of {', '.join(known)}")
        return dataclasses.replace(self, **settings)


@dataclass(frozen=True)
class SolverParameters:
    """How strongly the weights of blend shapes are held back. All are without a unit."""

    l1_regularization: float = _setting(1.0, 0, math.inf, "strengthL1regularization")
    l2_regularization: float = _setting(3.5, 0, math.inf, "strengthL2regularization")
    temporal_smoothing: float = _setting(0.0, 0, math.inf, "strengthTemporalSmoothing")
    symmetry: float = _setting(100.0, 0, math.inf, "strengthSymmetry")
    template_bb_size: float = _setting(54.7, 1, math.inf, "templateBBSize")

    def __post_init__(self) -> None:
        check(self)

    @staticmethod
    def read(config: Record) -> SolverParameters:
        """From the `blendshape_params` of a bs_*_config.json."""
        given = {}
        for field in fields(SolverParameters):
            key = field.metadata["key"]
            if key != "templateBBSize" or key in config.content:
                given[field.name] = config.number(key, field.metadata["least"], 1e30)
        return SolverParameters(**given)

    def without_time(self) -> SolverParameters:
        """The same for a frame that follows none."""
        return dataclasses.replace(self, temporal_smoothing=0.0)


@dataclass(frozen=True)
class SolverPoses:
    """Which poses are solved for, and what their weights are multiplied by and raised by. One value a pose each."""

    active: tuple[bool, ...]
    cancel: tuple[int, ...]  # equal values are a pair, of which only the larger weight stays; -1 none
    symmetry: tuple[int, ...]  # likewise, a pair whose weights are drawn together
    multipliers: tuple[float, ...]
    offsets: tuple[float, ...]

    def changed(self, **lists: Sequence[float] | Tensor) -> SolverPoses:
        """A copy with some lists changed."""
        kinds: dict[str, Callable[[Any], Any]] = {
            "active": bool, "cancel": int, "symmetry": int, "multipliers": float, "offsets": float
        }  # fmt: skip
        changes = {}
        for name, values in lists.items():
            if name not in kinds:
                raise FaceError(
                    "eInvalidValue", f"there is no list {name!r} of poses, expected one of {', '.join(kinds)}"
                )
            plain = list(values.tolist() if isinstance(values, Tensor) else values)
            if len(plain) != len(self.active):
                raise FaceError("eMismatch", f"{name} has {len(plain)} values, expected {len(self.active)}")
            for pose, value in enumerate(plain):
                _check_pose(f"{name}[{pose}]", value, name)
            changes[name] = tuple(map(kinds[name], plain))
        return dataclasses.replace(self, **changes)


def _check_pose(where: str, value: Any, name: str) -> None:
    if name in ("multipliers", "offsets"):
        if isinstance(value, int | float) and math.isnan(value):
            raise FaceError("eNotANumber", f"{where} is not a number, expected one")
        if not isinstance(value, int | float) or math.isinf(value):
            raise FaceError("eOutOfRange", f"{where} is {value!r}, expected a finite number")
    elif name == "active":
        if value not in (0, 1):
            raise FaceError("eOutOfRange", f"{where} is {value!r}, expected true or false")
    elif not isinstance(value, int) or value < -1:
        raise FaceError("eOutOfRange", f"{where} is {value!r}, expected a whole number of at least -1")


def check(settings: AnimatorParameters | SolverParameters) -> None:
    """Every setting is a number within its range; it becomes a float."""
    for field in fields(settings):
        value, least, most = getattr(settings, field.name), field.metadata["least"], field.metadata["most"]
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise FaceError("eInvalidValue", f"{field.name} is {value!r}, expected a number from {least:g} to {most:g}")
        if math.isnan(value):
            raise FaceError("eNotANumber", f"{field.name} is not a number, expected {least:g} to {most:g}")
        if not least <= value <= most or math.isinf(value):
            raise FaceError("eOutOfRange", f"{field.name} is {value:g}, expected {least:g} to {most:g}")
        object.__setattr__(settings, field.name, float(value))  # whatever kind of number it was
