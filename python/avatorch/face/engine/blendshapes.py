"""Features of frames straight to the weights of blend shapes, without any geometry.

Geometry is a linear map B y + c of a frame's features y. The animator's offsets, its smoothing over time and its mask
of the upper and the lower face are linear too, and so is D^T d, all that the solver wants to know of geometry. With m
the mask, G = D^T diag(m) B and H = D^T diag(1 - m) B are k x features, and

    D^T d = D^T (neutral - rig's neutral) + lower strength smooth(G y + ...) + upper strength smooth(H y + ...)

where smooth is applied to k numbers. The matrices are made and used in float64: D^T d is large, and the solver looks at
differences within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatorch.face.bundle import Identity
from avatorch.face.engine.captured import Branch
from avatorch.face.parameters import AnimatorParameters
from avatorch.face.products import row_products, run_of
from avatorch.face.smoothing import smooth_at_once, smooth_by_frame
from avatorch.face.solver import BlendshapeSolver

Tracks = Sequence[int] | slice


@dataclass
class FeatureMap:
    """What the network says of a part, as a linear map of some of its features."""

    begin: int  # of the features
    end: int
    matrix: Tensor  # [features, values]
    bias: Tensor  # [values]


@dataclass
class _Projected:
    """D^T of the lower face, then of the upper, for one mask."""

    matrix: Tensor  # [features, 2 k]
    bias: Tensor  # [2, k]
    eye_close: Tensor  # [2, k]
    lip_open: Tensor  # [2, k]


class SkinFeatures:
    """SkinAnimator and the solver's D^T, in one, with the same settings by track."""

    def __init__(
        self, part: FeatureMap, identity: Identity, tracks: int, seconds: float, solver: BlendshapeSolver
    ) -> None:
        self._part, self._solver, self._seconds = part, solver, seconds
        device = solver.device
        height = identity.neutral_skin[:, 1].to(device)
        low, high = height.min(), height.max()
        level = (height - low) / (high - low) if high > low else torch.zeros_like(height)
        self._columns = solver.columns.to(device)
        self._height = level[:, None].expand(-1, 3).reshape(-1)[self._columns].double()
        self._identity = identity
        picked = [
            values.reshape(-1).to(device)[self._columns] for values in (identity.neutral_skin, solver.rig.neutral)
        ]
        self._base = solver.project(picked[0].double() - picked[1].double())  # [k]
        size = len(self._base)
        self._masks: dict[tuple[float, float], _Projected] = {}
        self._mask_of: list[tuple[float, float]] = [(0.0, 0.0)] * tracks
        self._groups_of: dict[tuple[int, int] | None, list[tuple[tuple[float, float], Tensor | slice]]] = {}
        self._first = torch.ones(tracks, 1, 1, dtype=torch.bool, device=device)
        self._once = torch.zeros(tracks, 2, size, dtype=torch.float64, device=device)  # filtered once
        self._twice = torch.zeros_like(self._once)
        # skin strength, lids, lips; then for each half strength and alpha
        self._settings = torch.zeros(tracks, 3, dtype=torch.float64, device=device)
        self._halves = torch.zeros(tracks, 2, 2, 1, dtype=torch.float64, device=device)
        for track in range(tracks):
            self.set_parameters(track, identity.parameters)

    def set_parameters(self, track: int, parameters: AnimatorParameters) -> None:
        """For the frames that follow."""
        p = parameters
        mask = (p.face_mask_level, p.face_mask_softness)
        if mask != self._mask_of[track]:
            self._mask_of[track] = mask
            self._groups_of.clear()
        self._mask(mask)
        lids = -p.eyelid_open_offset + p.blink_offset * p.blink_strength
        self._settings[track] = torch.tensor([p.skin_strength, lids, p.lip_open_offset], dtype=torch.float64)
        # The smoothing is a half-life in seconds; 1 passes everything.
        alphas = [
            1.0 - 0.5 ** (self._seconds / smoothing) if smoothing > 0 else 1.0
            for smoothing in (p.lower_face_smoothing, p.upper_face_smoothing)
        ]
        halves = [[p.lower_face_strength, p.upper_face_strength], alphas]
        self._halves[track] = torch.tensor(halves, dtype=torch.float64)[..., None]

    def reset(self, track: int) -> None:
        """The next frame of a track is its first, and is not smoothed."""
        self._first[track] = True

    def states(self) -> list[Tensor]:
        """What is remembered from frame to frame."""
        return [self._once, self._twice, self._first]

    def products(self, tracks: Tracks, features: Tensor, *, smooth: bool = True) -> Tensor:
        """features [R, F, all] -> D^T d [R, F, k]; without `smooth` each frame alone, and nothing is remembered."""
        which = tracks if isinstance(tracks, slice) else run_of(tracks, self._base.device)
        wanted = self._wanted(tracks, which, features[..., self._part.begin : self._part.end].double())
        strengths, alpha = self._halves[which].unbind(1)  # [R, 2, 1] each
        if smooth:
            wanted = self._smooth(which, wanted, alpha)
        return self._base + (wanted * strengths[:, None]).sum(2)

    def _wanted(self, tracks: Tracks, which: Tensor | slice, features: Tensor) -> Tensor:
        """Before smoothing, [R, F, 2, k]."""
        settings = self._settings[which][:, None, :, None, None]  # [R, 1, 3, 1, 1]
        strength, lids, lips = settings.unbind(2)
        groups = self._groups(tracks)
        if len(groups) == 1:
            mask = self._mask(groups[0][0])
            moved = row_products(features, mask.matrix).unflatten(-1, (2, -1)) + mask.bias
            return moved * strength + (lids * mask.eye_close + lips * mask.lip_open)
        wanted = features.new_empty(*features.shape[:2], 2, len(self._base))
        for key, some in groups:
            mask = self._mask(key)
            moved = row_products(features[some], mask.matrix).unflatten(-1, (2, -1)) + mask.bias
            wanted[some] = moved * strength[some] + (lids[some] * mask.eye_close + lips[some] * mask.lip_open)
        return wanted

    def _groups(self, tracks: Tracks) -> list[tuple[tuple[float, float], Tensor | slice]]:
        """Rows of tracks with the same mask, on the device: those of a slice are kept: a graph that is captured must
        not take them from elsewhere.
        """
        key = (tracks.start, tracks.stop) if isinstance(tracks, slice) else None
        if key in self._groups_of:
            return self._groups_of[key]
        rows: dict[tuple[float, float], list[int]] = {}
        for row, track in enumerate(range(len(self._mask_of))[tracks] if isinstance(tracks, slice) else tracks):
            rows.setdefault(self._mask_of[track], []).append(row)
        groups = [(mask, run_of(some, self._base.device)) for mask, some in rows.items()]
        if key is not None:
            self._groups_of[key] = groups
        return groups

    def _smooth(self, which: Tensor | slice, wanted: Tensor, alpha: Tensor) -> Tensor:
        """Two filters, one behind the other, along frames."""
        if not wanted.shape[1]:
            return wanted
        first = self._first[which]
        once = torch.where(first, wanted[:, 0], self._once[which])
        twice = torch.where(first, wanted[:, 0], self._twice[which])
        smooth = smooth_by_frame if wanted.device.type == "cpu" else smooth_at_once
        smoothed, self._once[which], self._twice[which] = smooth(wanted, once, twice, alpha)
        self._first[which] = False
        return smoothed

    def _mask(self, key: tuple[float, float]) -> _Projected:
        """Made when a track first has it."""
        if key not in self._masks:
            level, softness = key
            lower = torch.sigmoid((level - self._height) / softness)  # about 1 on the lower face
            part, identity, columns = self._part, self._identity, self._columns

            def halves(values: Tensor) -> Tensor:
                picked = values.to(columns.device)[..., columns].double()
                return torch.stack(
                    [self._solver.project(picked * lower), self._solver.project(picked * (1 - lower))], -2
                )

            self._masks[key] = _Projected(
                halves(part.matrix).flatten(1), halves(part.bias),
                halves(identity.eye_close.reshape(-1)), halves(identity.lip_open.reshape(-1)),
            )  # fmt: skip
        return self._masks[key]


