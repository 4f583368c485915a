"""The body operator written short, in plain PyTorch: what the fast path is compared with.

One file per stage, in the order in which they run: `rodrigues`, `blend_shapes`, `joints`,
`kinematic_chain`, `skinning`; `forward` puts them together. `landmarks` and `rotation_conversions` stand
beside them. Nothing here knows the fast path. Every function takes any floating dtype and is differentiable
to any order; use float64. `solver` and `animators` are those of a talking face.

Axis words: B bodies, V vertices, J joints, C shape coefficients (betas, then expression), 3 = xyz.
"""

from .blend_shapes import blend_shapes, pose_feature, pose_offsets
from .forward import Body, forward
from .joints import joints_from_directions, joints_from_vertices
from .kinematic_chain import kinematic_chain
from .landmarks import contour_row, landmarks
from .rodrigues import rodrigues
from .skinning import skinning

__all__ = [
    "Body",
    "blend_shapes",
    "contour_row",
    "forward",
    "joints_from_directions",
    "joints_from_vertices",
    "kinematic_chain",
    "landmarks",
    "pose_feature",
    "pose_offsets",
    "rodrigues",
    "skinning",
]
