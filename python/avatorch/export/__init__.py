"""Bodies and motions as files: glTF `.glb`, OBJ, PLY, and AMASS `.npz`.

avatorch.export.save_glb("walk.glb", body, **motion.arguments(body), frame_rate=motion.frame_rate)
"""

from __future__ import annotations

from avatorch.export.glb import save_glb
from avatorch.export.mesh import save_obj, save_ply
from avatorch.export.motion import save_motion
from avatorch.export.page import mesh_view

__all__ = ["mesh_view", "save_glb", "save_motion", "save_obj", "save_ply"]
