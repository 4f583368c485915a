"""A small software renderer: shaded triangle meshes in NumPy, enough to look at a body.

image = render(vertices, faces, colours, camera=look_at(eye, target), size=(width, height))
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avatorch.whole_file import write_whole

SAMPLES = 2  # per pixel and axis
MAX_CANDIDATES = 4_000_000  # (triangle, pixel) pairs tested at a time: bounds the memory
AMBIENT = 0.35
LIGHTS = ((np.array([0.5, 0.7, 0.8]), 0.6), (np.array([-0.8, 0.1, 0.3]), 0.2))  # towards the light, strength


class Camera(NamedTuple):
    rotation: np.ndarray  # [3, 3] world to camera; the camera looks along its -z
    eye: np.ndarray  # [3]
    view_height: float  # metres seen at the target, from bottom to top
    distance: float  # metres from the eye to the target


def look_at(eye: np.ndarray, target: np.ndarray, view_height: float) -> Camera:
    """A camera at `eye` with `target` in the middle of a picture `view_height` metres high."""
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    back = eye - target
    distance = float(np.linalg.norm(back))
    z = back / distance
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    return Camera(np.stack([x, np.cross(z, x), z]), eye, view_height, distance)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [V, 3]."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces.ravel(), np.repeat(np.cross(b - a, c - a), 3, axis=0))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def render(
    vertices: np.ndarray,  # [V, 3] metres, y up
    faces: np.ndarray,  # [F, 3], counter-clockwise from outside
    colours: np.ndarray,  # [V, 3] in 0..1
    camera: Camera,
    size: tuple[int, int],  # width, height
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> np.ndarray:
    """The picture, uint8 [height, width, 3]."""
    width, height = size[0] * SAMPLES, size[1] * SAMPLES
    pixel_x, pixel_y, depth = project(vertices, camera, width, height)
    shaded = colours * shade(vertex_normals(vertices, faces))[:, None]  # [V, 3]

    nearest = np.full(width * height, np.inf)
    picture = np.tile(np.asarray(background, float), (width * height, 1))
    for chunk in chunks_of(faces, pixel_x, pixel_y, width, height):
        triangle, pixel, weights = covered_pixels(chunk, pixel_x, pixel_y, width, height)
        z = (weights * depth[triangle]).sum(1)
        order = np.lexsort((z, pixel))
        pixel, first = np.unique(pixel[order], return_index=True)  # the nearest triangle of each pixel
        winner = order[first]
        visible = z[winner] < nearest[pixel]
        pixel, winner = pixel[visible], winner[visible]
        nearest[pixel] = z[winner]
        picture[pixel] = (weights[winner][..., None] * shaded[triangle[winner]]).sum(1)

    picture = picture.reshape(size[1], SAMPLES, size[0], SAMPLES, 3).mean((1, 3))
    return (np.clip(picture, 0, 1) ** (1 / 1.8) * 255 + 0.5).astype(np.uint8)


def project(vertices: np.ndarray, camera: Camera, width: int, height: int) -> tuple[np.ndarray, ...]:
    """Pixel coordinates and depth of each vertex, [V] each."""
    local = (vertices - camera.eye) @ camera.rotation.T
    depth = -local[:, 2]
    scale = height / camera.view_height * camera.distance / depth
    return width / 2 + local[:, 0] * scale, height / 2 - local[:, 1] * scale, depth


def shade(normals: np.ndarray) -> np.ndarray:
    """Light that each vertex gives back, [V]: two diffuse lights and the ambient one."""
    light = np.full(len(normals), AMBIENT)
    for direction, strength in LIGHTS:
        light += strength * np.maximum(normals @ (direction / np.linalg.norm(direction)), 0)
    return light


def bounds(coordinates: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel and number of pixels that each triangle can touch along one axis. [F, 3] -> [F], [F]"""
    first = np.clip(np.ceil(coordinates.min(1) - 0.5), 0, limit).astype(int)
    last = np.clip(np.floor(coordinates.max(1) - 0.5), -1, limit - 1).astype(int)
    return first, np.maximum(last - first + 1, 0)


def chunks_of(faces: np.ndarray, pixel_x: np.ndarray, pixel_y: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    """The faces in pieces, each of about MAX_CANDIDATES (triangle, pixel) pairs."""
    candidates = bounds(pixel_x[faces], width)[1] * bounds(pixel_y[faces], height)[1]
    piece = np.cumsum(candidates) // MAX_CANDIDATES
    return np.split(faces, np.flatnonzero(np.diff(piece)) + 1)


def covered_pixels(
    faces: np.ndarray, pixel_x: np.ndarray, pixel_y: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel centre in every triangle that faces us: vertices [N, 3], pixel [N], weights [N, 3]."""
    x, y = pixel_x[faces], pixel_y[faces]  # [F, 3]
    twice_area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    towards_us = twice_area < 0  # y points down in the picture
    faces, x, y, twice_area = faces[towards_us], x[towards_us], y[towards_us], twice_area[towards_us]

    first_x, count_x = bounds(x, width)
    first_y, count_y = bounds(y, height)
    candidates = count_x * count_y
    triangle = np.repeat(np.arange(len(faces)), candidates)
    within = np.arange(len(triangle)) - np.repeat(np.cumsum(candidates) - candidates, candidates)
    column = first_x[triangle] + within % count_x[triangle]
    row = first_y[triangle] + within // count_x[triangle]

    x, y, twice_area = x[triangle], y[triangle], twice_area[triangle]
    px, py = column + 0.5, row + 0.5
    weights = np.empty((len(triangle), 3))
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        weights[:, k] = ((x[:, i] - px) * (y[:, j] - py) - (x[:, j] - px) * (y[:, i] - py)) / twice_area
    inside = (weights >= 0).all(1)
    return faces[triangle[inside]], (row * width + column)[inside], weights[inside]


def write_png(path: Path, picture: np.ndarray) -> None:
    """A picture uint8 [height, width, 3] as a PNG file."""
    height, width, _ = picture.shape
    # Filter 2: each row as its difference from the one above, which compresses smooth pictures well.
    above = np.concatenate([np.zeros_like(picture[:1]), picture[:-1]])
    rows = np.full((height, 1 + 3 * width), 2, np.uint8)
    rows[:, 1:] = (picture - above).reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    write_whole(path, b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
