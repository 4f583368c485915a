"""The joints that lie on the surface: selected vertices, landmarks of the face, and its contour."""

from typing import NamedTuple

import torch
from torch import Tensor

from .lbs import contour


class Surface(NamedTuple):
    """Where the points are."""

    vertices: Tensor  # [K], selected vertices
    faces: Tensor  # [F, 3]
    lmk_faces_idx: Tensor | None = None  # [L]
    lmk_bary_coords: Tensor | None = None  # [L, 3]
    dynamic_lmk_faces_idx: Tensor | None = None  # [79, D]
    dynamic_lmk_bary_coords: Tensor | None = None  # [79, D, 3]
    neck_kin_chain: Tensor | None = None  # [N], from the neck to the root

    def points(self, mesh: Tensor, rot_mats: Tensor) -> list[Tensor]:
        """mesh [B, V, 3], rot_mats [B, J, 3, 3] -> selected vertices, landmarks, contour, where there are any"""
        found = []
        if len(self.vertices):
            found.append(mesh.index_select(1, self.vertices))
        if self.lmk_faces_idx is None or self.lmk_bary_coords is None:
            return found
        faces_idx, bary_coords = self.lmk_faces_idx, self.lmk_bary_coords.to(mesh.dtype)
        if (
            self.dynamic_lmk_faces_idx is not None
            and self.dynamic_lmk_bary_coords is not None
            and self.neck_kin_chain is not None
        ):
            turns = rot_mats.index_select(1, self.neck_kin_chain)
            dynamic_idx, dynamic_bary = contour(turns, self.dynamic_lmk_faces_idx, self.dynamic_lmk_bary_coords)
            batch = mesh.shape[0]
            faces_idx = torch.cat([faces_idx.expand(batch, -1), dynamic_idx], 1)
            bary_coords = torch.cat([bary_coords.expand(batch, -1, -1), dynamic_bary.to(mesh.dtype)], 1)
        return [*found, torch.ops.smplx.landmarks(mesh, self.faces, faces_idx, bary_coords)]

    def on_needed_vertices(self) -> "tuple[Tensor, Surface]":
        """The vertices [N] that the points depend on, and the same surface over these alone."""
        tables = [table for table in (self.lmk_faces_idx, self.dynamic_lmk_faces_idx) if table is not None]
        corners = torch.cat([self.faces[table.flatten()] for table in tables]) if tables else self.faces[:0]  # [F', 3]
        needed = torch.unique(torch.cat([self.vertices, corners.flatten()]))
        places = torch.arange(len(corners), device=corners.device)  # of each table's faces among the corners
        fixed = 0 if self.lmk_faces_idx is None else self.lmk_faces_idx.numel()
        return needed, self._replace(
            vertices=torch.searchsorted(needed, self.vertices),
            faces=torch.searchsorted(needed, corners),
            lmk_faces_idx=None if self.lmk_faces_idx is None else places[:fixed],
            dynamic_lmk_faces_idx=None
            if self.dynamic_lmk_faces_idx is None
            else places[fixed:].reshape(self.dynamic_lmk_faces_idx.shape),
        )
