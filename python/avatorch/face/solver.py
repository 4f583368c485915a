"""Vertices to the weights of blend shapes.

With D the active deltas of the vertices that count and d the way from the rig's neutral to the target,

    A = D^T D + (L1^2 / 4 s) 1 1^T + (10 s L2 + 100 s T) I + (10 s Y) S^T S
    b = D^T d + s T x_before
    x = argmin |A x - b|^2, 0 <= x <= 1

where s is the square of the neutral's diagonal over the template's. The weights are x times the multipliers plus the
offsets. The 100 stands on the left alone, as in the SDK.

So x hardly depends on x_before: A x is the point of a convex set nearest to b, which moves no further than b does, and
no eigenvalue of A is below 100 s T. Where x_before is wrong by e, x is wrong by at most e / 100. A GPU need not wait
for a frame to begin the next: see `solve_at_once`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatorch.face.errors import FaceError, check_track
from avatorch.face.parameters import SolverParameters, SolverPoses
from avatorch.face.products import row_products, run_of
from avatorch.face.rig import Rig

_Group = tuple[list[int], Tensor | slice, Tensor | slice]  # numbers of tracks, their rows, and they as an index

METHODS = ("exact", "admm")
ADMM_STEPS = 4
SWEEPS = 4  # over all frames at once; each leaves at most a hundredth of the error before
MOST_RESIDENT = 512  # problems that a GPU works on at the same time, about
MOST_AT_ONCE = 2048  # problems, each of which may have its matrix


@dataclass(frozen=True, eq=False)
class _Unknowns:
    """What is solved for on some tracks."""

    active: Tensor  # [k] int64, places among the poses
    pairs: Tensor  # [pairs, 2] int64, cancel pairs, places among the active ones
    upper: Tensor  # [k] float64, bounds

    @staticmethod
    def of(poses: SolverPoses, device: torch.device) -> _Unknowns:
        active = torch.tensor(poses.active, device="cpu").nonzero().flatten().to(device)
        pairs = (
            torch.tensor(active_pairs(poses.cancel, poses.active), dtype=torch.int64, device="cpu")
            .reshape(-1, 2)
            .to(device)
        )
        return _Unknowns(active, pairs, torch.ones(len(active), dtype=torch.float64, device=device))

    def same(self, other: _Unknowns) -> bool:
        return torch.equal(self.active, other.active) and torch.equal(self.pairs, other.pairs)


class BlendshapeSolver:
    """Solves for one rig on many tracks; each has its parameters and poses, and remembers its last weights.

    `method="admm"` takes four steps of ADMM as the SDK does on a GPU, which does not arrive where bounds are strong.
    """

    def __init__(self, rig: Rig, tracks: int, device: torch.device | str = "cpu", method: str = "exact") -> None:
        if method not in METHODS:
            raise FaceError("eInvalidValue", f"method is {method!r}, expected one of {', '.join(METHODS)}")
        self.rig = rig
        self.method = method
        self.device = torch.device(device)
        vertices = torch.arange(len(rig.neutral), device="cpu") if rig.mask is None else rig.mask
        self.columns = (
            (3 * vertices[:, None] + torch.arange(3, device="cpu")).flatten().to(self.device)
        )  # [n], of a frame's values
        # Of all P poses, so that what one track leaves out does not change how another's products are rounded.
        deltas = rig.deltas.flatten(1).to(self.device)[:, self.columns]
        self._deltas = deltas.double().mT.contiguous()  # [n, P]
        self._gram = self._deltas.mT @ self._deltas
        self._neutral = rig.neutral.flatten().to(self.device)[self.columns]  # [n]
        extent = rig.neutral.double().amax(0) - rig.neutral.double().amin(0)
        self._diagonal = float(extent.norm())
        self._normal = self._gram.new_empty(tracks, self.num_poses, self.num_poses)
        self._temporal = self._gram.new_empty(tracks)
        self._previous = self._gram.new_zeros(tracks, self.num_poses)
        self._multipliers, self._offsets = torch.empty(
            2, tracks, 1, self.num_poses, dtype=torch.float32, device=self.device
        )
        self._parameters = [rig.parameters] * tracks
        self._poses = [rig.poses] * tracks
        self._unknowns = [_Unknowns.of(rig.poses, self.device)] * tracks
        self._alike = True  # whether all tracks have the same unknowns
        self._groups_of: dict[tuple[int, int], list[_Group]] = {}
        self._one_system: bool | None = True  # whether all tracks have the same matrix; None: not known
        self._normal[:], self._temporal[:] = self._system(rig.parameters, rig.poses)
        self._multipliers[:] = torch.tensor(rig.poses.multipliers, device="cpu")
        self._offsets[:] = torch.tensor(rig.poses.offsets, device="cpu")

    @property
    def num_poses(self) -> int:
        """Weights of a frame, those of inactive poses included."""
        return len(self.rig.names)

    def parameters(self, track: int) -> SolverParameters:
        """Of one track."""
        check_track(track, len(self._poses))
        return self._parameters[track]

    def set_parameters(self, track: int, parameters: SolverParameters) -> None:
        """For the frames that follow."""
        check_track(track, len(self._poses))
        self._parameters[track] = parameters
        self._one_system = None
        self._normal[track], self._temporal[track] = self._system(parameters, self._poses[track])

    def poses(self, track: int) -> SolverPoses:
        """Which poses are solved for on one track, and what becomes of their weights."""
        check_track(track, len(self._poses))
        return self._poses[track]

    def set_poses(self, track: int, **lists: Sequence[float] | Tensor) -> None:
        """Changes some of `active`, `cancel`, `symmetry`, `multipliers` and `offsets`, for the frames that follow.

        Poses that stay active keep their last weights.
        """
        check_track(track, len(self._poses))
        poses = self._poses[track] = self._poses[track].changed(**lists)
        self._multipliers[track] = torch.tensor(poses.multipliers, device="cpu")
        self._offsets[track] = torch.tensor(poses.offsets, device="cpu")
        if lists.keys() & {"active", "cancel", "symmetry"}:
            unknowns = _Unknowns.of(poses, self.device)
            # Tracks with the same unknowns are solved for together.
            self._unknowns[track] = next((known for known in self._unknowns if known.same(unknowns)), unknowns)
            self._alike = all(known is self._unknowns[0] for known in self._unknowns)
            self._groups_of.clear()
            self._one_system = None
            self._normal[track], self._temporal[track] = self._system(self._parameters[track], poses)
            self._previous[track, torch.tensor(poses.active, device=self.device).logical_not()] = 0

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
        return self.solve_products(
            tracks, row_products((targets - self._neutral).double(), self._deltas), remember=remember
        )

    def project(self, values: Tensor) -> Tensor:
        """D^T of what targets are made of, float64: [..., n] -> [..., P]"""
        return values.to(self.device, torch.float64) @ self._deltas

    def solve_products(self, tracks: Sequence[int] | slice, rhs: Tensor, *, remember: bool = True) -> Tensor:
        """`solve` for whoever knows D^T d already, rhs [R, F, P] float64. A slice of tracks is not looked up."""
        listed = range(len(self._parameters))[tracks] if isinstance(tracks, slice) else tracks
        which = tracks if isinstance(tracks, slice) else run_of(tracks, self.device)
        if self._alike:
            weights = self._solve(self._unknowns[0], listed, which, rhs, remember)
        else:
            weights = torch.zeros_like(rhs)
            for own, places, tracked in self._groups(tracks):
                weights[places] = self._solve(self._unknowns[own[0]], own, tracked, rhs[places], remember)
        return weights.float() * self._multipliers[which] + self._offsets[which]

    def _groups(self, tracks: Sequence[int] | slice) -> list[_Group]:
        """Tracks with the same unknowns: their numbers, and on the device their rows and numbers. Those of a slice are
        kept: a graph that is captured must not take them from elsewhere.
        """
        key = (tracks.start, tracks.stop) if isinstance(tracks, slice) else None
        if key is not None and key in self._groups_of:
            return self._groups_of[key]
        listed = range(len(self._parameters))[tracks] if isinstance(tracks, slice) else tracks
        rows_of: dict[int, list[int]] = {}
        for row, track in enumerate(listed):
            rows_of.setdefault(id(self._unknowns[track]), []).append(row)
        groups = []
        for rows in rows_of.values():
            own = [listed[row] for row in rows]
            groups.append((own, run_of(rows, self.device), run_of(own, self.device)))
        if key is not None:
            self._groups_of[key] = groups
        return groups

    def _solve(
        self, unknowns: _Unknowns, tracks: Sequence[int], which: Tensor | slice, rhs: Tensor, remember: bool
    ) -> Tensor:
        """Weights [R, F, P] float64 on tracks with the same unknowns; zero where a pose is inactive."""
        if remember:
            normal, temporal, previous = self._matrices(which), self._temporal[which], self._previous[which]
        else:
            alone = [self._system(self._parameters[track].without_time(), self._poses[track]) for track in tracks]
            normal = torch.stack([matrix for matrix, _ in alone])
            temporal, previous = self._temporal[which] * 0, self._previous[which] * 0
        active, weights = unknowns.active, torch.zeros_like(rhs)
        normal = normal[:, active[:, None], active]
        given = normal, rhs[..., active], previous[:, active], temporal, unknowns.upper, unknowns.pairs
        if self.method == "admm":
            weights[..., active] = admm(*given)
        elif rhs.device.type == "cuda" and _sooner_at_once(*rhs.shape[:2]):
            weights[..., active] = solve_at_once(*given, sweeps=SWEEPS if remember else 1)
        else:
            weights[..., active] = torch.ops.audio2face.solve(*given)
        if remember and rhs.shape[1]:
            self._previous[which] = weights[:, -1]
        return weights

    def _matrices(self, which: Tensor | slice) -> Tensor:
        """A of some tracks, or on a GPU one for all where there is only one."""
        if self.device.type == "cpu":
            return self._normal[which]
        if self._one_system is None:
            parameters, poses = self._parameters[0], self._poses[0]
            self._one_system = all(own == parameters for own in self._parameters) and all(
                (own.active, own.symmetry) == (poses.active, poses.symmetry) for own in self._poses
            )
        return self._normal[:1] if self._one_system else self._normal[which]

    def _system(self, parameters: SolverParameters, poses: SolverPoses) -> tuple[Tensor, float]:
        """A of all poses, of which those of inactive ones are not used, and the factor of the last weights in b."""
        scale = (self._diagonal / parameters.template_bb_size) ** 2
        shape, together = (self.num_poses, self.num_poses), parameters.l1_regularization**2 * 0.25 * scale
        regular = torch.full(shape, together, dtype=torch.float64, device="cpu")
        regular.diagonal().add_(parameters.l2_regularization * 10 * scale + parameters.temporal_smoothing * 100 * scale)
        mirror = torch.zeros_like(regular)
        places = [place for place, on in enumerate(poses.active) if on]
        for pair in active_pairs(poses.symmetry, poses.active):
            left, right = places[pair[0]], places[pair[1]]
            mirror[[left, right], [left, right]] += 1
            mirror[[left, right], [right, left]] -= 1
        regular += parameters.symmetry * 10 * scale * mirror
        return self._gram + regular.to(self.device), parameters.temporal_smoothing * scale


def _sooner_at_once(tracks: int, frames: int) -> bool:
    """Whether all frames at once, twice as much work for each sweep, are there before one after the other."""
    waves, waves_at_once = -(-tracks // MOST_RESIDENT), -(-tracks * frames // MOST_RESIDENT)
    return frames * waves > 2 * SWEEPS * waves_at_once


def solve_at_once(
    normal: Tensor, rhs: Tensor, previous: Tensor, temporal: Tensor, upper: Tensor, pairs: Tensor, sweeps: int = SWEEPS
) -> Tensor:
    """As audio2face::solve where `temporal` is at most a hundredth of what A stretches: each frame is a problem of its
    own, whose frame before is what the last sweep found. A search begins where it ended then.
    [R or 1, k, k], [R, F, k], [R, k], [R], [k], [pairs, 2]
    """
    count, frames, size = rhs.shape
    step = max(1, MOST_AT_ONCE // max(1, frames))
    if count > step:
        parts = []
        for at in range(0, count, step):
            some = slice(at, at + step)
            own = normal if len(normal) == 1 else normal[some]
            parts.append(solve_at_once(own, rhs[some], previous[some], temporal[some], upper, pairs, sweeps))
        return torch.cat(parts)
    if len(normal) > 1:
        normal = normal[:, None].expand(-1, frames, -1, -1).flatten(0, 1)
    weights = previous[:, None].expand(-1, frames, -1)
    apart = temporal.new_zeros(count * frames)
    for _ in range(min(sweeps, frames)):  # as many frames from the first on are what they would be one by one
        before = torch.cat([previous[:, None], weights[:, :-1]], 1)
        b = (rhs + temporal[:, None, None] * before).reshape(-1, 1, size)
        found = torch.ops.audio2face.solve(normal, b, weights.reshape(-1, size), apart, upper, pairs)
        weights = found.view(count, frames, size)
    return weights


def admm(normal: Tensor, rhs: Tensor, previous: Tensor, temporal: Tensor, upper: Tensor, pairs: Tensor) -> Tensor:
    """As audio2face::solve, by four steps of ADMM. [R or 1, k, k], [R, F, k], [R, k], [R], [k], [pairs, 2]"""
    squared = normal.mT @ normal
    penalty = 0.25 * squared.diagonal(dim1=1, dim2=2).sqrt()  # [R, k]
    inverse = torch.linalg.inv(normal)
    step = torch.linalg.inv(squared + torch.diag_embed(penalty.square()))
    frames = []
    for frame in rhs.unbind(1):
        b = frame + temporal[:, None] * previous
        bounds = upper.expand_as(b)
        previous = _admm(normal, inverse, step, penalty, b, bounds)
        if len(pairs):
            left, right = pairs.unbind(1)
            loser = torch.where(previous[:, left] >= previous[:, right], right, left)  # [R, pairs]
            previous = _admm(normal, inverse, step, penalty, b, bounds.scatter(1, loser, 1e-10))
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
