"""Vertices that are added to the joints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_FACE = ["nose", "reye", "leye", "rear", "lear"]
_FEET = ["LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel"]
_HANDS = [side + tip for side in "lr" for tip in ("thumb", "index", "middle", "ring", "pinky")]


class VertexJointSelector(nn.Module):
    """Appends the vertices of face, feet and finger tips to the joints."""

    extra_joints_idxs: Tensor  # [K] int64

    def __init__(
        self,
        vertex_ids: Mapping[str, int] | None = None,
        use_hands: bool = True,
        use_feet_keypoints: bool = True,
        **kwargs: Any,
    ) -> None:
        """`vertex_ids` says which vertex each name is."""
        super().__init__()
        if vertex_ids is None:
            raise TypeError("VertexJointSelector: vertex_ids is missing, expected a dict from names to vertices")
        names = [*_FACE, *(_FEET if use_feet_keypoints else []), *(_HANDS if use_hands else [])]
        missing = [name for name in names if name not in vertex_ids]
        if missing:
            raise KeyError(f"VertexJointSelector: vertex_ids has no {', '.join(missing)}")
        self._choose([vertex_ids[name] for name in names])

    @classmethod
    def of(cls, vertices: list[int]) -> VertexJointSelector:
        """One for any list of vertices."""
        selector = cls.__new__(cls)
        nn.Module.__init__(selector)
        selector._choose(vertices)
        return selector

    def _choose(self, vertices: list[int]) -> None:
        self.register_buffer("extra_joints_idxs", torch.tensor(vertices, dtype=torch.int64))

    def forward(self, vertices: Tensor, joints: Tensor) -> Tensor:
        """vertices [B, V, 3], joints [B, J, 3] -> [B, J + K, 3]"""
        return torch.cat([joints, vertices.index_select(1, self.extra_joints_idxs)], dim=1)
