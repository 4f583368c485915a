"""The interface of the package smplx 0.1.28 over `torch.ops.smplx.forward`.

    import avatorch.compat.smplx as smplx

    model = smplx.create("models", "smplx", gender="neutral", use_pca=False)
    output = model(betas=betas, body_pose=body_pose)

Same classes, arguments, defaults, buffers and results; `docs/coming-from-smplx.md` lists what differs.
"""

from . import body_models, joint_names, lbs, utils, vertex_ids, vertex_joint_selector
from .body_models import (
    FLAME,
    MANO,
    SMPL,
    SMPLH,
    SMPLX,
    FLAMELayer,
    MANOLayer,
    SMPLHLayer,
    SMPLLayer,
    SMPLXLayer,
    build_layer,
    create,
)

__all__ = [
    "FLAME",
    "MANO",
    "SMPL",
    "SMPLH",
    "SMPLX",
    "FLAMELayer",
    "MANOLayer",
    "SMPLHLayer",
    "SMPLLayer",
    "SMPLXLayer",
    "body_models",
    "build_layer",
    "create",
    "joint_names",
    "lbs",
    "utils",
    "vertex_ids",
    "vertex_joint_selector",
]
