"""What the models with a face share: expressions, landmarks, and the contour that slides with the head's turn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arguments import check_options
from .smpl import SHORT_SHAPE_SPACE, SMPL
from .surface import Surface
from .utils import Struct, find_joint_kin_chain, to_np


class Expressive(SMPL):
    """A model with expressions. Mixed into SMPL-X and FLAME."""

    EXPRESSION_SPACE_DIM = 100
    NECK_IDX = 0

    expr_dirs: Tensor  # [V, 3, expressions]
    use_face_contour: bool

    @property
    def num_expression_coeffs(self) -> int:
        """Expression coefficients."""
        return self._num_expression_coeffs

    def _expression_space(self, data: Struct, wanted: int) -> np.ndarray:
        """The directions [V, 3, expressions] of the file: behind 300 betas, or behind 10 in a short file."""
        shapedirs = np.asarray(data.shapedirs)
        long = shapedirs.shape[-1] >= self.SHAPE_SPACE_DIM + self.EXPRESSION_SPACE_DIM
        first = self.SHAPE_SPACE_DIM if long else SHORT_SHAPE_SPACE
        most = self.EXPRESSION_SPACE_DIM if long else SHORT_SHAPE_SPACE
        directions = shapedirs[:, :, first : first + min(wanted, most)]
        check_options(self.name(), self.dtype, num_expression_coeffs=wanted)
        self._num_expression_coeffs: int = directions.shape[-1]
        if wanted > self._num_expression_coeffs:
            warnings.warn(
                f"{self.name()}: num_expression_coeffs is {wanted}, the file has {self._num_expression_coeffs}",
                stacklevel=4,
            )
        return to_np(directions)

    def _store_landmarks(self, data: Struct) -> None:
        faces_idx = np.asarray(data.lmk_faces_idx).astype(np.int64)
        self.register_buffer("lmk_faces_idx", torch.from_numpy(faces_idx))
        self._store("lmk_bary_coords", data.lmk_bary_coords, rounded=False)
        if self.use_face_contour:
            faces_idx = np.asarray(data.dynamic_lmk_faces_idx).astype(np.int64)
            self.register_buffer("dynamic_lmk_faces_idx", torch.from_numpy(faces_idx))
            self._store("dynamic_lmk_bary_coords", data.dynamic_lmk_bary_coords, rounded=False)
            chain = find_joint_kin_chain(self.NECK_IDX, self.parents.tolist())
            self.register_buffer("neck_kin_chain", torch.tensor(chain, dtype=torch.int64))

    def _directions(self) -> list[Tensor]:
        return [self.shapedirs, self.expr_dirs]

    def _surface(self) -> Surface:
        buffers = self._buffers
        return (
            super()
            ._surface()
            ._replace(
                lmk_faces_idx=buffers["lmk_faces_idx"],
                lmk_bary_coords=buffers["lmk_bary_coords"],
                dynamic_lmk_faces_idx=buffers.get("dynamic_lmk_faces_idx"),
                dynamic_lmk_bary_coords=buffers.get("dynamic_lmk_bary_coords"),
                neck_kin_chain=buffers.get("neck_kin_chain"),
            )
        )

    def _mapped(self, joints: Tensor, vertices: Tensor) -> Tensor:
        result: Tensor = self.joint_mapper(joints=joints, vertices=vertices)
        return result

    def _create_face(self, given: dict[str, Any], create: dict[str, bool]) -> None:
        """The parameters of the face."""
        for name, value in given.items():
            size = self._num_expression_coeffs if name == "expression" else 3
            self._create(name, create[name], value, size)
