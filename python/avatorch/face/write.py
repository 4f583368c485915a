"""Weights as files of other programs: CSV as Live Link Face writes it, JSON as Audio2Face exports it, .npz."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from avatorch.face.modes import tensor_of
from avatorch.whole_file import write_whole

# The columns of Live Link Face, which some programs read by their place: left and right of jaw and mouth are the other
# way round than in the rigs of Audio2Face.
_SIDES = ("Left", "Right")
_EYE = ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
_PAIRS = ("Smile", "Frown", "Dimple", "Stretch")
_LIPS = ("RollLower", "RollUpper", "ShrugLower", "ShrugUpper")
ARKIT = [
    *(f"eye{move}{side}" for side in _SIDES for move in _EYE),
    "jawForward", "jawRight", "jawLeft", "jawOpen",
    "mouthClose", "mouthFunnel", "mouthPucker", "mouthRight", "mouthLeft",
    *(f"mouth{move}{side}" for move in _PAIRS for side in _SIDES),
    *(f"mouth{move}" for move in _LIPS),
    *(f"mouth{move}{side}" for move in ("Press", "LowerDown", "UpperUp") for side in _SIDES),
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
]  # fmt: skip
# Behind them head and eyes turn; all are 0 here.
TURNS = [f"{part}{turn}" for part in ("Head", "LeftEye", "RightEye") for turn in ("Yaw", "Pitch", "Roll")]
PathLike = str | os.PathLike[str]


def save_csv(path: PathLike, weights: Tensor, names: Sequence[str], fps: float) -> None:
    """A row a frame of ARKit's 52 weights, 0 where `names` has none; others, as of tongues, are left out.

    weights [frames, poses]
    """
    known = [(column, names.index(name)) for column, name in enumerate(ARKIT) if name in names]
    if not known:
        raise ValueError(f"{path}: no weight has one of ARKit's names, such as jawOpen; write .json or .npz")
    content = io.StringIO(newline="")
    rows = csv.writer(content)
    columns = [name[:1].upper() + name[1:] for name in ARKIT] + TURNS
    rows.writerow(["Timecode", "BlendShapeCount", *columns])
    for number, frame in enumerate(weights.cpu().tolist()):
        values = ["0"] * len(columns)
        for column, index in known:
            values[column] = f"{frame[index]:.9g}"
        rows.writerow([_timecode(number, fps), len(columns), *values])
    write_whole(path, content.getvalue().encode())


def save_json(path: PathLike, weights: Tensor, names: Sequence[str], fps: float) -> None:
    """One object with `facsNames` and `weightMat`. weights [frames, poses]"""
    content = {
        "exportFps": int(fps) if float(fps).is_integer() else fps,
        "trackPath": "",
        "numPoses": len(names),
        "numFrames": len(weights),
        "facsNames": list(names),
        "weightMat": weights.cpu().tolist(),
    }
    write_whole(path, json.dumps(content).encode())


def save_npz(path: PathLike, weights: Tensor, names: Sequence[str], fps: float) -> None:
    """`weights` [frames, poses], `names` [poses], `fps`"""
    import numpy as np

    content = io.BytesIO()
    np.savez(content, weights=weights.cpu().numpy(), names=np.array(list(names)), fps=np.array(fps))
    write_whole(path, content.getvalue())


def writer_of(path: PathLike) -> Callable[[PathLike, Tensor, Sequence[str], float], None]:
    """What writes a file of such a name."""
    writers = {".csv": save_csv, ".json": save_json, ".npz": save_npz}
    ending = Path(path).suffix.lower()
    if ending not in writers:
        raise ValueError(
            f"{path}: weights are written as {', '.join(writers)}, not as {ending or 'a file without ending'}"
        )
    return writers[ending]


def save(path: PathLike, weights: Any, names: Sequence[str], fps: float) -> None:
    """By the ending of the file's name. weights [frames, poses], a tensor or an array"""
    weights = tensor_of(weights)
    writer = writer_of(path)
    if weights.ndim != 2 or weights.shape[1] != len(names):
        raise ValueError(f"{path}: weights has shape {list(weights.shape)}, expected one clip [frames, {len(names)}]")
    if not weights.isfinite().all():
        raise ValueError(f"{path}: weights hold values that are not finite, which the file cannot")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"{path}: fps is {fps}, expected more than 0")
    writer(path, weights, names, fps)


def _timecode(frame: int, fps: float) -> str:
    """Hours, minutes, seconds, and the frame within the second with its thousandths."""
    seconds = int(frame / fps + 1e-9)
    part = max(0.0, frame - seconds * fps)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{part:06.3f}"