class TongueFeatures:
    """TongueAnimator and the solver's D^T, in one."""

    def __init__(self, part: FeatureMap, identity: Identity, tracks: int, solver: BlendshapeSolver) -> None:
        self._part = part
        device = solver.device
        columns = solver.columns
        picked = [
            values.reshape(-1).to(device)[columns].double() for values in (identity.neutral_tongue, solver.rig.neutral)
        ]
        self._base = solver.project(picked[0] - picked[1])  # [k]
        self._matrix = solver.project(part.matrix.to(device)[:, columns])  # [features, k]
        self._bias = solver.project(part.bias.to(device)[columns])
        axes = torch.eye(3, dtype=torch.float64, device=device)[1:].repeat(1, len(identity.neutral_tongue))
        self._axes = solver.project(axes[:, columns])  # up and forward, [2, k]
        self._settings = torch.zeros(tracks, 3, dtype=torch.float64, device=device)
        for track in range(tracks):
            self.set_parameters(track, identity.parameters)

    def set_parameters(self, track: int, parameters: AnimatorParameters) -> None:
        """For the frames that follow."""
        p = parameters
        values = [p.tongue_strength, p.tongue_height_offset, p.tongue_depth_offset]
        self._settings[track] = torch.tensor(values, dtype=torch.float64)

    def products(self, tracks: Tracks, features: Tensor) -> Tensor:
        """features [R, F, all] -> D^T d [R, F, k]"""
        which = tracks if isinstance(tracks, slice) else run_of(tracks, self._base.device)
        settings = self._settings[which]
        moved = row_products(features[..., self._part.begin : self._part.end].double(), self._matrix) + self._bias
        return self._base + settings[:, :1, None] * moved + (settings[:, 1:] @ self._axes)[:, None]


