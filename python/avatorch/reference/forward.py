"""The whole body: the stages one after another."""

from typing import NamedTuple

import torch
from torch import Tensor

from .blend_shapes import blend_shapes, pose_offsets
from .joints import joints_from_directions, joints_from_vertices
from .kinematic_chain import kinematic_chain
from .rodrigues import rodrigues
from .skinning import skinning


class Body(NamedTuple):
    """What `forward` returns. Only vertices and joints contain transl."""

    vertices: Tensor  # [B, V, 3]
    joints: Tensor  # [B, J, 3]
    v_shaped: Tensor  # [B, V, 3]
    J_shaped: Tensor  # [B, J, 3]
    rot_mats: Tensor  # [B, J, 3, 3]
    A_global: Tensor  # [B, J, 4, 4]
    v_posed: Tensor  # [B, V, 3]


def forward(
    shape_coefficients: Tensor,  # [B, C]: betas, then expression
    pose: Tensor,  # [B, 3 J] or [B, J, 3] axis-angle, or [B, J, 3, 3]
    transl: Tensor | None,  # [B, 3]
    v_template: Tensor,  # [V, 3] or [B, V, 3]
    shapedirs: Tensor,  # [V, 3, C]
    posedirs: Tensor | None,  # [9 (J - 1), 3 V]
    parents: Tensor,  # [J], -1 at the root, parents[j] < j
    lbs_weights: Tensor,  # [V, J]
    *,
    J_regressor: Tensor | None = None,  # [J, V], or the next two
    J_template: Tensor | None = None,  # [J, 3]
    J_shapedirs: Tensor | None = None,  # [J, 3, C]
    vertex_offsets: Tensor | None = None,  # [B, V, 3], added to v_posed; the joints do not follow
    joint_offsets: Tensor | None = None,  # [B, J, 3], added to J_shaped
) -> Body:
    """The bodies of these shapes in these poses.

    A batch of one broadcasts against the others. transl is added to vertices and joints last.
    """
    batched = [shape_coefficients, pose, transl, vertex_offsets, joint_offsets]
    batched += [v_template] if v_template.ndim == 3 else []
    (batch,) = torch.broadcast_shapes(*(tensor.shape[:1] for tensor in batched if tensor is not None))
    shape_coefficients = shape_coefficients.expand(batch, -1)

    v_shaped = blend_shapes(shape_coefficients, v_template, shapedirs)
    if J_regressor is not None:
        J_shaped = joints_from_vertices(v_shaped, J_regressor)
    else:
        assert J_template is not None and J_shapedirs is not None
        J_shaped = joints_from_directions(shape_coefficients, J_template, J_shapedirs)
    if joint_offsets is not None:
        J_shaped = J_shaped + joint_offsets

    rot_mats = pose if pose.ndim == 4 else rodrigues(pose.reshape(pose.shape[0], len(parents), 3))
    rot_mats = rot_mats.expand(batch, -1, -1, -1)
    v_posed = v_shaped if vertex_offsets is None else v_shaped + vertex_offsets
    if posedirs is not None:
        v_posed = v_posed + pose_offsets(rot_mats, posedirs)
    joints, A_global = kinematic_chain(rot_mats, J_shaped, parents)
    vertices = skinning(v_posed, A_global, lbs_weights)
    if transl is not None:
        vertices, joints = vertices + transl[:, None], joints + transl[:, None]
    return Body(vertices, joints, v_shaped, J_shaped, rot_mats, A_global, v_posed)
