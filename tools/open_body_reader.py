"""The open body's file in float64, and its forward by the reference: what the tools around it need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from avatorch.reference import forward

OPEN_BODY = Path(__file__).parents[1] / "python/avatorch/data/open_body.safetensors"


class OpenBody(NamedTuple):
    """The shipped file, widened to float64."""

    v_template: Tensor  # [V, 3]
    shapedirs: Tensor  # [V, 3, 72]
    J_template: Tensor  # [J, 3]
    J_shapedirs: Tensor  # [J, 3, 72]
    parents: Tensor  # [J]
    lbs_weights: Tensor  # [V, J]
    faces: Tensor  # [F, 3]
    joint_names: list[str]
    expression_names: list[str]

    def forward(self, coefficients: Tensor, rot_mats: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices [B, V, 3] and joints [B, J, 3] for coefficients [B, 72] and rotations [B, J, 3, 3]."""
        body = forward(
            coefficients,
            rot_mats,
            transl=None,
            v_template=self.v_template,
            shapedirs=self.shapedirs,
            posedirs=None,
            parents=self.parents,
            lbs_weights=self.lbs_weights,
            J_template=self.J_template,
            J_shapedirs=self.J_shapedirs,
        )
        return body.vertices, body.joints


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of a safetensors file that we wrote ourselves."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__")
    dtypes = {"I16": np.int16, "F32": np.float32, "I32": np.int32, "U16": np.uint16}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(content[start + begin : start + end], dtypes[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"])
    return tensors, metadata


def directions(tensors: dict[str, np.ndarray]) -> np.ndarray:
    """The shape directions in metres, [V, 3, 72]."""
    return tensors["shapedirs"] * tensors["shapedirs_scale"].astype(np.float64)


def read_body(path: Path = OPEN_BODY) -> OpenBody:
    tensors, metadata = read_tensors(path)
    tensors |= {"shapedirs": directions(tensors)}
    wide = {name: torch.from_numpy(tensor.astype(np.float64)) for name, tensor in tensors.items()}
    lbs_weights = torch.zeros(len(wide["v_template"]), len(wide["J_template"]), dtype=torch.float64)
    lbs_weights.scatter_add_(1, wide["lbs_weight_joints"].long(), wide["lbs_weight_values"])
    return OpenBody(
        *(wide[name] for name in ("v_template", "shapedirs", "J_template", "J_shapedirs")),
        parents=wide["parents"].long(),
        lbs_weights=lbs_weights,
        faces=wide["faces"].long(),
        joint_names=json.loads(metadata["joint_names"]),
        expression_names=json.loads(metadata["expression_names"]),
    )
