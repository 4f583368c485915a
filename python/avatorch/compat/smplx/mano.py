"""MANO: one hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arguments import check_options
from .smpl import SMPL, Value
from .smplh import HAND_POSE
from .utils import MANOOutput, Struct
from .vertex_ids import vertex_ids as VERTEX_IDS
from .vertex_joint_selector import VertexJointSelector


class MANO(SMPL):
    """A hand of 16 joints; `joints` are these alone."""

    NUM_BODY_JOINTS = 1
    NUM_HAND_JOINTS = 15
    NUM_JOINTS = NUM_BODY_JOINTS + NUM_HAND_JOINTS

    _FAMILY = "mano"
    _PARTS = (("global_orient", 1), ("hand_pose", 15))

    hand_components: Tensor  # [num_pca_comps, 45]
    hand_mean: Tensor  # [45]
    pose_mean: Tensor  # [48]

    def __init__(
        self,
        model_path: str,
        is_rhand: bool = True,
        data_struct: Struct | None = None,
        create_hand_pose: bool = True,
        hand_pose: Value | None = None,
        use_pca: bool = True,
        num_pca_comps: int = 6,
        flat_hand_mean: bool = False,
        batch_size: int = 1,
        dtype: torch.dtype = torch.float32,
        vertex_ids: dict[str, int] | None = None,
        use_compressed: bool = True,
        ext: str = "pkl",
        **kwargs: Any,
    ) -> None:
        """`is_rhand` chooses a hand from a folder. All 45 components are the same as `use_pca=False`."""
        side = "right" if is_rhand else "left"
        data = data_struct or self._read(model_path, side, ext=ext)
        super().__init__(
            model_path=model_path,
            data_struct=data,
            batch_size=batch_size,
            vertex_ids=vertex_ids,
            dtype=dtype,
            ext=ext,
            **kwargs,
        )
        self.is_rhand = is_rhand
        self.use_pca = use_pca and num_pca_comps != HAND_POSE
        check_options(self.name(), dtype, num_pca_comps=num_pca_comps)
        self.num_pca_comps = num_pca_comps
        self.flat_hand_mean = flat_hand_mean
        available = len(data.hands_components)
        if self.use_pca and available < num_pca_comps:
            raise ValueError(
                f"MANO: num_pca_comps is {num_pca_comps}, and the file has {available} hand components in "
                "hands_components; use_pca=False needs none"
            )
        self.np_hand_components = np.asarray(data.hands_components)[:num_pca_comps]
        if self.use_pca:
            self._store("hand_components", self.np_hand_components, rounded=False)
        mean = np.asarray(data.hands_mean)
        self._store("hand_mean", np.zeros_like(mean) if flat_hand_mean else mean, rounded=False)
        self._create("hand_pose", create_hand_pose, hand_pose, num_pca_comps if self.use_pca else HAND_POSE)
        self.register_buffer("pose_mean", self.create_mean_pose(data, flat_hand_mean=flat_hand_mean))
        self.prepare()

    def _selector(self, vertex_ids: dict[str, int] | None, **kwargs: Any) -> VertexJointSelector:
        return VertexJointSelector.of(list(VERTEX_IDS["mano"].values()))

    def create_mean_pose(self, data_struct: Struct, flat_hand_mean: bool = False) -> Tensor:
        """[48]: the mean of the hand behind a root of zero."""
        return torch.cat([self.hand_mean.new_zeros(3), self.hand_mean])

    def name(self) -> str:
        """What the model is called."""
        return "MANO"

    def extra_repr(self) -> str:
        """Gender, sizes, components."""
        components = [f"Number of PCA components: {self.num_pca_comps}"] if self.use_pca else []
        return "\n".join([super().extra_repr(), *components, f"Flat hand mean: {self.flat_hand_mean}"])

    def forward(  # type: ignore[override]
        self,
        betas: Tensor | None = None,  # [B, num_betas]
        global_orient: Tensor | None = None,  # [B, 3]
        hand_pose: Tensor | None = None,  # [B, num_pca_comps] or [B, 45]
        transl: Tensor | None = None,  # [B, 3]
        return_verts: bool = True,
        return_full_pose: bool = False,
        *,
        pose2rot: bool = True,
        vertex_offsets: Tensor | None = None,  # [B, V, 3]
        joint_offsets: Tensor | None = None,  # [B, 16, 3]
        **kwargs: Any,
    ) -> MANOOutput:
        """Hands in a pose; matrices [B, n, 3, 3] without `pose2rot`, and in a layer."""
        pose = {"global_orient": global_orient, "hand_pose": hand_pose}
        output: MANOOutput = self._fill(
            MANOOutput(),
            pose,
            betas,
            transl,
            return_verts,
            return_full_pose,
            pose2rot,
            vertex_offsets,
            joint_offsets,
            on_surface=False,
        )
        if not return_verts:
            output.joints = None
        return output

    def _components(self, name: str) -> int | None:
        return self.num_pca_comps if self.use_pca and name == "hand_pose" else None

    def _expanded(self, name: str, part: Tensor) -> Tensor:
        if not self.use_pca or name != "hand_pose":
            return part
        return torch.einsum("bi,ij->bj", part, self.hand_components)


class MANOLayer(MANO):
    """MANO posed by rotation matrices; components and mean are not used."""

    _takes_matrices = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = ["betas", "global_orient", "hand_pose", "transl"]
        super().__init__(*args, **{**kwargs, **{f"create_{name}": False for name in names}})
