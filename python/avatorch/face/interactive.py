"""A face of a clip that is all there, for editing: any frame at once, or all of them, again after every change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from avatorch.face.bundle import Bundle
from avatorch.face.errors import FaceError
from avatorch.face.executor import Executor, Frames
from avatorch.face.inference import DiffusionInference
from avatorch.face.modes import undisturbed
from avatorch.face.parameters import SolverParameters
from avatorch.face.solver import BlendshapeSolver


class Layer(IntEnum):
    """What is computed from what; the numbers are the SDK's."""

    NONE = 0
    ALL = 1
    INFERENCE = 2
    SKIN = 3
    TONGUE = 4
    TEETH = 5
    EYES = 6
    SKIN_SOLVER_PREPARE = 101
    TONGUE_SOLVER_PREPARE = 102
    BLENDSHAPE_WEIGHTS = 103


# What becomes invalid with a layer.
FOLLOWS = {
    Layer.INFERENCE: {Layer.SKIN, Layer.TONGUE, Layer.TEETH, Layer.EYES, Layer.BLENDSHAPE_WEIGHTS},
    Layer.SKIN: {Layer.BLENDSHAPE_WEIGHTS},
    Layer.TONGUE: {Layer.BLENDSHAPE_WEIGHTS},
    Layer.SKIN_SOLVER_PREPARE: {Layer.BLENDSHAPE_WEIGHTS},
    Layer.TONGUE_SOLVER_PREPARE: {Layer.BLENDSHAPE_WEIGHTS},
}
LAYERS = set(Layer) - {Layer.NONE, Layer.ALL}
# The layer that a setting belongs to, by how its name begins.
OF_SETTING = {"tongue": Layer.TONGUE, "lower_teeth": Layer.TEETH, "eyeballs": Layer.EYES, "saccade": Layer.EYES,
              "right_eye": Layer.EYES, "left_eye": Layer.EYES, "eye_saccade": Layer.EYES}  # fmt: skip


