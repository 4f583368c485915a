"""Model files as the classes of smplx expect them: by folder, family and gender, or by name. Nothing is executed."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from avatorch import _native

from .utils import Struct

# What a file calls the arrays that the reader calls otherwise.
_NAMES_IN_FILES = {"lbs_weights": "weights", "faces": "f", "parents": "kintree_table"}


def read(path: str | os.PathLike[str], family: str, name: str, ext: str) -> Struct:
    """The arrays of a file; in a folder, of `name`, such as SMPLX_NEUTRAL, preferably with the ending `ext`.

    They have the names of the official files, but `posedirs` is [9 (J - 1), 3 V] and `kintree_table` [1, J].
    """
    if path is None:
        raise TypeError("model_path is None, expected a file or a folder of them")
    file = _find(Path(path), name, ext)
    content = _native.load_model(file, None, None)
    if content["family"] not in (family, "generic"):
        raise ValueError(f"{file}: this is a model of the family {content['family']}, expected {family}")
    for sentence in content["warnings"]:
        warnings.warn(f"{file}: {sentence}", stacklevel=4)
    arrays: dict[str, Any] = {
        _NAMES_IN_FILES.get(key, key): np.from_dlpack(value)
        for key, value in content.items()
        if isinstance(value, _native.Array)
    }
    arrays["kintree_table"] = arrays["kintree_table"][None]
    return Struct(**arrays)


def _find(path: Path, name: str, ext: str) -> Path:
    if not path.is_dir():
        return path  # the reader says what is wrong with it
    endings = [ext, *(ending for ending in ("safetensors", "npz", "pkl") if ending != ext)]
    for ending in endings:
        if (file := path / f"{name}.{ending}").is_file():
            return file
    raise FileNotFoundError(f"{path}: found no {name}.{ext}, nor {name} with another ending: {', '.join(endings[1:])}")


def pose_directions(posedirs: np.ndarray) -> np.ndarray:
    """[V, 3, P] as in a file, or [P, 3 V] already -> [P, 3 V]"""
    return posedirs if posedirs.ndim == 2 else posedirs.reshape(-1, posedirs.shape[2]).T


def read_kid_template(path: str, vertices: int) -> np.ndarray:
    """The mean-free template of a child, [V, 3]."""
    if not path:
        raise ValueError("age='kid' needs kid_template_path, the file of a template")
    template = np.load(path, allow_pickle=False)
    if template.shape != (vertices, 3):
        raise ValueError(f"{path}: the kid template has shape {list(template.shape)}, expected [{vertices}, 3]")
    return template - template.mean(axis=0)
