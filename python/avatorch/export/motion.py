"""A motion as AMASS writes them."""

from __future__ import annotations

import io
import math
import os
from typing import Any

import numpy as np

from avatorch.motion.parameters import OF_WIDTH
from avatorch.motion.sequence import Motion
from avatorch.whole_file import write_whole


def save_motion(path: str | os.PathLike[str], motion: Motion) -> None:
    """An `.npz` that `avatorch.motion.load` and programs for AMASS read; the joints must be those of a SMPL family."""
    frames, joints = motion.pose.shape[:2]
    if OF_WIDTH.get(3 * joints) != list(motion.joint_names):
        raise ValueError(f"save_motion: the motion has {joints} joints that are not those of SMPL, SMPL-H or SMPL-X")
    shapes = {"pose": (frames, joints, 3), "transl": (frames, 3), "betas": (motion.betas.numel(),)}
    numbers = {name: getattr(motion, name).detach().cpu().float() for name in shapes}
    for name, shape in shapes.items():
        if numbers[name].shape != shape or not numbers[name].isfinite().all():
            found = list(numbers[name].shape)
            raise ValueError(f"save_motion: {name} has shape {found}, expected finite numbers {list(shape)}")
    if not 0 < motion.frame_rate < math.inf:
        raise ValueError(f"save_motion: frame_rate is {motion.frame_rate}, expected frames a second, more than 0")
    arrays: dict[str, Any] = {
        "poses": numbers["pose"].reshape(frames, 3 * joints),
        "trans": numbers["transl"],
        "betas": numbers["betas"],
        "mocap_framerate": np.array(motion.frame_rate),
        "gender": np.array(motion.gender or "neutral"),
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_whole(path, content.getvalue())
