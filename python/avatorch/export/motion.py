"""A motion as AMASS writes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from avatorch.motion.parameters import OF_WIDTH
from avatorch.motion.sequence import Motion


def save_motion(path: str | os.PathLike[str], motion: Motion) -> None:
    """An `.npz` that `avatorch.motion.load` and programs for AMASS read; the joints must be those of a SMPL family."""
    frames, joints = motion.pose.shape[:2]
    if OF_WIDTH.get(3 * joints) != motion.joint_names:
        raise ValueError(f"save_motion: the motion has {joints} joints that are not those of SMPL, SMPL-H or SMPL-X")
    arrays: dict[str, Any] = {
        "poses": motion.pose.reshape(frames, 3 * joints),
        "trans": motion.transl,
        "betas": motion.betas,
        "mocap_framerate": np.array(motion.frame_rate),
        "gender": np.array(motion.gender or "neutral"),
    }
    with Path(path).open("wb") as file:
        np.savez_compressed(file, **arrays)
