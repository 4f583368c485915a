"""The names of `output.joints`, in order: joints of the rig, vertices, landmarks of the face, its contour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatorch.joint_names import BODY, HANDS, SMPL, SMPLH, SMPLX

_TIPS = ["thumb", "index", "middle", "ring", "pinky"]
_VERTICES = [
    "nose", "right_eye", "left_eye", "right_ear", "left_ear",
    *(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")),
    *(f"{side}_{tip}" for side in ("left", "right") for tip in _TIPS),
]  # fmt: skip


def _numbered(stem: str, numbers: list[int]) -> list[str]:
    return [f"{stem}{number}" for number in numbers]


# 51 points, numbered as in the 68-point face without its contour: from the right of the face to the left.
_FACE = [
    *_numbered("right_eye_brow", [1, 2, 3, 4, 5]),
    *_numbered("left_eye_brow", [5, 4, 3, 2, 1]),
    *_numbered("nose", [1, 2, 3, 4]),
    *_numbered("right_nose_", [2, 1]),
    "nose_middle",
    *_numbered("left_nose_", [1, 2]),
    *_numbered("right_eye", [1, 2, 3, 4, 5, 6]),
    *_numbered("left_eye", [4, 3, 2, 1, 6, 5]),
    *_numbered("right_mouth_", [1, 2, 3]),
    "mouth_top",
    *_numbered("left_mouth_", [3, 2, 1, 5, 4]),
    "mouth_bottom",
    *_numbered("right_mouth_", [4, 5]),
    *_numbered("right_lip_", [1, 2]),
    "lip_top",
    *_numbered("left_lip_", [2, 1, 3]),
    "lip_bottom",
    "right_lip_3",
]
_CONTOUR = [
    *_numbered("right_contour_", [1, 2, 3, 4, 5, 6, 7, 8]),
    "contour_middle",
    *_numbered("left_contour_", [8, 7, 6, 5, 4, 3, 2, 1]),
]

JOINT_NAMES = [*SMPLX, *_VERTICES, *_FACE, *_CONTOUR]  # 144
SMPLH_JOINT_NAMES = [*SMPLH, *_VERTICES]  # 73
SMPL_JOINT_NAMES = list(SMPL)  # 24


@dataclass
class Body:
    """The part of a pose that SMPL, SMPL-H and SMPL-X share, for changing from one to another."""

    joints: dict[str, np.ndarray]  # each [3], axis-angle

    @classmethod
    def from_smpl(cls, joints: np.ndarray) -> Body:
        """From the 24 joints of SMPL, [24, 3] or [72]."""
        return cls(dict(zip(SMPL, np.asarray(joints).reshape(len(SMPL), 3), strict=True)))

    @classmethod
    def from_smplh(cls, joints: np.ndarray) -> Body:
        """From the 52 joints of SMPL-H, [52, 3] or [156]."""
        return cls(dict(zip(SMPLH, np.asarray(joints).reshape(len(SMPLH), 3), strict=True)))

    def as_smpl(self) -> np.ndarray:
        """[24, 3], zero where this pose has nothing."""
        return self._as(SMPL)

    def as_smplh(self) -> np.ndarray:
        """[52, 3], zero where this pose has nothing."""
        return self._as(SMPLH)

    def _as(self, names: list[str]) -> np.ndarray:
        first = next(iter(self.joints.values()), np.zeros(3))
        return np.stack([self.joints.get(name, np.zeros_like(first)) for name in names])


__all__ = ["BODY", "HANDS", "JOINT_NAMES", "SMPLH_JOINT_NAMES", "SMPL_JOINT_NAMES", "Body"]
