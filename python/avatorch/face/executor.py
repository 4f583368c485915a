"""Many tracks of speech at once: samples and emotions in, a face's geometry and weights out, as they become known.

    executor = Executor(read_bundle(path), tracks=2, weights=Part.SKIN_TONGUE)
    executor.audio[0].accumulate(samples)
    executor.emotions[0].accumulate(0, emotion)
    while executor.ready_tracks():
        for frames in executor.execute():
            frames.track, frames.timestamps, frames.weights

A track's result depends on nothing but its own samples, emotions and settings: not on the size of chunks, on other
tracks, or on what was computed before a reset. On the CPU that holds bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntFlag
from fractions import Fraction

import torch
from torch import Tensor

from avatorch.face.accumulators import AudioAccumulator, EmotionAccumulator
from avatorch.face.animators import EyesAnimator, JawAnimator, SkinAnimator, TongueAnimator
from avatorch.face.bundle import Bundle
from avatorch.face.engine.blendshapes import FeatureFace
from avatorch.face.engine.choice import AnyNetwork, choose_network, torch_inference
from avatorch.face.engine.session import TorchNetwork
from avatorch.face.errors import FaceError, check_track
from avatorch.face.inference import DiffusionInference, Inference, RegressionInference
from avatorch.face.modes import device_of, undisturbed
from avatorch.face.parameters import AnimatorParameters
from avatorch.face.products import row_products
from avatorch.face.progress import Clock
from avatorch.face.solver import BlendshapeSolver

MOST_TRACKS = 1 << 16
MOST_SEED = 1 << 62


class Part(IntFlag):
    """Parts of a face."""

    NONE = 0
    SKIN = 1
    TONGUE = 2
    SKIN_TONGUE = 3
    JAW = 4
    EYES = 8
    ALL = 15


@dataclass(frozen=True)
class Frames:
    """F frames of one track that follow one another. What was not asked for is None."""

    track: int
    first: int  # the number of the first frame
    timestamps: tuple[int, ...]  # [F + 1], samples; the last is that of the frame that follows
    skin: Tensor | None = None  # [F, V, 3]
    tongue: Tensor | None = None  # [F, T, 3]
    jaw: Tensor | None = None  # [F, 4, 4], acting on columns; the SDK's order of numbers is its transpose
    eyes: Tensor | None = None  # [F, 2, 3], degrees about x, y, z; right, left
    weights: Tensor | None = None  # [F, poses], skin, then tongue
    emotions: Tensor | None = None  # [F, emotions], what the network was told, on the CPU; always there

    def __len__(self) -> int:
        return len(self.timestamps) - 1

    def each(self) -> Iterator[Frames]:
        """Its frames one by one."""
        for index in range(len(self)):
            parts = {name: value[index : index + 1] for name, value in vars(self).items() if isinstance(value, Tensor)}
            yield replace(self, first=self.first + index, timestamps=self.timestamps[index : index + 2], **parts)  # type: ignore[arg-type]


class Executor:
    """The network of a bundle for one identity, its animators and solvers, on a number of tracks."""

    def __init__(
        self,
        bundle: Bundle,
        identity: str | int = 0,
        tracks: int = 1,
        device: torch.device | str = "cpu",
        *,
        geometry: Part = Part.NONE,
        weights: Part = Part.SKIN_TONGUE,
        frame_rate: Fraction | None = None,
        windows_per_execution: int = 1,
        input_strength: float | None = None,
        noise: Tensor | None = None,
        constant_noise: bool = True,
        seed: int = 0,
        method: str = "exact",
        tf32: bool = False,
        tensorrt: bool = False,
        engine: str = "auto",
        precision: str = "float32",
        network: AnyNetwork | None = None,
    ) -> None:
        """`geometry` and `weights` say what is computed. `windows_per_execution` windows of each track go together,
        which is faster where audio is there; those of a diffusion network only where torch computes it on a GPU.
        `noise` [steps + 1, frames, values] or a `seed` are for diffusion networks; unless `constant_noise` is off,
        every inference has the same.
        `engine` says what computes the network: "torch", with its `precision`, "onnx" for ONNX Runtime, or "auto":
        torch where it knows the network's structure; else `why` says what it stumbled over.
        A `network` that another executor of this bundle and device has open, its `network`, is not opened again.
        """
        if isinstance(tracks, bool) or not isinstance(tracks, int) or not 1 <= tracks <= MOST_TRACKS:
            raise FaceError("eInvalidValue", f"tracks is {tracks!r}, expected 1 to {MOST_TRACKS}")
        if windows_per_execution < 1:
            raise FaceError("eInvalidValue", f"windows_per_execution is {windows_per_execution}, expected at least 1")
        if not -MOST_SEED <= seed < MOST_SEED:
            raise FaceError("eInvalidValue", f"seed is {seed}, expected a number of 63 bits")
        if weights & ~Part.SKIN_TONGUE:
            raise FaceError("eUnsupported", f"weights is {weights!r}, expected SKIN, TONGUE or both")
        if not geometry | weights:
            raise FaceError("eInvalidValue", "neither geometry nor weights are asked for, expected some part")
        self.bundle = bundle
        self.identity = bundle.identity(identity)
        self.device = device_of(device)
        self.geometry, self.weights = geometry, weights
        self.clock = Clock.of(bundle.info, frame_rate)
        # As in the SDK, a diffusion bundle's own strength is not used.
        stored = self.identity.input_strength if bundle.info.kind == "regression" else 1.0
        self._input_strength = stored if input_strength is None else _strength(input_strength)
        self.network = network or self._choose_network(engine, precision, tf32, tensorrt)
        self.why = self.network.why
        by_torch = isinstance(self.network, TorchNetwork)
        self._by_features = by_torch and not geometry
        # Blocks of a diffusion network go together where ONNX Runtime does not need the state between them.
        several = bundle.info.kind == "regression" or (by_torch and self.device.type == "cuda")
        self._at_once = windows_per_execution if several else 1
        self.inference = self._make_inference(tracks, noise, constant_noise, seed)
        self.audio = [AudioAccumulator(self.device) for _ in range(tracks)]
        self.emotions = [EmotionAccumulator(len(bundle.info.emotions)) for _ in range(tracks)]
        self.inferences_made = [0] * tracks
        self._parameters = [self.identity.parameters] * tracks
        self._make_animators(tracks, method)

    @undisturbed
    def _choose_network(self, engine: str, precision: str, tf32: bool, tensorrt: bool) -> AnyNetwork:
        return choose_network(self.bundle, self.device, engine, precision, tf32=tf32, tensorrt=tensorrt)

    @undisturbed
    def _make_inference(self, tracks: int, noise: Tensor | None, constant_noise: bool, seed: int) -> Inference:
        bundle, identity, network = self.bundle, self.identity, self.network
        if isinstance(network, TorchNetwork):
            return torch_inference(
                network, bundle, identity, tracks, noise, constant_noise, seed, features=self._by_features
            )
        if bundle.info.kind == "regression":
            return RegressionInference(bundle, identity, self.device, network)
        return DiffusionInference(bundle, identity, tracks, self.device, network, noise, constant_noise, seed)

    @undisturbed
    def _make_animators(self, tracks: int, method: str) -> None:
        identity, device = self.identity, self.device
        seconds = 1 / self.clock.frame_rate
        self.skin_solver = BlendshapeSolver(identity.skin, tracks, device, method) if self.weights & Part.SKIN else None
        self.tongue_solver = (
            BlendshapeSolver(identity.tongue, tracks, device, method) if self.weights & Part.TONGUE else None
        )
        self.features = None
        if isinstance(self.network, TorchNetwork) and self._by_features:
            maps = self.network.feature_maps(identity, self.bundle.identities.index(identity))
            self.features = FeatureFace(maps, identity, tracks, float(seconds), self.skin_solver, self.tongue_solver)
            self.skin = self.tongue = self.jaw = self.eyes = None
            return
        # Where nobody asks for the skin itself, only what the solver looks at is animated.
        only = self.skin_solver.columns if self.skin_solver and not self.geometry & Part.SKIN else None
        self._skin_columns = only
        needed = self.geometry | self.weights
        self.skin = SkinAnimator(identity, tracks, float(seconds), device, only) if needed & Part.SKIN else None
        self.tongue = TongueAnimator(identity, tracks, device) if needed & Part.TONGUE else None
        self.jaw = JawAnimator(identity, tracks, device) if needed & Part.JAW else None
        self.eyes = EyesAnimator(identity, tracks, seconds, device) if needed & Part.EYES else None
        self._bases: list[Tensor | None] = []
        for basis, columns in ((identity.skin_basis, only), (identity.tongue_basis, None)):
            if basis is None:
                self._bases.append(None)
            else:
                flat = basis.flatten(1).to(device)
                self._bases.append(flat if columns is None else flat[:, columns].contiguous())

    # What there is to know.

    @property
    def tracks(self) -> int:
        """How many tracks there are."""
        return len(self.audio)

    @property
    def frame_rate(self) -> Fraction:
        """Frames a second."""
        return self.clock.frame_rate

    @property
    def weight_names(self) -> tuple[str, ...]:
        """Of the last axis of `Frames.weights`."""
        solvers = [solver for solver in (self.skin_solver, self.tongue_solver) if solver]
        return tuple(name for solver in solvers for name in solver.rig.names)

    @property
    def input_strength(self) -> float:
        """The factor of every sample."""
        return self._input_strength

    @input_strength.setter
    def input_strength(self, strength: float) -> None:
        if any(self.inferences_made):
            raise FaceError("eExecutionAlreadyStarted", "input_strength was set after the first inference")
        self._input_strength = _strength(strength)

    def has_started(self, track: int) -> bool:
        """Whether an inference was made since the last reset."""
        return self.inferences_made[track] != 0

    def available_executions(self, track: int) -> int:
        """Inferences that a track's samples allow, whatever its emotions."""
        audio = self.audio[track]
        return max(0, self.clock.available_inferences(audio.count, audio.is_closed) - self.inferences_made[track])

    def total_frames(self, track: int) -> int:
        """Frames of a track, once it is closed."""
        return self.clock.total_frames(self.audio[track].count)

    def timestamp(self, frame: int) -> int:
        """The sample that a frame describes."""
        return self.clock.timestamp(frame)

    def next_audio_sample(self, track: int) -> int:
        """Samples before this are not read again."""
        return max(0, self.clock.inferences.start(self.inferences_made[track]))

    def next_emotion_timestamp(self, track: int) -> int:
        """Emotions before this are not read again."""
        return self.clock.frames.target(self.inferences_made[track] * self.clock.frames_per_inference)

    def ready_tracks(self) -> int:
        """Tracks that the next `execute` moves on."""
        return sum(self._ready(track) > 0 for track in range(self.tracks))

    # What can be done.

    def parameters(self, track: int) -> AnimatorParameters:
        """The animators' settings of a track."""
        check_track(track, self.tracks)
        return self._parameters[track]

    @undisturbed
    def set_parameters(self, track: int, **settings: float) -> None:
        """Changes some of them, for the frames that follow."""
        check_track(track, self.tracks)
        self._parameters[track] = self._parameters[track].changed(**settings)
        for animator in (self.skin, self.tongue, self.jaw, self.eyes, self.features):
            if animator:
                animator.set_parameters(track, self._parameters[track])

    @undisturbed
    def reset(self, track: int) -> None:
        """A track begins again, with the samples and emotions that it has: `audio` and `emotions` forget."""
        check_track(track, self.tracks)
        self.inferences_made[track] = 0
        for part in (self.inference, self.skin, self.eyes, self.features, self.skin_solver, self.tongue_solver):
            if part:
                part.reset(track)

    @undisturbed
    def execute(self, callback: Callable[[Frames], bool | None] | None = None) -> list[Frames]:
        """One inference of every track that is ready, and the frames it gives: some tracks may have none.

        With a `callback` each frame is given to it on its own; where it returns False, the other frames of that track
        and call are left out.
        """
        counts = {track: count for track in range(self.tracks) if (count := self._ready(track))}
        if not counts:
            if any(self.available_executions(track) for track in range(self.tracks)):
                raise FaceError("eEmotionNotAvailable", "samples are there, emotions for them are not")
            raise FaceError("eNoTracksToExecute", "no track has the samples for an inference")
        results = self._animate_groups(counts, *self._infer(counts))
        if callback is not None:
            for frames in results:
                for frame in frames.each():
                    if callback(frame) is False:
                        break
        return results

    def run(self) -> Iterator[Frames]:
        """Executes while a track is ready."""
        while self.ready_tracks():
            yield from self.execute()

    def _ready(self, track: int) -> int:
        """How many inferences the next `execute` makes of a track: samples and emotions are there."""
        count = min(self.available_executions(track), self._at_once)
        made, emotions = self.inferences_made[track], self.emotions[track]
        while count and not emotions.can_read(self._last_target(made + count - 1)):
            count -= 1
        return count

    def _last_target(self, inference: int) -> int:
        """The last moment whose emotion an inference reads."""
        return self.clock.frames.target((inference + 1) * self.clock.frames_per_inference - 1)

    def _infer(self, counts: dict[int, int]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Rows [F, values] of each track, from the next inferences of it, and their emotions [F, emotions]."""
        clock, per = self.clock, self.clock.frames_per_inference
        tracks: list[int] = []
        numbers: list[int] = []
        windows, emotions = [], []
        for track, count in counts.items():
            made = range(self.inferences_made[track], self.inferences_made[track] + count)
            starts = [clock.inferences.start(number) for number in made]
            moments = clock.frames.targets(range(made.start * per, made.stop * per))
            windows.append(self.audio[track].read_each(starts, self.bundle.info.window, self._input_strength))
            emotions.append(self.emotions[track].read_each(moments))
            tracks += [track] * count
            numbers += made
        told = torch.cat(emotions).unflatten(0, (-1, per))  # [R, F, emotions]
        rows = self.inference.infer(tracks, torch.cat(windows), told, numbers)
        rows_of, told_of, at = {}, {}, 0
        for track, count in counts.items():
            rows_of[track], told_of[track] = (some[at : at + count].flatten(0, 1) for some in (rows, told))
            at += count
        return rows_of, told_of

    def _animate_groups(
        self, counts: dict[int, int], rows: dict[int, Tensor], emotions: dict[int, Tensor]
    ) -> list[Frames]:
        """Tracks of which equally many frames are given out go through the animators together."""
        groups: dict[tuple[int, int], list[int]] = {}
        for track, count in counts.items():
            first = self.inferences_made[track] * self.clock.frames_per_inference
            end = first + count * self.clock.frames_per_inference
            audio = self.audio[track]
            known = self.clock.frames.count_described(audio.count) if audio.is_closed else end
            begin = max(first, self.clock.first_frame)
            groups.setdefault((begin - first, max(0, min(end, known) - begin)), []).append(track)
        results = {}
        for (skipped, frames), tracks in groups.items():
            if frames:
                picked = torch.stack([rows[track][skipped : skipped + frames] for track in tracks])
                parts = self.animate(tracks, picked)
            for index, track in enumerate(tracks):
                first = self.inferences_made[track] * self.clock.frames_per_inference + skipped - self.clock.first_frame
                times = self.clock.timestamps(range(first, first + frames))
                own = {name: value[index] for name, value in parts.items()} if frames else {}
                own["emotions"] = emotions[track][skipped : skipped + frames]
                results[track] = Frames(track, first, times, **own)
        for track, count in counts.items():
            self.inferences_made[track] += count
        return [results[track] for track in counts if len(results[track])]

    @undisturbed
    def animate(self, tracks: Sequence[int], rows: Tensor, *, alone: bool = False) -> dict[str, Tensor]:
        """Rows of the network's result [R, F, values], or its features, to the parts asked for, by name.

        `alone`: each follows none.
        """
        if self.features:
            return {"weights": self.features.weights(tracks, rows, alone=alone)}
        info, parts = self.bundle.info, {}
        sizes = [info.skin_values, info.tongue_values, info.jaw_values, info.eye_values]
        skin, tongue, jaw, eyes = rows.split(sizes, -1)
        weights = []
        if self.skin:
            positions = self.skin.animate(tracks, self._deltas(skin, 0, self._skin_columns), smooth=not alone)
            if self.geometry & Part.SKIN:
                parts["skin"] = positions.unflatten(-1, (-1, 3))
            if self.skin_solver:
                targets = positions if self._skin_columns is not None else positions[..., self.skin_solver.columns]
                weights.append(self.skin_solver.solve(tracks, targets, remember=not alone))
        if self.tongue:
            positions = self.tongue.animate(tracks, self._deltas(tongue, 1, None))
            if self.geometry & Part.TONGUE:
                parts["tongue"] = positions.unflatten(-1, (-1, 3))
            if self.tongue_solver:
                targets = positions[..., self.tongue_solver.columns]
                weights.append(self.tongue_solver.solve(tracks, targets, remember=not alone))
        if self.jaw:
            parts["jaw"] = self.jaw.animate(tracks, jaw)
        if self.eyes:
            parts["eyes"] = self.eyes.animate(tracks, eyes)
        if weights:
            parts["weights"] = torch.cat(weights, -1)
        return parts

    def _deltas(self, values: Tensor, part: int, columns: Tensor | None) -> Tensor:
        """What the network says of a part, as moves of its vertices' coordinates."""
        basis = self._bases[part]
        if basis is not None:
            return row_products(values, basis)
        return values if columns is None else values[..., columns]


def _strength(factor: float) -> float:
    if not isinstance(factor, int | float) or not math.isfinite(factor):
        raise FaceError("eInvalidValue", f"input_strength is {factor!r}, expected a finite number")
    return float(factor)
