"""Targets from files: `.npz` under documented keys, `.ply` and `.obj` meshes or clouds, and motions."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatorch import motion
from avatorch.body import Body
from avatorch.fit.cameras import Camera, Keypoints
from avatorch.fit.cloud import PointCloud
from avatorch.fit.priors import Values
from avatorch.fit.targets import Joints, Landmarks, Vertices
from avatorch.fit.terms import Term
from avatorch.motion.parameters import TIMES, UNPACKED, read_array

MOST_BYTES = 1 << 30
TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
TARGETS = ("joints", "vertices", "points", "landmarks", "keypoints", "expression")


@dataclass
class Targets:
    """The terms of one sequence."""

    terms: list[Term]
    frames: int
    frame_rate: float = 30.0
    start: dict[str, Tensor] | None = None
    unknowns: list[str] = field(default_factory=lambda: ["betas", "pose", "transl"])


def read_targets(path: str | os.PathLike[str], body: Body, sigma: float = 0.005) -> Targets:
    """What a file says about a body. `sigma` is how exact its points are, in metres."""
    path = Path(path)
    kind = path.suffix.lower()
    try:
        if kind in (".ply", ".obj"):
            points = torch.from_numpy(read_points(path))[None]
            registered = points.shape[1] == len(body.v_template)
            term = Vertices(points, sigma=sigma) if registered else PointCloud(points, sigma=sigma)
            return Targets([term], 1)
        if kind == ".npz":
            arrays = _archive(path)
            if not {"poses", "smplVersion"} & set(arrays):
                return _from_arrays(arrays, body, sigma)
    except (ValueError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return _from_motion(motion.load(path), body, sigma)


def _archive(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        limit = max(UNPACKED, TIMES * path.stat().st_size)
        if sum(member.file_size for member in members) > limit:
            raise ValueError(f"it would unpack to more than {limit} bytes")
        names = [member.filename.removesuffix(".npy") for member in members]
        if {"poses", "smplVersion"} & set(names):
            return dict.fromkeys(names, np.zeros(0))  # a motion, which is read elsewhere
        return {name: read_array(archive, member, name) for name, member in zip(names, members, strict=True)}


def _from_arrays(arrays: dict[str, np.ndarray], body: Body, sigma: float) -> Targets:
    def numbers(key: str, dimensions: int) -> Tensor:
        if key not in arrays:
            raise ValueError(f"{key} is missing")
        array = arrays[key]
        if array.dtype.kind not in "fiu" or array.ndim not in (dimensions, dimensions - 1):
            raise ValueError(f"{key} is {array.dtype} {list(array.shape)}, expected numbers of {dimensions} dimensions")
        with np.errstate(over="ignore"):  # what is too large is infinite, and so missing
            tensor = torch.from_numpy(array.astype(np.float32))
        return tensor if array.ndim == dimensions else tensor[None]

    def trust(key: str, dimensions: int) -> Tensor | None:
        return numbers(f"{key}_confidence", dimensions) if f"{key}_confidence" in arrays else None

    def indices(key: str, dimensions: int = 1) -> Tensor:
        if key not in arrays or arrays[key].dtype.kind not in "iu" or arrays[key].ndim != dimensions:
            raise ValueError(f"{key} is missing or not whole numbers of {dimensions} dimensions")
        return torch.from_numpy(arrays[key].astype(np.int64))

    def names(key: str) -> list[str] | None:
        return [str(name) for name in arrays[key].tolist()] if key in arrays else None

    there = [key for key in TARGETS if key in arrays]
    if not there:
        raise ValueError(f"it has none of {', '.join(TARGETS)}, but {', '.join(sorted(arrays)) or 'nothing'}")
    terms: list[Term] = []
    found = Targets(terms, 0)
    for key in there:
        tensor = numbers(key, 4 if key == "keypoints" else 2 if key == "expression" else 3)
        found.frames = max(found.frames, len(tensor))
        if key == "joints":
            terms.append(Joints(tensor, names("joint_names"), sigma=sigma, confidence=trust(key, 2)))
        elif key == "vertices":
            chosen = indices("vertex_index") if "vertex_index" in arrays else None
            terms.append(Vertices(tensor, chosen, sigma=sigma, confidence=trust(key, 2), robust="geman_mcclure"))
        elif key == "points":
            terms.append(PointCloud(tensor, sigma=sigma, confidence=trust(key, 2)))
        elif key == "landmarks":
            places = numbers("landmark_barycentric", 2)
            triangles = _below(indices("landmark_triangles"), len(body.faces), "landmark_triangles")
            terms.append(Landmarks(tensor, triangles, places, sigma=sigma, confidence=trust(key, 2)))
            found.unknowns.append("expression")
        elif key == "keypoints":
            sizes = {"focal": 2, "centre": 2, "rotation": 3, "translation": 2, "distortion": 2}
            parts = {part: numbers(f"camera_{part}", n) for part, n in sizes.items() if f"camera_{part}" in arrays}
            if missing := {"focal", "centre", "rotation", "translation"} - set(parts):
                raise ValueError(f"keypoints need a camera, and camera_{min(missing)} is missing")
            camera = Camera(**parts)
            terms.append(Keypoints(tensor, camera, names("keypoint_names"), confidence=trust(key, 3)))
        else:
            terms.append(Values("expression", tensor, sigma=0.05))
            found.unknowns.append("expression")
    found.unknowns = [name for name in dict.fromkeys(found.unknowns) if name != "expression" or body.num_expressions]
    if "frame_rate" in arrays:
        rate = arrays["frame_rate"]
        if rate.size != 1 or rate.dtype.kind not in "fiu" or not 0 < rate.item() < np.inf:
            raise ValueError(f"frame_rate is {rate.dtype} {list(rate.shape)}, expected one finite number above 0")
        found.frame_rate = float(rate.item())
    return found


def _below(numbers: Tensor, count: int, key: str) -> Tensor:
    if bool(((numbers < 0) | (numbers >= count)).any()):
        raise ValueError(f"{key} goes from {int(numbers.min())} to {int(numbers.max())}, expected 0 to {count - 1}")
    return numbers


def _from_motion(moving: motion.Motion, body: Body, sigma: float) -> Targets:
    """The joints of a motion's own skeleton, or of the body that it poses."""
    if moving.offsets is None or moving.parents is None:
        given = moving.arguments(body)
        with torch.no_grad():
            joints = body.subset([])(**given).joints
        return Targets([Joints(joints, sigma=sigma)], len(moving), moving.frame_rate, start=given)
    shared = [index for index, name in enumerate(moving.joint_names) if name in body.joint_names]
    if not shared:
        raise ValueError(f"no joint of the motion is one of the body's: {', '.join(moving.joint_names[:5])}, ...")
    rest = torch.zeros(len(moving.parents), 3)
    for joint, parent in enumerate(moving.parents):
        rest[joint] = moving.offsets[joint] + (rest[parent] if parent >= 0 else 0)
    matrices = torch.ops.smplx.rodrigues(moving.pose)
    places, _ = torch.ops.smplx.kinematic_chain(
        matrices, rest.expand(len(moving), -1, -1), torch.tensor(moving.parents)
    )
    target = (places + moving.transl[:, None])[:, shared]
    names = [moving.joint_names[index] for index in shared]
    return Targets([Joints(target, names, sigma=sigma)], len(moving), moving.frame_rate)


