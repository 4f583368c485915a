"""Weights on a body whose expressions have the same names: as an animation, and as pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.export import save_glb
from avatorch.export.render import look_at, render, write_png

CLAY = (0.62, 0.45, 0.38)
COLUMNS, ROWS = 6, 3
SIZE = (200, 240)  # pixels of a picture


def expression(body: Body, weights: Tensor, names: Sequence[str]) -> Tensor:
    """Weights [frames, poses] by the names of the body's expressions, else 0. -> [frames, expressions]"""
    values = torch.zeros(len(weights), body.num_expressions, dtype=torch.float32, device="cpu")
    for index, name in enumerate(body.expression_names):
        if name in names:
            values[:, index] = weights[:, list(names).index(name)].cpu()
    return values


def save_talking_glb(
    path: str | os.PathLike[str], body: Body, weights: Tensor, names: Sequence[str], fps: float
) -> None:
    """The body with its shape keys, moving."""
    if not len(weights):
        raise ValueError(f"{path}: a clip of no frames cannot be animated")
    save_glb(path, body, expression=expression(body, weights, names), frame_rate=fps, shape_keys=True)


def save_sheet(path: str | os.PathLike[str], body: Body, weights: Tensor, names: Sequence[str]) -> None:
    """Heads at moments evenly spread over the clip, row after row."""
    if not len(weights):
        raise ValueError(f"{path}: a clip of no frames cannot be drawn")
    moments = torch.linspace(0, len(weights) - 1, COLUMNS * ROWS, dtype=torch.float64, device="cpu").round().long()
    faces = body.faces.numpy()
    posed = body(expression=expression(body, weights[moments.to(weights.device)], names))
    vertices = posed.vertices.detach().numpy()
    middle = posed.joints[0, body.joint("head")].detach().numpy() + [0, 0.04, 0.05]
    camera = look_at(middle + [0.35, 0.02, 1.2], middle, 0.26)
    colours = np.tile(CLAY, (vertices.shape[1], 1))
    pictures = [render(frame, faces, colours, camera, SIZE) for frame in vertices]
    rows = [np.concatenate(pictures[at : at + COLUMNS], 1) for at in range(0, len(pictures), COLUMNS)]
    write_png(Path(path), np.concatenate(rows))
