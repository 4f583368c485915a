"""Draws the pictures of `docs/open-body.md`: bodies, faces and shapes of the open body.

Run from the root of the repository:
    PYTHONPATH=python python tools/open_body_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from avatorch.export.render import look_at, render, write_png
from avatorch.reference import rodrigues
from open_body_reader import OpenBody, read_body

IMAGES = Path(__file__).parents[1] / "docs/images"
TONGUE, EYES = slice(13348, 13574), slice(13574, 13718)  # vertices

# Rotations of joints in radians about x (left), y (up) and z (forward).
POSES = {
    "stand": {
        "shoulder01.L": (0, 0, -0.1), "shoulder01.R": (0, 0, 0.1),
        "upperarm01.L": (0, 0, -0.4), "upperarm01.R": (0, 0, 0.4),
        "upperleg01.L": (0, 0, -0.08), "upperleg01.R": (0, 0, 0.08),
    },
    "wave": {
        "shoulder01.L": (0, 0, -0.1), "upperarm01.L": (0, 0, -0.4),
        "shoulder01.R": (0, 0, -0.3), "upperarm01.R": (0, 0, -0.55), "lowerarm01.R": (0, 0, -1.7),
        "upperleg01.L": (0, 0, -0.08), "upperleg01.R": (0, 0, 0.08),
        "head": (0, 0, -0.12), "spine03": (0, 0, -0.06),
    },
    "run": {
        "root": (0.22, 0, 0),
        "upperleg01.L": (-1.15, 0, -0.1), "lowerleg01.L": (1.35, 0, 0), "foot.L": (0.2, 0, 0),
        "upperleg01.R": (0.45, 0, 0.1), "lowerleg01.R": (0.95, 0, 0), "foot.R": (0.5, 0, 0),
        "shoulder01.L": (0, 0, -0.2), "upperarm01.L": (0.65, 0, -0.6), "lowerarm01.L": (-1.1, 0.3, 0),
        "shoulder01.R": (0, 0, 0.2), "upperarm01.R": (-0.75, 0, 0.6), "lowerarm01.R": (-1.1, -0.3, 0),
        "spine03": (0, 0.2, 0), "spine01": (0, 0.15, 0), "neck01": (-0.15, -0.2, 0),
    },
    "cheer": {
        "shoulder01.L": (0, 0, 0.35), "upperarm01.L": (-0.1, 0, 1.35), "lowerarm01.L": (0, 0, 0.3),
        "shoulder01.R": (0, 0, -0.35), "upperarm01.R": (-0.1, 0, -1.35), "lowerarm01.R": (0, 0, -0.3),
        "spine01": (-0.12, 0, 0), "head": (-0.15, 0, 0),
        "upperleg01.L": (-0.1, 0, 0.05), "upperleg01.R": (0.1, 0, -0.05),
    },
    "squat": {
        "root": (0.35, 0, 0),
        "upperleg01.L": (-1.75, 0, 0.25), "lowerleg01.L": (1.95, 0, 0), "foot.L": (-0.55, 0, 0),
        "upperleg01.R": (-1.75, 0, -0.25), "lowerleg01.R": (1.95, 0, 0), "foot.R": (-0.55, 0, 0),
        "upperarm01.L": (-0.9, -0.5, 0), "upperarm01.R": (-0.9, 0.5, 0),
        "spine03": (0.1, 0, 0), "neck01": (-0.25, 0, 0),
    },
}  # fmt: skip

FACES = {
    "neutral": {},
    "smile": {
        "mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5,
        "jawOpen": 0.2, "browOuterUpLeft": 0.3, "browOuterUpRight": 0.3,
    },
    "surprise": {
        "jawOpen": 0.7, "browInnerUp": 1, "browOuterUpLeft": 1, "browOuterUpRight": 1,
        "eyeWideLeft": 1, "eyeWideRight": 1,
    },
    "asleep": {"eyeBlinkLeft": 1, "eyeBlinkRight": 1},
    "anger": {
        "browDownLeft": 1, "browDownRight": 1, "noseSneerLeft": 0.8, "noseSneerRight": 0.8,
        "mouthFrownLeft": 0.7, "mouthFrownRight": 0.7, "eyeSquintLeft": 0.5, "eyeSquintRight": 0.5,
    },
    "kiss": {"mouthPucker": 1, "eyeBlinkLeft": 1, "browOuterUpRight": 0.7},
    "tongue": {"tongueOut": 1, "jawOpen": 0.35, "eyeLookOutLeft": 1, "eyeLookInRight": 1},
}  # fmt: skip

CLAYS = [(0.30, 0.45, 0.60), (0.60, 0.36, 0.30), (0.36, 0.52, 0.42), (0.56, 0.46, 0.28), (0.46, 0.40, 0.58)]


def pose_body(
    body: OpenBody, betas: list[float], face: dict[str, float], pose: dict[str, tuple[float, float, float]]
) -> np.ndarray:
    """Vertices [V, 3]."""
    coefficients = torch.zeros(1, body.shapedirs.shape[-1], dtype=torch.float64)
    coefficients[0, : len(betas)] = torch.tensor(betas, dtype=torch.float64)
    for name, value in face.items():
        coefficients[0, 20 + body.expression_names.index(name)] = value
    axis_angle = torch.zeros(1, len(body.parents), 3, dtype=torch.float64)
    for name, value in pose.items():
        axis_angle[0, body.joint_names.index(name)] = torch.tensor(value, dtype=torch.float64)
    return body.forward(coefficients, rodrigues(axis_angle))[0][0].numpy()


def colours(body: OpenBody, clay: tuple[float, float, float]) -> np.ndarray:
    """One colour for the skin, and white eyes with a dark pupil. [V, 3]"""
    colour = np.tile(clay, (len(body.v_template), 1))
    colour[TONGUE] = (0.55, 0.22, 0.22)
    colour[EYES] = 0.95
    z = body.v_template[EYES, 2].numpy()
    colour[EYES][z > z.max() - 0.002] = 0.03
    return colour


def bodies(body: OpenBody) -> np.ndarray:
    """Five people, each in a pose with a face, on one ground."""
    people = [  # pose, face, betas, turn about y
        ("wave", "smile", [0.4, -0.2, -0.4], 0.25),
        ("run", "neutral", [1.0, -0.8, -1.2, 0.5], 0.7),
        ("stand", "neutral", [-0.5, 1.2, 1.7], -0.2),
        ("cheer", "surprise", [-0.8, 0.2, -0.8, -1.2], -0.15),
        ("squat", "anger", [0.8, -0.8, 0.4, 1.4], -0.6),
    ]
    vertices, colour = [], []
    for i, (pose, face, betas, turn) in enumerate(people):
        rotations = POSES[pose] | {"root": (POSES[pose].get("root", (0, 0, 0))[0], 0, 0)}
        v = pose_body(body, betas, FACES[face], rotations)
        v = v @ rodrigues(torch.tensor([0, turn, 0], dtype=torch.float64)).numpy().T
        vertices.append(v - [0, v[:, 1].min(), 0] + [1.02 * (i - 2), 0.06 if pose == "run" else 0, 0])
        colour.append(colours(body, CLAYS[i]))
    faces = np.concatenate([body.faces.numpy() + i * len(body.v_template) for i in range(len(people))])
    camera = look_at([0, 1.2, 14], [0, 1.02, 0], 2.2)
    return render(np.concatenate(vertices), faces, np.concatenate(colour), camera, (1080, 460))


def face_row(body: OpenBody) -> np.ndarray:
    """One head with different face units."""
    pictures = []
    for i, face in enumerate(FACES.values()):
        v = pose_body(body, [0, 0.6, 0.8, 1.0], face, {})
        middle = body.J_template[body.joint_names.index("head")].numpy() + [0, 0.04, 0.05]
        camera = look_at(middle + [0.35, 0.02, 1.2], middle, 0.26)
        colour = colours(body, CLAYS[i % len(CLAYS)])
        pictures.append(render(v, body.faces.numpy(), colour, camera, (150, 180)))
    return np.concatenate(pictures, axis=1)


def shape_rows(body: OpenBody) -> np.ndarray:
    """The first four shape directions at -2 and +2, then eight people with betas from N(0, 1)."""
    directions = [[0.0] * k + [sign] for k in range(4) for sign in (-2.0, 2.0)]
    people = np.random.RandomState(3).randn(8, 20).tolist()
    colour = colours(body, CLAYS[0])
    camera = look_at([1.5, 0.2, 6], [0, -0.05, 0], 2.15)
    rows = []
    for row in (directions, people):
        vertices = [pose_body(body, betas, {}, POSES["stand"]) for betas in row]
        pictures = [render(v, body.faces.numpy(), colour, camera, (120, 240)) for v in vertices]
        rows.append(np.concatenate(pictures, axis=1))
    return np.concatenate(rows)


def main() -> None:
    body = read_body()
    IMAGES.mkdir(parents=True, exist_ok=True)
    write_png(IMAGES / "open-body.png", bodies(body))
    write_png(IMAGES / "open-body-faces.png", face_row(body))
    write_png(IMAGES / "open-body-shapes.png", shape_rows(body))


if __name__ == "__main__":
    main()
