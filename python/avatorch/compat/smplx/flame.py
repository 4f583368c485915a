"""FLAME: a head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .face import Expressive
from .smpl import Value
from .utils import FLAMEOutput, Struct
from .vertex_joint_selector import VertexJointSelector


class FLAME(Expressive):
    """A head of 5 joints with expressions; `joints` are 56, or 73 with `use_face_contour`.

    Landmarks are read from `flame_static_embedding.pkl` and `flame_dynamic_embedding.npy` beside the model.
    """

    NUM_JOINTS = 5
    NECK_IDX = 0

    _FAMILY = "flame"
    _PARTS = (("global_orient", 1), ("neck_pose", 1), ("jaw_pose", 1), ("leye_pose", 1), ("reye_pose", 1))

    def __init__(
        self,
        model_path: str,
        data_struct: Struct | None = None,
        num_expression_coeffs: int = 10,
        create_expression: bool = True,
        expression: Value | None = None,
        create_neck_pose: bool = True,
        neck_pose: Value | None = None,
        create_jaw_pose: bool = True,
        jaw_pose: Value | None = None,
        create_leye_pose: bool = True,
        leye_pose: Value | None = None,
        create_reye_pose: bool = True,
        reye_pose: Value | None = None,
        use_face_contour: bool = False,
        batch_size: int = 1,
        gender: str = "neutral",
        dtype: torch.dtype = torch.float32,
        ext: str = "pkl",
        **kwargs: Any,
    ) -> None:
        """As SMPL."""
        data = data_struct or self._read(model_path, gender, ext=ext)
        super().__init__(
            model_path=model_path,
            data_struct=data,
            batch_size=batch_size,
            gender=gender,
            dtype=dtype,
            ext=ext,
            **kwargs,
        )
        self.use_face_contour = use_face_contour
        expr_dirs = self._expression_space(data, num_expression_coeffs)
        given = {
            "neck_pose": neck_pose,
            "jaw_pose": jaw_pose,
            "leye_pose": leye_pose,
            "reye_pose": reye_pose,
            "expression": expression,
        }
        create = {
            "neck_pose": create_neck_pose,
            "jaw_pose": create_jaw_pose,
            "leye_pose": create_leye_pose,
            "reye_pose": create_reye_pose,
            "expression": create_expression,
        }
        self._create_face(given, create)
        self._store("expr_dirs", expr_dirs)
        if not hasattr(data, "lmk_faces_idx"):
            raise FileNotFoundError(
                f"{model_path}: FLAME has no landmarks; expected flame_static_embedding.pkl beside the model"
            )
        self._store_landmarks(data)
        self.prepare()

    def _selector(self, vertex_ids: dict[str, int] | None, **kwargs: Any) -> VertexJointSelector:
        return VertexJointSelector.of([])

    def name(self) -> str:
        """What the model is called."""
        return "FLAME"

    def extra_repr(self) -> str:
        """Gender, sizes, expressions."""
        expressions = f"Number of Expression Coefficients: {self.num_expression_coeffs}"
        return "\n".join([super().extra_repr(), expressions, f"Use face contour: {self.use_face_contour}"])

    def forward(  # type: ignore[override]
        self,
        betas: Tensor | None = None,  # [B, num_betas]
        global_orient: Tensor | None = None,  # [B, 3]
        neck_pose: Tensor | None = None,  # [B, 3]
        transl: Tensor | None = None,  # [B, 3]
        expression: Tensor | None = None,  # [B, num_expression_coeffs]
        jaw_pose: Tensor | None = None,  # [B, 3]
        leye_pose: Tensor | None = None,  # [B, 3]
        reye_pose: Tensor | None = None,  # [B, 3]
        return_verts: bool = True,
        return_full_pose: bool = False,
        pose2rot: bool = True,
        *,
        vertex_offsets: Tensor | None = None,  # [B, V, 3]
        joint_offsets: Tensor | None = None,  # [B, 5, 3]
        **kwargs: Any,
    ) -> FLAMEOutput:
        """Heads in a pose; matrices [B, 1, 3, 3] without `pose2rot`, and in a layer."""
        pose = {
            "global_orient": global_orient,
            "neck_pose": neck_pose,
            "jaw_pose": jaw_pose,
            "leye_pose": leye_pose,
            "reye_pose": reye_pose,
        }
        output: FLAMEOutput = self._fill(
            FLAMEOutput(),
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
        return output


class FLAMELayer(FLAME):
    """FLAME posed by rotation matrices."""

    _takes_matrices = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = ["betas", "expression", *(name for name, _ in self._PARTS)]
        super().__init__(*args, **{**kwargs, **{f"create_{name}": False for name in names}})
