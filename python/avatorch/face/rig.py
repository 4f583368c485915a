"""Blend shapes and how they are solved for: a bs_*.npz with its bs_*_config.json."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatorch.face.arrays import Arrays
from avatorch.face.errors import FaceError
from avatorch.face.parameters import SolverParameters, SolverPoses
from avatorch.face.record import Record

MOST_POSES = 4096


@dataclass(frozen=True)
class Rig:
    """Poses of one part of a face, and the settings of its solver."""

    names: tuple[str, ...]  # [P]
    neutral: Tensor  # [V, 3]
    deltas: Tensor  # [P, V, 3]
    mask: Tensor | None  # [n] int64, the vertices that count; None: all
    parameters: SolverParameters
    poses: SolverPoses  # [P]

    @staticmethod
    def read(config: Record, arrays: Arrays, vertices: int, masked: bool) -> Rig:
        """From the `blendshape_params` of a configuration and the arrays beside it."""
        poses = config.integer("numPoses", 1, MOST_POSES)
        names = arrays.texts("poseNames")
        if names[:1] != ["neutral"]:
            raise FaceError("eReadFileFailed", f"{arrays.file}: poseNames begins with {names[:1]}, expected 'neutral'")
        if len(names) != poses + 1:
            raise config.wrong(
                "numPoses", f"is {poses}", f"{len(names) - 1} as poseNames of {arrays.file}", "eMismatch"
            )
        if len(set(names)) != len(names):
            raise FaceError("eMismatch", f"{arrays.file}: poseNames names a pose twice, expected each once")
        pair = (poses, -1, 1 << 31)
        return Rig(
            names=tuple(names[1:]),
            neutral=arrays.floats("neutral", (vertices, 3)),
            deltas=torch.stack([arrays.floats(name, (vertices, 3)) for name in names[1:]]),
            mask=_mask(arrays, vertices) if masked and "frontalMask" in arrays else None,
            parameters=SolverParameters.read(config),
            poses=SolverPoses(
                active=tuple(bool(value) for value in config.integers("bsSolveActivePoses", poses, 0, 1)),
                cancel=tuple(config.integers("bsSolveCancelPoses", *pair)),
                symmetry=tuple(config.integers("bsSolveSymmetryPoses", *pair)),
                multipliers=tuple(config.numbers("bsWeightMultipliers", poses, -1e30, 1e30)),
                offsets=tuple(config.numbers("bsWeightOffsets", poses, -1e30, 1e30)),
            ),
        )

    def evaluate(self, weights: Tensor) -> Tensor:
        """Vertices of weights: [..., P] -> [..., V, 3]"""
        moved = torch.tensordot(weights, self.deltas.to(weights), dims=1)
        return self.neutral.to(weights) + moved


def _mask(arrays: Arrays, vertices: int) -> Tensor:
    mask = arrays.integers("frontalMask", (None,))
    outside = mask[(mask < 0) | (mask >= vertices)]
    if len(outside):
        raise FaceError(
            "eOutOfBounds", f"{arrays.file}: frontalMask holds {int(outside[0])}, expected 0 to {vertices - 1}"
        )
    return mask