class FeatureFace:
    """Features to weights on many tracks, where nobody asks for geometry."""

    def __init__(
        self,
        maps: Sequence[FeatureMap],
        identity: Identity,
        tracks: int,
        seconds: float,
        skin: BlendshapeSolver | None,
        tongue: BlendshapeSolver | None,
    ) -> None:
        self._skin_solver, self._tongue_solver = skin, tongue
        self._skin = SkinFeatures(maps[0], identity, tracks, seconds, skin) if skin else None
        self._tongue = TongueFeatures(maps[1], identity, tracks, tongue) if tongue else None

    def set_parameters(self, track: int, parameters: AnimatorParameters) -> None:
        """For the frames that follow."""
        for part in (self._skin, self._tongue):
            if part:
                part.set_parameters(track, parameters)

    def reset(self, track: int) -> None:
        """The next frame of a track is its first. Solvers forget on their own."""
        if self._skin:
            self._skin.reset(track)

    def states(self) -> list[Tensor]:
        """What is remembered from frame to frame, solvers aside."""
        return self._skin.states() if self._skin else []

    def weights(self, tracks: Tracks, features: Tensor, *, alone: bool = False) -> Tensor:
        """features [R, F, all] of frames that follow one another on each track -> [R, F, poses]"""
        return self.solve(tracks, self.products(tracks, features, alone=alone), alone=alone)

    def products(self, tracks: Tracks, features: Tensor, *, alone: bool = False) -> Tensor:
        """What `solve` wants to know of features: D^T d of each part, [R, F, poses] float64."""
        parts = []
        if self._skin:
            parts.append(self._skin.products(tracks, features, smooth=not alone))
        if self._tongue:
            parts.append(self._tongue.products(tracks, features))
        return torch.cat(parts, -1)

    def solve(self, tracks: Tracks, products: Tensor, *, alone: bool = False) -> Tensor:
        """To weights, [R, F, poses]; parts beside each other."""
        solvers = [solver for solver in (self._skin_solver, self._tongue_solver) if solver]
        first, *others = products.split([solver.num_poses for solver in solvers], -1)
        branch = Branch(products.device)
        with branch:
            beside = [
                solver.solve_products(tracks, part, remember=not alone)
                for solver, part in zip(solvers[1:], others, strict=True)
            ]
        weights = solvers[0].solve_products(tracks, first, remember=not alone)
        branch.join()
        return torch.cat([weights, *beside], -1)
