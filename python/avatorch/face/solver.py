"""Vertices to the weights of blend shapes.

With D the active deltas of the vertices that count and d the way from the rig's neutral to the target,

    A = D^T D + (L1^2 / 4 s) 1 1^T + (10 s L2 + 100 s T) I + (10 s Y) S^T S
    b = D^T d + s T x_before
    x = argmin |A x - b|^2, 0 <= x <= 1

where s is the square of the neutral's diagonal over the template's. The weights are x times the multipliers plus the
offsets. The 100 stands on the left alone, as in the SDK.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avatorch.face.errors import FaceError
from avatorch.face.parameters import SolverParameters
from avatorch.face.products import row_products
from avatorch.face.rig import Rig

METHODS = ("exact", "admm")
ADMM_STEPS = 4


class BlendshapeSolver:
    """Solves for one rig on many tracks; each has its parameters and remembers its last weights.

    `method="admm"` takes four steps of ADMM as the SDK does on a GPU, which does not arrive where bounds are strong.
    """

    def __init__(self, rig: Rig, tracks: int, device: torch.device | str = "cpu", method: str = "exact") -> None:
        if method not in METHODS:
            raise FaceError("eInvalidValue", f"method is {method!r}, expected one of {', '.join(METHODS)}")
        self.rig = rig
        self.method = method
        self.device = torch.device(device)
        vertices = torch.arange(len(rig.neutral)) if rig.mask is None else rig.mask
        self.columns = (3 * vertices[:, None] + torch.arange(3)).flatten().to(self.device)  # [n], of a frame's values
        self._active = torch.tensor(rig.active).nonzero().flatten().to(self.device)
        deltas = rig.deltas.flatten(1).to(self.device)[self._active][:, self.columns]
        self._deltas = deltas.double().mT.contiguous()  # [n, k]
        self._neutral = rig.neutral.flatten().to(self.device)[self.columns]  # [n]
        self._multipliers, self._offsets = (values.to(self.device) for values in (rig.multipliers, rig.offsets))
        self._pairs = (
            torch.tensor(active_pairs(rig.cancel, rig.active), dtype=torch.int64).reshape(-1, 2).to(self.device)
        )
        self._upper = torch.ones(len(self._active), dtype=torch.float64, device=self.device)
        self._parameters = [rig.parameters] * tracks
        size = len(self._active)
        self._normal = torch.empty(tracks, size, size, dtype=torch.float64, device=self.device)
        self._temporal = torch.empty(tracks, dtype=torch.float64, device=self.device)
        self._gram = self._deltas.mT @ self._deltas
        extent = rig.neutral.double().amax(0) - rig.neutral.double().amin(0)
        self._diagonal = float(extent.norm())
        self._previous = torch.zeros(tracks, size, dtype=torch.float64, device=self.device)  # [tracks, k]
        for track in range(tracks):
            self.set_parameters(track, rig.parameters)

    @property
    def num_poses(self) -> int:
        """Weights of a frame, those of inactive poses included."""
        return len(self.rig.names)

    def parameters(self, track: int) -> SolverParameters:
        """Of one track."""
        return self._parameters[track]

    def set_parameters(self, track: int, parameters: SolverParameters) -> None:
        """For the frames that follow."""
        self._parameters[track] = parameters
        self._normal[track], self._temporal[track] = self._system(parameters)

    def set_multipliers(self, multipliers: Tensor, offsets: Tensor) -> None:
        """For every track, [poses] each."""
        for name, values in (("multipliers", multipliers), ("offsets", offsets)):
            if values.shape != (self.num_poses,):
                raise FaceError("eMismatch", f"{name} has shape {list(values.shape)}, expected [{self.num_poses}]")
        self._multipliers, self._offsets = (values.to(self.device, torch.float32) for values in (multipliers, offsets))

    def reset(self, track: int) -> None:
        """Forgets the last weights of a track."""
        self._previous[track] = 0

    def state(self) -> Tensor:
        """The last weights of every track, [tracks, k]."""
        return self._previous

    def solve(self, tracks: Sequence[int], targets: Tensor, *, remember: bool = True) -> Tensor:
        """Weights of frames that follow one another on each track, float32.

        targets [R, F, n], the values `columns` of the vertices of R tracks -> [R, F, poses]. Without `remember` every
        frame is solved on its own: the temporal term is left out, and nothing is remembered.
        """
        if targets.shape[-1] != len(self._neutral):
            raise FaceError("eMismatch", f"targets has {targets.shape[-1]} values, expected {len(self._neutral)}")
        rhs = row_products((targets - self._neutral).double(), self._deltas)  # [R, F, k]
        return self.solve_products(tracks, rhs, remember=remember)

    def project(self, values: Tensor) -> Tensor:
        """D^T of what targets are made of, float64: [..., n] -> [..., k]"""
        return values.to(self.device, torch.float64) @ self._deltas

    def solve_products(self, tracks: Sequence[int] | slice, rhs: Tensor, *, remember: bool = True) -> Tensor:
        """`solve` for whoever knows D^T d already, rhs [R, F, k] float64. A slice of the tracks is not looked up."""
        which = tracks if isinstance(tracks, slice) else torch.as_tensor(list(tracks), device=self.device)
        if remember:
            normal, temporal, previous = self._normal[which], self._temporal[which], self._previous[which]
        else:
            numbers = range(len(self._parameters))[tracks] if isinstance(tracks, slice) else tracks
            alone = [self._system(self._parameters[track].without_time()) for track in numbers]
            normal = torch.stack([matrix for matrix, _ in alone])
            temporal, previous = self._temporal[which] * 0, self._previous[which] * 0
        solve = self._solve_admm if self.method == "admm" else self._solve_exact
        weights = solve(normal, rhs, previous, temporal)
        if remember and rhs.shape[1]:
            self._previous[which] = weights[:, -1]
        full = torch.zeros(*weights.shape[:2], self.num_poses, device=self.device)
        full[..., self._active] = weights.float()
        return full * self._multipliers + self._offsets

    def _system(self, parameters: SolverParameters) -> tuple[Tensor, float]:
        """A, and the factor of the last weights in b."""
        scale = (self._diagonal / parameters.template_bb_size) ** 2
        size = len(self._active)
        mirror = torch.zeros(0, size, dtype=torch.float64)
        rows = []
        for left, right in active_pairs(self.rig.symmetry, self.rig.active):
            row = torch.zeros(size, dtype=torch.float64)
            row[left], row[right] = 1.0, -1.0
            rows.append(row)
        mirror = torch.stack(rows) if rows else mirror
        regular = parameters.l1_regularization**2 * 0.25 * scale * torch.ones(size, size, dtype=torch.float64)
        damping = parameters.l2_regularization * 10 * scale + parameters.temporal_smoothing * 100 * scale
        regular += damping * torch.eye(size, dtype=torch.float64)
        regular += parameters.symmetry * 10 * scale * (mirror.mT @ mirror)
        return self._gram + regular.to(self.device), parameters.temporal_smoothing * scale

    def _solve_exact(self, normal: Tensor, rhs: Tensor, previous: Tensor, temporal: Tensor) -> Tensor:
        result: Tensor = torch.ops.audio2face.solve(normal, rhs, previous, temporal, self._upper, self._pairs)
        return result

    def _solve_admm(self, normal: Tensor, rhs: Tensor, previous: Tensor, temporal: Tensor) -> Tensor:
        """[R, k, k], [R, F, k], [R, k], [R] -> [R, F, k]"""
        squared = normal.mT @ normal
        penalty = 0.25 * squared.diagonal(dim1=1, dim2=2).sqrt()  # [R, k]
        inverse = torch.linalg.inv(normal)
        step = torch.linalg.inv(squared + torch.diag_embed(penalty.square()))
        frames = []
        for frame in rhs.unbind(1):
            b = frame + temporal[:, None] * previous
            upper = self._upper.expand_as(b)
            previous = _admm(normal, inverse, step, penalty, b, upper)
            if len(self._pairs):
                left, right = self._pairs.unbind(1)
                loser = torch.where(previous[:, left] >= previous[:, right], right, left)  # [R, pairs]
                previous = _admm(normal, inverse, step, penalty, b, upper.scatter(1, loser, 1e-10))
            frames.append(previous)
        return torch.stack(frames, 1) if frames else rhs


def _admm(normal: Tensor, inverse: Tensor, step: Tensor, penalty: Tensor, b: Tensor, upper: Tensor) -> Tensor:
    """Four steps from the bounded solution without bounds. [R, k]"""
    target = _times(normal.mT, b)
    nearest = _times(inverse, b).clamp(min=0).minimum(upper)
    dual = torch.zeros_like(b)
    for _ in range(ADMM_STEPS):
        free = _times(step, penalty.square() * (nearest - dual) + target)
        nearest = (dual + free).clamp(min=0).minimum(upper)
        dual = dual + 1.9 * (free - nearest)
    return nearest


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def active_pairs(groups: Sequence[int], active: Sequence[bool]) -> list[tuple[int, int]]:
    """Pairs of active poses with equal numbers, as places among the active ones.

    As in the SDK -1 is a number like others: two active poses that both have it are a pair. A number that more or fewer
    than two poses have makes none.
    """
    members: dict[int, list[int]] = {}
    for place, group in enumerate(group for group, on in zip(groups, active, strict=True) if on):
        members.setdefault(group, []).append(place)
    return [(places[0], places[1]) for places in members.values() if len(places) == 2]
