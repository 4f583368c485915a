"""Poses and expressions of a body in a picture; with --view, sliders in a browser.

python examples/demo_visualization.py [model file] [--out out] [--height 480] [--view]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import avatorch
from avatorch.export.render import look_at, render, write_png

CLAY = [0.75, 0.62, 0.55]
# Joints of the open body and, behind the slash, of SMPL's families; axis-angle.
POSES: list[dict[str, tuple[float, float, float]]] = [
    {},
    {"upperarm01.L/left_shoulder": (0.0, 0.0, -0.4), "upperarm01.R/right_shoulder": (0.0, 0.0, 0.4)},
    {"upperarm01.L/left_shoulder": (0.0, 0.0, 0.8), "lowerarm01.L/left_elbow": (0.0, -1.2, 0.0)},
    {"upperleg01.R/right_hip": (-0.9, 0.0, 0.0), "lowerleg01.R/right_knee": (1.1, 0.0, 0.0)},
]
EXPRESSIONS: list[dict[str, float]] = [
    {},
    {"jawOpen": 0.7},
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9},
    {"eyeBlinkLeft": 1.0},
]


def main() -> None:
    """Draws out/poses.png, and out/expressions.png where the model has named expressions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a model file; default: the open body")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--height", type=int, default=480, help="of each picture, in pixels")
    parser.add_argument("--view", action="store_true", help="show sliders in a browser; needs viser")
    given = parser.parse_args()
    body = avatorch.Body.load(given.model) if given.model else avatorch.open_body()
    given.out.mkdir(exist_ok=True, parents=True)
    with torch.no_grad():
        meshes = body(pose=named_poses(body)).vertices
        draw(given.out / "poses.png", body, meshes, given.height, whole_view(meshes))
        if "jawOpen" in body.expression_names:
            meshes = torch.stack([body(expression=expression).vertices for expression in EXPRESSIONS])
            draw(given.out / "expressions.png", body, meshes, given.height, face_view(body))
    if given.view:
        view(body)


def named_poses(body: avatorch.Body) -> Tensor:
    """[poses, J, 3] of the joints that this body has."""
    pose = torch.zeros(len(POSES), body.num_joints, 3)
    for row, named in zip(pose, POSES, strict=True):
        for names, rotation in named.items():
            for name in set(names.split("/")) & set(body.joint_names):
                row[body.joint(name)] = torch.tensor(rotation)
    return pose


def whole_view(meshes: Tensor) -> Any:
    """A camera that sees all of every body."""
    low, high = meshes.flatten(0, 1).amin(0).numpy(), meshes.flatten(0, 1).amax(0).numpy()
    middle, height = (low + high) / 2, 1.15 * max(high[1] - low[1], (high[0] - low[0]) / 0.6)
    return look_at(middle + np.array([0.3, 0.1, 2.0]) * height, middle, float(height))


def face_view(body: avatorch.Body) -> Any:
    """A camera that sees the part that the jaw's expression moves."""
    jaw = body.shapedirs[:, :, body.num_betas + body.expression_names.index("jawOpen")].norm(dim=1)
    target = body.v_template[jaw > 0.3 * jaw.max()].mean(0).numpy() + np.array([0.0, 0.04, 0.0])
    return look_at(target + np.array([0.12, 0.03, 0.6]), target, 0.32)


def draw(path: Path, body: avatorch.Body, meshes: Tensor, height: int, camera: Any) -> None:
    """The meshes [N, V, 3] side by side."""
    colours = np.tile(CLAY, (meshes.shape[1], 1))
    size = (int(0.6 * height), height)
    pictures = [render(mesh.double().numpy(), body.faces.numpy(), colours, camera, size) for mesh in meshes]
    write_png(path, np.concatenate(pictures, 1))
    print(f"wrote {path}")


def view(body: avatorch.Body, serve: bool = True) -> Any:
    """A page with the body and sliders for its first betas and expressions."""
    try:
        import viser
    except ImportError:
        sys.exit("--view needs viser: pip install viser")
    server = viser.ViserServer()
    server.scene.set_up_direction("+y")
    names = [*(body.shape_names or [f"beta {i}" for i in range(body.num_betas)])[:10], *body.expression_names[:20]]
    limits = [(-3.0, 3.0)] * min(10, body.num_betas) + [(0.0, 1.0)] * len(body.expression_names[:20])
    sliders = [
        server.gui.add_slider(name, min=low, max=high, step=0.05, initial_value=0.0)
        for name, (low, high) in zip(names, limits, strict=True)
    ]

    @torch.no_grad()
    def show(_: Any = None) -> None:
        values = torch.tensor([slider.value for slider in sliders])
        betas, expression = values[: min(10, body.num_betas)], values[min(10, body.num_betas) :]
        vertices = body(betas=betas, expression=expression).vertices
        server.scene.add_mesh_simple("/body", vertices.numpy(), body.faces.numpy(), color=(191, 158, 140))

    for slider in sliders:
        slider.on_update(show)
    show()
    while serve:
        time.sleep(1)
    return server


if __name__ == "__main__":
    main()