class InteractiveExecutor:
    """One track, whose samples and emotions are all given and closed before anything is computed.

    `options` are those of Executor. What the network says is kept: of a regression network all of it, of a diffusion
    network its state before each inference, from which a frame is computed again. To preview a frame no more than
    `preview_inferences` are made before its own, if that is not 0.
    """

    def __init__(
        self,
        bundle: Bundle,
        identity: str | int = 0,
        device: torch.device | str = "cpu",
        *,
        preview_inferences: int = 0,
        **options: Any,
    ) -> None:
        self._executor = Executor(bundle, identity, 1, device, **options)
        self._preview = preview_inferences
        self.audio, self.emotions = self._executor.audio[0], self._executor.emotions[0]
        self._rows: dict[int, Tensor] = {}  # regression: of each inference
        self._states: dict[int, Tensor] = {}  # diffusion: before each inference
        self._valid: set[Layer] = set()
        self._computation = 0  # the number of the last that began, or was interrupted
        self._changes = 0

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._executor.device

    @property
    def total_frames(self) -> int:
        """Of the clip."""
        return self._executor.total_frames(0)

    def timestamp(self, frame: int) -> int:
        """The sample that a frame describes."""
        return self._executor.timestamp(frame)

    def invalidate(self, layer: Layer) -> None:
        """What a layer gave is computed again, and what follows from it. Needed after samples or emotions changed."""
        self._changes += 1
        if layer in (Layer.ALL, Layer.INFERENCE):
            self._rows.clear()
            self._states.clear()
        self._valid -= LAYERS if layer == Layer.ALL else {layer} | FOLLOWS.get(layer, set())

    def is_valid(self, layer: Layer) -> bool:
        """Whether all frames were computed since the layer became invalid."""
        if layer == Layer.NONE:
            return True
        return self._valid >= LAYERS if layer == Layer.ALL else layer in self._valid

    def set_parameters(self, **settings: float) -> None:
        """Changes settings of the animators."""
        self._executor.set_parameters(0, **settings)
        for name in settings:
            layers = [layer for begin, layer in OF_SETTING.items() if name.startswith(begin)]
            self.invalidate(layers[0] if layers else Layer.SKIN)

    def set_solver_parameters(self, part: str, parameters: SolverParameters) -> None:
        """Changes those of the solver of the "skin" or the "tongue"."""
        self._solver(part).set_parameters(0, parameters)
        self.invalidate(Layer.SKIN_SOLVER_PREPARE if part == "skin" else Layer.TONGUE_SOLVER_PREPARE)

    def set_solver_poses(self, part: str, **lists: Sequence[float] | Tensor) -> None:
        """Changes the poses of the solver of the "skin" or the "tongue", as BlendshapeSolver.set_poses does."""
        self._solver(part).set_poses(0, **lists)
        if lists.keys() <= {"multipliers", "offsets"}:
            self.invalidate(Layer.BLENDSHAPE_WEIGHTS)
        else:
            self.invalidate(Layer.SKIN_SOLVER_PREPARE if part == "skin" else Layer.TONGUE_SOLVER_PREPARE)

    def interrupt(self) -> None:
        """Ends `compute_all_frames`, from any thread, with the error eInterrupted."""
        self._computation += 1

    def compute_frame(self, frame: int) -> Frames:
        """One frame, as if none came before it: without smoothing, and without the solver's memory."""
        self._check_closed()
        if isinstance(frame, bool) or not isinstance(frame, int) or not 0 <= frame < self.total_frames:
            raise FaceError("eOutOfBounds", f"frame is {frame!r}, expected 0 to {self.total_frames - 1}")
        face, clock = self._executor, self._executor.clock
        number, place = divmod(frame + clock.first_frame, clock.frames_per_inference)
        rows = self._infer(number, preview=True)[place : place + 1]
        moment = face.eyes.live_time(0) if face.eyes else Fraction(0)
        if face.eyes:
            face.eyes.set_live_time(0, frame / clock.frame_rate)
        parts = face.animate([0], rows[None], alone=True)
        if face.eyes:  # All frames may be under way.
            face.eyes.set_live_time(0, moment)
        return self._frames(frame, 1, parts)

    def compute_all_frames(self) -> Iterator[Frames]:
        """Every frame, in order, as the ordinary executor gives them. A second computation ends the first.

        What is changed meanwhile holds for the frames that follow, and leaves its layer invalid.
        """
        self._check_closed()
        self._computation += 1
        computation, changes = self._computation, self._changes
        face, clock = self._executor, self._executor.clock
        for part in (face.skin, face.eyes, face.skin_solver, face.tongue_solver):
            if part:
                part.reset(0)
        total, per = self.total_frames, clock.frames_per_inference
        for number in range(clock.available_inferences(self.audio.count, True)):
            if self._computation != computation:
                raise FaceError("eInterrupted", "computing all frames was interrupted")
            first = number * per - clock.first_frame
            begin, end = max(first, 0), min(first + per, total)
            rows = self._infer(number)
            if begin < end:
                parts = face.animate([0], rows[None, begin - first : end - first])
                yield self._frames(begin, end - begin, parts)
        if self._changes == changes:
            self._valid = set(LAYERS)

    def _solver(self, part: str) -> BlendshapeSolver:
        solver = {"skin": self._executor.skin_solver, "tongue": self._executor.tongue_solver}.get(part)
        if solver is None:
            raise FaceError("eInvalidValue", f"there is no solver of {part!r}")
        return solver

    def _check_closed(self) -> None:
        if not self.audio.is_closed or not self.emotions.is_closed:
            raise FaceError("eInvalidValue", "samples and emotions must be closed before frames are computed")
        if self.audio.dropped_samples or self.emotions.has_dropped:
            raise FaceError("eInvalidValue", "samples or emotions were dropped, expected all of them")

    @undisturbed
    def _infer(self, number: int, preview: bool = False) -> Tensor:
        """Rows of an inference, [frames, values]."""
        inference = self._executor.inference
        if not isinstance(inference, DiffusionInference):
            if number not in self._rows:
                self._rows[number] = self._run(number)
            return self._rows[number]
        start = max((known for known in self._states if known <= number), default=0)
        if preview and self._preview and number - start > self._preview:
            # From silence so few inferences before: not the true state, so it is not kept.
            inference.reset(0)
            for before in range(number - self._preview, number):
                self._run(before)
            return self._run(number)
        if start in self._states:
            inference.latents.copy_(self._states[start])
        else:
            inference.reset(0)
        rows = torch.empty(0, device="cpu")
        for at in range(start, number + 1):
            self._states[at] = inference.latents.clone()
            rows = self._run(at)
        return rows

    def _run(self, number: int) -> Tensor:
        face = self._executor
        start, per = face.clock.inferences.start(number), face.clock.frames_per_inference
        window = self.audio.read(start, face.bundle.info.window, face.input_strength)
        emotions = self._emotions_of(range(number * per, number * per + per))
        return face.inference.infer([0], window[None], emotions[None], [number])[0]

    def _emotions_of(self, numbers: range) -> Tensor:
        """Of frames counted from the first that is computed, which may be before the samples. [F, emotions]"""
        return self.emotions.read_each(self._executor.clock.frames.targets(numbers))

    def _frames(self, first: int, count: int, parts: dict[str, Tensor]) -> Frames:
        clock = self._executor.clock
        times, begin = clock.timestamps(range(first, first + count)), first + clock.first_frame
        emotions = self._emotions_of(range(begin, begin + count))
        return Frames(0, first, times, emotions=emotions, **{name: value[0] for name, value in parts.items()})
