"""Points in pictures: pinhole cameras with distortion, and the term of 2D keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.fit.robust import Kernel
from avatorch.fit.targets import Points, PointTerm, check_frames, corners_of, numbers_of_joints, on_surface
from avatorch.fit.terms import Columns, known, of_rows
from avatorch.fit.unknowns import CAMERA

if TYPE_CHECKING:
    from avatorch.fit.problem import Problem, State

NEAREST = 0.01  # metres before a camera; what is behind is treated as if it were there


@dataclass
class Camera:
    """C views in OpenCV's convention: x to the right, y down, z forward; a point p of the world is at R p + t."""

    focal: Tensor
    """[C, 2], pixels"""
    centre: Tensor
    """[C, 2], pixels"""
    rotation: Tensor
    """R [C, 3, 3]"""
    translation: Tensor
    """t [C, 3], metres"""
    distortion: Tensor | None = None
    """[C, 5]: k1, k2, p1, p2, k3"""

    def __post_init__(self) -> None:
        views = len(self.focal)
        for name, shape in (
            ("focal", (views, 2)), ("centre", (views, 2)), ("rotation", (views, 3, 3)), ("translation", (views, 3)),
            ("distortion", (views, 5)),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"Camera: {name} has shape {list(value.shape)}, expected {list(shape)}")
            if value is not None and not bool(value.isfinite().all()):
                raise ValueError(f"Camera: {name} holds numbers that are not finite")
        if not bool((self.focal != 0).all()):
            raise ValueError("Camera: focal is 0 in a view, expected pixels")

    @classmethod
    def looking_at(cls, eyes: Tensor, target: Tensor, focal: float, size: tuple[int, int]) -> Camera:
        """Views from `eyes` [C, 3] at a point [3], y up, for pictures of `size` (width, height)."""
        forward = torch.nn.functional.normalize(target - eyes, dim=-1)
        up = torch.tensor([0.0, 1.0, 0.0]).to(eyes).expand_as(forward)
        right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
        views = len(eyes)
        centre = torch.tensor([size[0] / 2, size[1] / 2]).to(eyes).expand(views, 2)
        translation = -(rotation @ eyes[..., None])[..., 0]
        return cls(torch.full((views, 2), focal).to(eyes), centre, rotation, translation)

    def to(self, like: Tensor) -> Camera:
        """On this tensor's device, in its dtype."""
        parts = (self.focal, self.centre, self.rotation, self.translation, self.distortion)
        return Camera(*(None if part is None else part.to(like) for part in parts))  # type: ignore[arg-type]

    def project(self, points: Tensor, change: Tensor | None = None) -> Tensor:
        """[B, N, 3] -> pixels [B, C, N, 2]. `change` [B, 7 C] is what the unknown `camera` adds to each view."""
        rotation, translation, focal = self.rotation[None], self.translation[None], self.focal[None]
        if change is not None:
            turn, shift, zoom = change.unflatten(-1, (-1, CAMERA)).split((3, 3, 1), -1)
            rotation = torch.ops.smplx.rodrigues(turn) @ rotation
            translation, focal = translation + shift, focal * zoom.exp()
        local = points[:, None] @ rotation.mT + translation[:, :, None]  # [B, C, N, 3]
        x, y = (local[..., :2] / local[..., 2:].clamp_min(NEAREST)).unbind(-1)
        if self.distortion is not None:
            k1, k2, p1, p2, k3 = self.distortion[:, :, None].unbind(1)  # [C, 1] each
            r2 = x * x + y * y
            radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
            x, y = (
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            )
        return torch.stack([x, y], -1) * focal[:, :, None] + self.centre[:, None]


class Keypoints(PointTerm):
    """2D keypoints of joints, or of landmarks, in C views. target [B, C, N, 2] in pixels, confidence [B, C, N].

    Points are `joints` by name or number, or `triangles` [N] with `barycentric` [N, 3]; by default all joints.
    """

    def __init__(
        self,
        target: Tensor,
        camera: Camera,
        joints: Sequence[str | int] | Tensor | None = None,
        *,
        triangles: Tensor | None = None,
        barycentric: Tensor | None = None,
        sigma: float = 3.0,
        confidence: Tensor | None = None,
        robust: Kernel | str | None = "huber",
        name: str | None = None,
    ) -> None:
        self.views, self.camera, target = len(camera.focal), camera, torch.as_tensor(target)
        if target.ndim != 4 or target.shape[1] != self.views or target.shape[3] != 2:
            raise ValueError(f"Keypoints: target has shape {list(target.shape)}, expected [B, {self.views}, N, 2]")
        if confidence is not None:
            confidence = torch.as_tensor(confidence)
            if confidence.shape[1:] != target.shape[1:3]:
                raise ValueError(
                    f"Keypoints: confidence has shape {list(confidence.shape)}, expected {list(target.shape[:3])}"
                )
            confidence = confidence.flatten(1)
        self.count = target.shape[2]
        self.target, confidence = known(target.flatten(1, 2), confidence, "Keypoints")  # [B, C N, 2]
        super().__init__(sigma, confidence, robust, name)
        self.chosen, self.triangles, self.barycentric = joints, triangles, barycentric
        if triangles is not None:
            self.triangles, self.barycentric = on_surface(triangles, barycentric, self.count, "Keypoints")

    def vertices(self, body: Body) -> Tensor | None:
        if self.triangles is None:
            return super().vertices(body)
        return corners_of(body, self.triangles, "Keypoints").flatten()

    def bind(self, problem: Problem) -> None:
        super().bind(problem)
        like = problem.whole.v_template
        self.target, self.camera = self.target.to(like), self.camera.to(like)
        if self.triangles is None:
            self.points = Points(numbers_of_joints(problem.whole, self.chosen, self.count, "Keypoints"))
        else:
            assert self.barycentric is not None
            corners = problem.place[problem.whole.faces[self.triangles.to(like.device)].long()]
            self.points = Points(corners=corners[None], shares=self.barycentric.to(like)[None])
        check_frames(self, self.target, problem)

    def image(self, points: Tensor, state: State) -> Tensor:
        return self._offsets(points, state.values.get("camera"), state)

    def _offsets(self, points: Tensor, change: Tensor | None, state: State) -> Tensor:
        return self.camera.project(points, change).flatten(1, 2) - of_rows(self.target, state)

    def rows_of(self, points: Tensor, moves: Tensor, state: State, columns: Columns) -> Tensor:
        change = state.values.get("camera")
        along = []
        for axis in torch.eye(3, dtype=points.dtype, device=points.device):
            project = lambda moved: self._offsets(moved, change, state)
            along.append(torch.func.jvp(project, (points,), (axis.expand_as(points),))[1])
        image = torch.stack(along, -1)  # [B, C N, 2, 3]
        rows = image @ moves.repeat(1, self.views, 1, 1)
        if change is None or not len(columns.camera):
            return torch.nn.functional.pad(rows, (0, len(columns.camera)))
        of_camera = []
        for direction in torch.eye(change.shape[1], dtype=change.dtype, device=change.device)[columns.camera]:
            project = lambda moved: self._offsets(points, moved, state)
            of_camera.append(torch.func.jvp(project, (change,), (direction.expand_as(change),))[1])
        return torch.cat([rows, torch.stack(of_camera, -1)], -1)
