"""Motions as arrays in an `.npz` archive: those of AMASS, and `.smpl` files."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from avatorch import joint_names
from avatorch.motion.sequence import Motion

# An archive may unpack to this much, or to this many times its own size.
UNPACKED, TIMES = 512 << 20, 16
GENDERS = ("neutral", "male", "female")  # as `.smpl` files number them
FAMILIES = ("smpl", "smplh", "smplx")  # likewise
# What AMASS calls a full pose has as many numbers as its skeleton has.
OF_WIDTH = {
    3 * len(names): names for names in (joint_names.BODY, joint_names.SMPL, joint_names.SMPLH, joint_names.SMPLX)
}


def is_archive(start: bytes) -> bool:
    """Whether a file that begins so is a zip archive."""
    return start.startswith(b"PK")


def read_archive(path: Path) -> Motion:
    """Either kind, by the keys that are there."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            limit = max(UNPACKED, TIMES * path.stat().st_size)
            if sum(info.file_size for info in members.values()) > limit:
                raise ValueError(f"it would unpack to more than {limit} bytes")

            def get(key: str) -> np.ndarray | None:
                return read_array(archive, members[key], key) if key in members else None

            if "smplVersion" in members:
                return _smpl(get)
            if "poses" in members:
                return _amass(get)
            raise ValueError(f"it has neither poses nor smplVersion, but {', '.join(sorted(members)) or 'nothing'}")
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None
    except OSError as error:  # an offset that leads out of the file
        raise ValueError(f"{path}: the archive is damaged ({error.strerror})") from None


def read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str) -> np.ndarray:
    """One array, whose header is checked against its size before anything is read."""
    with archive.open(info) as file:
        version = npy.read_magic(file)
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if reader is None:
            raise ValueError(f"{key} has npy version {version}, expected 1.0 or 2.0")
        try:
            shape, fortran, dtype = reader(file)
        except (TypeError, SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError):
            raise ValueError(f"the header of {key} is no npy header") from None
        if dtype.hasobject or dtype.kind not in "fiubSU":
            raise ValueError(f"{key} holds {dtype}, expected numbers or text")
        size = math.prod(shape) * dtype.itemsize
        if not (0 <= size <= info.file_size and all(type(length) is int and length >= 0 for length in shape)):
            raise ValueError(f"{key} says that it has {size} bytes, and has at most {info.file_size}")
        data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{key} ends after {len(data)} of {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


Getter = Callable[[str], "np.ndarray | None"]


def _amass(get: Getter) -> Motion:
    poses = get("poses")
    assert poses is not None
    if poses.ndim != 2 or poses.shape[1] not in OF_WIDTH:
        raise ValueError(f"poses has shape {list(poses.shape)}, expected [N, one of {', '.join(map(str, OF_WIDTH))}]")
    frames, names = len(poses), OF_WIDTH[poses.shape[1]]
    rate = get("mocap_framerate")
    rate = get("mocap_frame_rate") if rate is None else rate
    return Motion(
        joint_names=names,
        pose=_numbers("poses", poses, (frames, poses.shape[1])).reshape(frames, len(names), 3),
        transl=_numbers("trans", get("trans"), (frames, 3)),
        frame_rate=_rate("mocap_framerate", rate),
        betas=_vector("betas", get("betas")),
        gender=_gender(get),
    )


def _smpl(get: Getter) -> Motion:
    family = FAMILIES[_choice("smplVersion", get("smplVersion"), len(FAMILIES))]
    names = joint_names.OF_FAMILY[family]
    body = get("bodyPose")
    if body is None:
        raise ValueError("bodyPose is missing")
    frames = 1 if body.ndim == 2 else len(body)
    in_body = len(joint_names.BODY) if family != "smpl" else len(names)
    parts = [_numbers("bodyPose", body, (frames, in_body, 3))]
    if family == "smplx":
        parts.append(_numbers("headPose", get("headPose"), (frames, 3, 3)))
    if family != "smpl":
        parts += [_numbers(f"{side}HandPose", get(f"{side}HandPose"), (frames, 15, 3)) for side in ("left", "right")]
    expression = get("expressionParameters")
    gender = get("gender")
    return Motion(
        joint_names=names,
        pose=torch.cat(parts, 1),
        transl=_numbers("bodyTranslation", get("bodyTranslation"), (frames, 3)),
        frame_rate=_rate("frameRate", get("frameRate")),
        betas=_vector("shapeParameters", get("shapeParameters")),
        expression=None
        if expression is None
        else _numbers("expressionParameters", expression, (frames, expression.shape[-1])),
        gender=None if gender is None else GENDERS[_choice("gender", gender, len(GENDERS))],
    )


def _numbers(key: str, array: np.ndarray | None, shape: tuple[int, ...]) -> Tensor:
    """Finite numbers of this shape; zeros where the file has none."""
    if array is None:
        return torch.zeros(shape)
    if array.dtype.kind not in "fiu" or array.size != math.prod(shape):
        raise ValueError(f"{key} is {array.dtype} {list(array.shape)}, expected numbers {list(shape)}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        numbers = array.astype(np.float32).reshape(shape)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{key} holds numbers that are not finite")
    return torch.from_numpy(numbers)


def _vector(key: str, array: np.ndarray | None) -> Tensor:
    """[n], or the only row of [1, n]"""
    if array is None:
        return torch.zeros(0)
    if array.ndim > 1 and math.prod(array.shape[:-1]) != 1:
        raise ValueError(f"{key} has shape {list(array.shape)}, expected [n]: one shape for all frames")
    return _numbers(key, array, (array.size,))


def _rate(key: str, array: np.ndarray | None) -> float:
    """Frames a second; 30 where the file says nothing."""
    if array is None:
        return 30.0
    rate = float(_numbers(key, array, ()))
    if rate <= 0:
        raise ValueError(f"{key} is {rate}, expected more than 0")
    return rate


def _choice(key: str, array: np.ndarray | None, count: int) -> int:
    number = -1 if array is None or array.size != 1 or array.dtype.kind not in "iu" else int(array.item())
    if not 0 <= number < count:
        raise ValueError(f"{key} is {'missing' if array is None else array.tolist()}, expected 0 to {count - 1}")
    return number


def _gender(get: Getter) -> str | None:
    """Text or bytes; some files hold an object, which is not looked into."""
    try:
        value = get("gender")
    except ValueError:
        return None
    if value is None or value.dtype.kind not in "SU" or value.size != 1:
        return None
    item = value.item()
    name = (item.decode("ascii", "replace") if isinstance(item, bytes) else str(item)).lower()
    return name if name in GENDERS else None
