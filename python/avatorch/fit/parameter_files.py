"""What was found, as an `.npz` file."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from avatorch.fit.solve import Fit
from avatorch.whole_file import write_whole


def save_parameters(path: str | os.PathLike[str], found: Fit, frame_rate: float = 30.0) -> None:
    """Unknowns by name, a row for each frame; cost [B], frame_rate and joint_names beside them."""
    write_whole(path, packed_parameters(found, frame_rate))


def packed_parameters(found: Fit, frame_rate: float) -> bytes:
    """The file's bytes."""
    arrays: dict[str, Any] = {name: value.detach().cpu().numpy() for name, value in found.values.items()}
    arrays |= {"cost": found.costs.detach().cpu().numpy(), "frame_rate": np.array(frame_rate)}
    arrays["joint_names"] = np.array(found.problem.whole.joint_names)
    if found.camera is not None:
        arrays["camera"] = found.camera.cpu().numpy()
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