def read_points(path: Path) -> np.ndarray:
    """Vertices of a PLY or OBJ file, [N, 3] float32."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"the file has more than {MOST_BYTES} bytes")
    data = path.read_bytes()
    points = _ply(data) if path.suffix.lower() == ".ply" else _obj(data)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"it has {len(points)} vertices, expected some, all finite")
    return points


def _obj(data: bytes) -> np.ndarray:
    rows = [line.split()[1:4] for line in data.decode("utf-8", "replace").splitlines() if line.startswith("v ")]
    if any(len(row) != 3 for row in rows):
        raise ValueError("a line v has fewer than three numbers")
    return np.array(rows, np.float32).reshape(-1, 3)


def _ply(data: bytes) -> np.ndarray:
    head, found, body = data.partition(b"end_header")
    lines = [line.split() for line in head[: 1 << 16].decode("ascii", "replace").splitlines()]
    if not found or not data.startswith(b"ply"):
        raise ValueError("this is no PLY file: it has no header")
    body = body[body.find(b"\n") + 1 :]
    formats = [line[1] for line in lines if line[:1] == ["format"] and len(line) > 1]
    elements = [index for index, line in enumerate(lines) if line[:1] == ["element"]]
    if not elements or len(lines[elements[0]]) < 3 or lines[elements[0]][1] != "vertex" or len(formats) != 1:
        raise ValueError("its first element is not vertex")
    count, fields = lines[elements[0]][2], []
    for line in lines[elements[0] + 1 : elements[1] if len(elements) > 1 else None]:
        if line[:1] == ["property"]:
            if len(line) != 3 or line[1] not in TYPES:
                raise ValueError(f"a vertex has the property {' '.join(line[1:])}, expected a number")
            fields.append((line[2], TYPES[line[1]]))
    names = [name for name, _ in fields]
    if not count.isdecimal() or not {"x", "y", "z"} <= set(names) or len(set(names)) != len(names):
        raise ValueError(f"its {count} vertices have {', '.join(names) or 'nothing'}, expected x, y and z")
    if formats == ["ascii"]:
        if int(count) * len(names) > len(body):
            raise ValueError(f"it says {count} vertices, and has {len(body)} bytes")
        words = body.split(maxsplit=int(count) * len(names))[: int(count) * len(names)]
        if len(words) != int(count) * len(names):
            raise ValueError(f"it says {count} vertices, and has {len(words)} numbers")
        numbers = np.array(words, np.float64).reshape(int(count), len(names))
        return numbers[:, [names.index(axis) for axis in "xyz"]].astype(np.float32)
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(formats[0])
    if order is None:
        raise ValueError(f"its format is {formats[0]!r}")
    kind = np.dtype([(name, order + code) for name, code in fields])
    if int(count) * kind.itemsize > len(body):
        raise ValueError(f"it says {count} vertices of {kind.itemsize} bytes, and has {len(body)} bytes")
    table = np.frombuffer(body, kind, int(count))
    return np.stack([table[axis].astype(np.float32) for axis in "xyz"], 1)
