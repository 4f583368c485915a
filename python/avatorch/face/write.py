"""Weights as files of other programs: CSV as Live Link Face writes it, JSON as Audio2Face exports it, .npz."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from avatorch.whole_file import write_whole

# What an ARKit file has behind the 52 weights: head and eyes, in radians, all 0 here.
TURNS = [f"{part}{turn}" for part in ("Head", "LeftEye", "RightEye") for turn in ("Yaw", "Pitch", "Roll")]
PathLike = str | os.PathLike[str]


def save_csv(path: PathLike, weights: Tensor, names: Sequence[str], fps: float) -> None:
    """A row a frame. Weights of tongue rigs, which ARKit does not know, are left out. weights [frames, poses]"""
    kept = [index for index, name in enumerate(names) if name == "tongueOut" or not name.startswith("tongue")]
    columns = [names[index][:1].upper() + names[index][1:] for index in kept]
    content = io.StringIO(newline="")
    rows = csv.writer(content)
    rows.writerow(["Timecode", "BlendShapeCount", *columns, *TURNS])
    for number, frame in enumerate(weights.cpu()[:, kept].tolist()):
        values = [f"{value:.9g}" for value in frame]
        rows.writerow([_timecode(number, fps), len(columns) + len(TURNS), *values, *["0"] * len(TURNS)])
    write_whole(path, content.getvalue().encode())


def save_json(path: PathLike, weights: Tensor, names: Sequence[str], fps: float) -> None:
    """One object with `facsNames` and `weightMat`. weights [frames, poses]"""
    content = {
        "exportFps": fps,
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


def save(path: PathLike, weights: Tensor, names: Sequence[str], fps: float) -> None:
    """By the ending of the file's name."""
    writers = {".csv": save_csv, ".json": save_json, ".npz": save_npz}
    ending = Path(path).suffix.lower()
    if ending not in writers:
        raise ValueError(
            f"{path}: weights are written as {', '.join(writers)}, not as {ending or 'a file without ending'}"
        )
    writers[ending](path, weights, names, fps)


def _timecode(frame: int, fps: float) -> str:
    """Hours, minutes, seconds, and the frame within the second with its thousandths."""
    seconds = int(frame / fps + 1e-9)
    part = max(0.0, frame - seconds * fps)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{part:06.3f}"
