"""SMPL-X: body, hands and face."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .face import Expressive
from .smpl import Value
from .smplh import SMPLH
from .utils import SMPLXOutput
from .vertex_ids import vertex_ids as VERTEX_IDS
from .vertex_joint_selector import VertexJointSelector


class SMPLX(Expressive, SMPLH):
    """A body of 55 joints with expressions. `joints` are 127, or 144 with `use_face_contour`."""

    NUM_BODY_JOINTS = SMPLH.NUM_BODY_JOINTS
    NUM_HAND_JOINTS = 15
    NUM_FACE_JOINTS = 3
    NUM_JOINTS = NUM_BODY_JOINTS + 2 * NUM_HAND_JOINTS + NUM_FACE_JOINTS
    NECK_IDX = 12

    _FAMILY = "smplx"
    _PARTS: tuple[tuple[str, int], ...] = (
        ("global_orient", 1),
        ("body_pose", 21),
        ("jaw_pose", 1),
        ("leye_pose", 1),
        ("reye_pose", 1),
        ("left_hand_pose", 15),
        ("right_hand_pose", 15),
    )

    def __init__(
        self,
        model_path: str,
        kid_template_path: str = "",
        num_expression_coeffs: int = 10,
        create_expression: bool = True,
        expression: Value | None = None,
        create_jaw_pose: bool = True,
        jaw_pose: Value | None = None,
        create_leye_pose: bool = True,
        leye_pose: Value | None = None,
        create_reye_pose: bool = True,
        reye_pose: Value | None = None,
        use_face_contour: bool = False,
        batch_size: int = 1,
        gender: str = "neutral",
        age: str = "adult",
        dtype: torch.dtype = torch.float32,
        ext: str = "npz",
        **kwargs: Any,
    ) -> None:
        """As SMPL-H."""
        data = kwargs.pop("data_struct", None) or self._read(model_path, gender, ext=ext)
        super().__init__(
            model_path=model_path,
            kid_template_path=kid_template_path,
            data_struct=data,
            batch_size=batch_size,
            gender=gender,
            age=age,
            dtype=dtype,
            ext=ext,
            **kwargs,
        )
        self.use_face_contour = use_face_contour
        self._store_landmarks(data)
        expr_dirs = self._expression_space(data, num_expression_coeffs)
        given = {"jaw_pose": jaw_pose, "leye_pose": leye_pose, "reye_pose": reye_pose, "expression": expression}
        create = {
            "jaw_pose": create_jaw_pose,
            "leye_pose": create_leye_pose,
            "reye_pose": create_reye_pose,
            "expression": create_expression,
        }
        self._create_face(given, create)
        self._store("expr_dirs", expr_dirs)
        self.prepare()

    def _selector(self, vertex_ids: dict[str, int] | None, **kwargs: Any) -> VertexJointSelector:
        return super()._selector(vertex_ids or VERTEX_IDS["smplx"], **kwargs)

    def name(self) -> str:
        """What the model is called."""
        return "SMPL-X"

    def create_mean_pose(self, data_struct: Any, flat_hand_mean: bool = False) -> Tensor:
        """[165]: the means of the hands, zero elsewhere."""
        return super().create_mean_pose(data_struct, flat_hand_mean)

    def extra_repr(self) -> str:
        """Gender, sizes, hands, expressions."""
        return f"{super().extra_repr()}\nNumber of Expression Coefficients: {self.num_expression_coeffs}"

    def forward(  # type: ignore[override]
        self,
        betas: Tensor | None = None,  # [B, num_betas]
        global_orient: Tensor | None = None,  # [B, 3]
        body_pose: Tensor | None = None,  # [B, 63] or [B, 21, 3]
        left_hand_pose: Tensor | None = None,  # [B, num_pca_comps] or [B, 45]
        right_hand_pose: Tensor | None = None,
        transl: Tensor | None = None,  # [B, 3]
        expression: Tensor | None = None,  # [B, num_expression_coeffs]
        jaw_pose: Tensor | None = None,  # [B, 3]
        leye_pose: Tensor | None = None,  # [B, 3]
        reye_pose: Tensor | None = None,  # [B, 3]
        return_verts: bool = True,
        return_full_pose: bool = False,
        pose2rot: bool = True,
        return_shaped: bool = True,
        *,
        vertex_offsets: Tensor | None = None,  # [B, V, 3]
        joint_offsets: Tensor | None = None,  # [B, J, 3]
        **kwargs: Any,
    ) -> SMPLXOutput:
        """Bodies in a pose; matrices [B, n, 3, 3] without `pose2rot`, and in a layer."""
        pose = {
            "global_orient": global_orient,
            "body_pose": body_pose,
            "jaw_pose": jaw_pose,
            "leye_pose": leye_pose,
            "reye_pose": reye_pose,
            "left_hand_pose": left_hand_pose,
            "right_hand_pose": right_hand_pose,
        }
        output: Any = self._fill(
            SMPLXOutput(),
            pose,
            betas,
            transl,
            return_verts,
            return_full_pose,
            pose2rot,
            vertex_offsets,
            joint_offsets,
            expression=expression,
        )
        if self._takes_matrices:
            output.transl = output.joints.new_zeros(output.joints.shape[0], 3) if transl is None else transl
        elif return_shaped:
            output.v_shaped = self._shaped(output.betas)
        result: SMPLXOutput = output
        return result


class SMPLXLayer(SMPLX):
    """SMPL-X without parameters, posed by rotation matrices; components and mean of the hands are not used."""

    _takes_matrices = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = ["betas", "transl", "expression", *(name for name, _ in self._PARTS)]
        super().__init__(*args, **{**kwargs, **{f"create_{name}": False for name in names}})
