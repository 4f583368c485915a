"""The models, and how to make one from a folder of files."""

from __future__ import annotations

import os
from typing import Any

from .flame import FLAME, FLAMELayer
from .lbs import blend_shapes, find_dynamic_lmk_idx_and_bcoords, lbs, vertices2landmarks
from .mano import MANO, MANOLayer
from .smpl import SMPL, SMPLLayer
from .smplh import SMPLH, SMPLHLayer
from .smplx import SMPLX, SMPLXLayer
from .utils import Array as Array
from .utils import (
    FLAMEOutput,
    MANOOutput,
    ModelOutput,
    SMPLHOutput,
    SMPLOutput,
    SMPLXOutput,
    Struct,
    find_joint_kin_chain,
    to_np,
    to_tensor,
)
from .utils import Tensor as Tensor
from .vertex_ids import vertex_ids as VERTEX_IDS
from .vertex_joint_selector import VertexJointSelector

_MODELS: dict[str, type[SMPL]] = {"smpl": SMPL, "smplh": SMPLH, "smplx": SMPLX, "mano": MANO, "flame": FLAME}
_LAYERS: dict[str, type[SMPL]] = {
    "smpl": SMPLLayer,
    "smplh": SMPLHLayer,
    "smplx": SMPLXLayer,
    "mano": MANOLayer,
    "flame": FLAMELayer,
}


def create(model_path: str, model_type: str = "smpl", **kwargs: Any) -> SMPL:
    """A model with parameters, posed by axis-angle vectors.

    In a folder, `model_type` is a folder of it, with the files of this model. A file says its type by its name, as
    SMPLX_NEUTRAL.npz does.
    """
    return _made(_MODELS, model_path, model_type, kwargs)


def build_layer(model_path: str, model_type: str = "smpl", **kwargs: Any) -> SMPL:
    """The same without parameters, posed by rotation matrices."""
    return _made(_LAYERS, model_path, model_type, kwargs)


def _made(classes: dict[str, type[SMPL]], path: str, model_type: str, kwargs: dict[str, Any]) -> SMPL:
    if os.path.isdir(path):
        path = os.path.join(path, model_type)
    elif os.path.exists(path):
        model_type = os.path.basename(path).split("_")[0]
    else:
        raise FileNotFoundError(f"{path}: there is no such file or folder of models")
    if model_type.lower() not in classes:
        raise ValueError(f"the model type is {model_type!r}, expected one of {', '.join(classes)}")
    return classes[model_type.lower()](path, **kwargs)


__all__ = [
    "FLAME",
    "MANO",
    "SMPL",
    "SMPLH",
    "SMPLX",
    "VERTEX_IDS",
    "FLAMELayer",
    "FLAMEOutput",
    "MANOLayer",
    "MANOOutput",
    "ModelOutput",
    "SMPLHLayer",
    "SMPLHOutput",
    "SMPLLayer",
    "SMPLOutput",
    "SMPLXLayer",
    "SMPLXOutput",
    "Struct",
    "VertexJointSelector",
    "blend_shapes",
    "build_layer",
    "create",
    "find_dynamic_lmk_idx_and_bcoords",
    "find_joint_kin_chain",
    "lbs",
    "to_np",
    "to_tensor",
    "vertices2landmarks",
]
