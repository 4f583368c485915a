"""The pages, each whole in itself, and the head that one of them moves."""

from __future__ import annotations

import base64
from functools import cache
from importlib.resources import files

import numpy as np
import torch

from avatorch.body import open_body
from avatorch.export import mesh_view
from avatorch.serve.protocol import as_text

UNIT = 0.00001  # metres: coordinates are whole numbers of these
NECK = -0.17  # metres from the joint of the head: what is above is shown
WIDTH = 0.14  # metres to each side
LEAST_MOVE = 0.00002  # metres: vertices that a face unit moves less stay


@cache
def face_page() -> str:
    """Records or takes a file, and shows the face moving."""
    page = files("avatorch.serve").joinpath("page.html").read_text(encoding="utf-8")
    return page.replace("/*MESH VIEW*/", mesh_view())


@cache
def docs_page() -> str:
    """Shows /openapi.json."""
    return files("avatorch.serve").joinpath("docs.html").read_text(encoding="utf-8")


@cache
def head() -> str:
    """The open body's head and its face units: {unit, middle, place, faces, units: {name: {at, by}}}, in base64."""
    body = open_body()
    with torch.no_grad():
        rest = body()
        moved = body(expression=torch.eye(body.num_expressions)).vertices - rest.vertices  # [units, V, 3]
    vertices = rest.vertices[0]
    joint = rest.joints[0, body.joint("head")]
    inside = ((vertices - joint)[:, 1] > NECK) & (vertices[:, 0].abs() < WIDTH)  # [V]
    faces = body.faces[inside[body.faces].all(1)]  # [F, 3]
    kept = torch.unique(faces)  # sorted
    faces = torch.searchsorted(kept, faces)
    place = vertices[kept]
    middle = (place.amin(0) + place.amax(0)) / 2
    units = {}
    for name, deltas in zip(body.expression_names, moved[:, kept], strict=True):
        at = torch.nonzero(deltas.abs().amax(1) > LEAST_MOVE)[:, 0]
        units[name] = {"at": _packed(at, "<u2"), "by": _packed(deltas[at] / UNIT, "<i2")}
    return as_text(
        {
            "unit": UNIT,
            "middle": [round(value, 4) for value in middle.tolist()],
            "place": _packed((place - middle) / UNIT, "<i2"),
            "faces": _packed(faces, "<u2"),
            "units": units,
        }
    )


def _packed(numbers: torch.Tensor, kind: str) -> str:
    limits = np.iinfo(kind)
    return base64.b64encode(np.clip(np.rint(numbers.numpy()), limits.min, limits.max).astype(kind).tobytes()).decode()
