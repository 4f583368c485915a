"""One mesh as a file."""

from __future__ import annotations

import os

import numpy as np
from torch import Tensor

from avatorch.whole_file import write_whole

PathLike = str | os.PathLike[str]


def save_obj(path: PathLike, vertices: Tensor, faces: Tensor) -> None:
    """Wavefront OBJ, text. vertices [V, 3], faces [F, 3]"""
    points, triangles = _mesh(vertices, faces)
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in points.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (triangles + 1).tolist()]
    write_whole(path, ("\n".join(lines) + "\n").encode("ascii"))


def save_ply(path: PathLike, vertices: Tensor, faces: Tensor, colours: Tensor | None = None) -> None:
    """PLY, binary. vertices [V, 3], faces [F, 3], colours [V, 3] in 0..1"""
    points, triangles = _mesh(vertices, faces)
    vertex_fields = [(axis, "<f4") for axis in "xyz"]
    if colours is not None:
        vertex_fields += [(colour, "u1") for colour in ("red", "green", "blue")]
    rows = np.empty(len(points), vertex_fields)
    for axis, column in zip("xyz", points.T, strict=True):
        rows[axis] = column
    if colours is not None:
        if colours.shape != vertices.shape:
            raise ValueError(f"save_ply: colours has shape {list(colours.shape)}, expected {list(vertices.shape)}")
        if not colours.is_floating_point() or not colours.isfinite().all():
            raise ValueError(f"save_ply: colours is {colours.dtype}, expected finite numbers from 0 to 1")
        shades = np.rint(colours.detach().cpu().double().clamp(0, 1).numpy() * 255)
        for colour, column in zip(("red", "green", "blue"), shades.T, strict=True):
            rows[colour] = column
    polygons = np.empty(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    polygons["count"], polygons["corners"] = 3, triangles
    names = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(rows)}",
        *(f"property {names[kind]} {name}" for name, kind in vertex_fields),
        f"element face {len(polygons)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    write_whole(path, "\n".join(header).encode() + rows.tobytes() + polygons.tobytes())


def _mesh(vertices: Tensor, faces: Tensor) -> tuple[np.ndarray, np.ndarray]:
    for name, tensor in (("vertices", vertices), ("faces", faces)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"a mesh file: {name} is of type {type(tensor).__name__}, expected a tensor")
        if tensor.ndim != 2 or tensor.shape[1] != 3:
            raise ValueError(f"a mesh file has one mesh: {name} has shape {list(tensor.shape)}, expected [*, 3]")
    points, triangles = vertices.detach().cpu().double().numpy(), faces.cpu().numpy()
    if triangles.dtype.kind not in "iu":
        raise TypeError(f"a mesh file: faces is {faces.dtype}, expected whole numbers")
    if triangles.size and not (triangles.min() >= 0 and triangles.max() < len(points)):
        raise ValueError(
            f"a mesh file: faces has vertices {triangles.min()} to {triangles.max()}, expected 0 to {len(points) - 1}"
        )
    if not np.isfinite(points).all():
        raise ValueError("a mesh file: vertices holds numbers that are not finite")
    return points, triangles.astype(np.int64)
