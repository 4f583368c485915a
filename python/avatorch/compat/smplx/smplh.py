"""SMPL-H: SMPL with fingers, whose poses may be given by principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .arguments import check_options
from .smpl import SMPL, Value
from .utils import SMPLHOutput, Struct

HAND_POSE = 45


class SMPLH(SMPL):
    """A body of 52 joints. Hand poses are `num_pca_comps` components each, or 45 numbers without `use_pca`."""

    NUM_BODY_JOINTS = SMPL.NUM_JOINTS - 2
    NUM_HAND_JOINTS = 15
    NUM_JOINTS = NUM_BODY_JOINTS + 2 * NUM_HAND_JOINTS

    _FAMILY = "smplh"
    _PARTS: tuple[tuple[str, int], ...] = (
        ("global_orient", 1),
        ("body_pose", 21),
        ("left_hand_pose", 15),
        ("right_hand_pose", 15),
    )

    left_hand_mean: Tensor  # [45]
    right_hand_mean: Tensor  # [45]
    pose_mean: Tensor  # [3 J], added to the vectors of a pose

    def __init__(
        self,
        model_path: str,
        kid_template_path: str = "",
        data_struct: Struct | None = None,
        create_left_hand_pose: bool = True,
        left_hand_pose: Value | None = None,
        create_right_hand_pose: bool = True,
        right_hand_pose: Value | None = None,
        use_pca: bool = True,
        num_pca_comps: int = 6,
        flat_hand_mean: bool = False,
        batch_size: int = 1,
        gender: str = "neutral",
        age: str = "adult",
        dtype: torch.dtype = torch.float32,
        vertex_ids: dict[str, int] | None = None,
        use_compressed: bool = True,
        ext: str = "pkl",
        **kwargs: Any,
    ) -> None:
        """As SMPL; `flat_hand_mean` makes zero the flat hand, instead of the mean of the file."""
        if data_struct is None:
            data_struct = self._read(model_path, gender, ext=ext)
        super().__init__(
            model_path=model_path,
            kid_template_path=kid_template_path,
            data_struct=data_struct,
            batch_size=batch_size,
            vertex_ids=vertex_ids,
            gender=gender,
            age=age,
            dtype=dtype,
            ext=ext,
            **kwargs,
        )
        self.use_pca = use_pca
        check_options(self.name(), dtype, num_pca_comps=num_pca_comps)
        self.num_pca_comps = num_pca_comps
        self.flat_hand_mean = flat_hand_mean
        for side in ("left", "right"):
            components = np.asarray(getattr(data_struct, f"hands_components{side[0]}", np.zeros((0, HAND_POSE))))
            if use_pca and len(components) < num_pca_comps:
                raise ValueError(
                    f"{self.name()}: num_pca_comps is {num_pca_comps}, and the file has {len(components)} hand "
                    f"components in hands_components{side[0]}; use_pca=False needs none"
                )
            setattr(self, f"np_{side}_hand_components", components[:num_pca_comps])
            if use_pca:
                self._store(f"{side}_hand_components", components[:num_pca_comps], rounded=False)
        for side in ("left", "right"):
            mean = np.asarray(getattr(data_struct, f"hands_mean{side[0]}", np.zeros(HAND_POSE)))
            self._store(f"{side}_hand_mean", np.zeros_like(mean) if flat_hand_mean else mean, rounded=False)
        size = num_pca_comps if use_pca else HAND_POSE
        self._create("left_hand_pose", create_left_hand_pose, left_hand_pose, size)
        self._create("right_hand_pose", create_right_hand_pose, right_hand_pose, size)
        self.register_buffer("pose_mean", self.create_mean_pose(data_struct, flat_hand_mean=flat_hand_mean).clone())
        if self._FAMILY == "smplh":
            self.prepare()

    def create_mean_pose(self, data_struct: Struct, flat_hand_mean: bool = False) -> Tensor:
        """[3 J]: the means of the hands, zero elsewhere."""
        before = 3 * sum(joints for _, joints in self._PARTS[:-2])
        return torch.cat([self.left_hand_mean.new_zeros(before), self.left_hand_mean, self.right_hand_mean])

    def name(self) -> str:
        """What the model is called."""
        return "SMPL+H"

    def extra_repr(self) -> str:
        """Gender, sizes, hands."""
        components = [f"Number of PCA components: {self.num_pca_comps}"] if self.use_pca else []
        return "\n".join([super().extra_repr(), *components, f"Flat hand mean: {self.flat_hand_mean}"])

    def forward(  # type: ignore[override]
        self,
        betas: Tensor | None = None,  # [B, num_betas]
        global_orient: Tensor | None = None,  # [B, 3]
        body_pose: Tensor | None = None,  # [B, 63]
        left_hand_pose: Tensor | None = None,  # [B, num_pca_comps] or [B, 45]
        right_hand_pose: Tensor | None = None,
        transl: Tensor | None = None,  # [B, 3]
        return_verts: bool = True,
        return_full_pose: bool = False,
        pose2rot: bool = True,
        *,
        vertex_offsets: Tensor | None = None,  # [B, V, 3]
        joint_offsets: Tensor | None = None,  # [B, J, 3]
        **kwargs: Any,
    ) -> SMPLHOutput:
        """Bodies in a pose; matrices [B, n, 3, 3] without `pose2rot`, and in a layer."""
        pose = {
            "global_orient": global_orient,
            "body_pose": body_pose,
            "left_hand_pose": left_hand_pose,
            "right_hand_pose": right_hand_pose,
        }
        output = SMPLHOutput()
        return self._fill(
            output, pose, betas, transl, return_verts, return_full_pose, pose2rot, vertex_offsets, joint_offsets
        )

    def _components(self, name: str) -> int | None:
        return self.num_pca_comps if self.use_pca and name.endswith("hand_pose") else None

    def _expanded(self, name: str, part: Tensor) -> Tensor:
        if not self.use_pca or not name.endswith("hand_pose"):
            return part
        return torch.einsum("bi,ij->bj", part, self._buffers[name.replace("_pose", "_components")])


class SMPLHLayer(SMPLH):
    """SMPL-H without parameters, posed by rotation matrices; components and mean of the hands are not used."""

    _takes_matrices = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = ["betas", "global_orient", "body_pose", "left_hand_pose", "right_hand_pose", "transl"]
        super().__init__(*args, **{**kwargs, **{f"create_{name}": False for name in names}})
