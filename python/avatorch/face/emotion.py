"""Audio2Emotion: speech to emotions over time, for tracks whose speaker's feelings nobody wrote down.

NVIDIA's licence allows these models with Audio2Face only.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatorch.face.accumulators import AudioAccumulator, EmotionAccumulator
from avatorch.face.bundle import find_network, inside
from avatorch.face.errors import FaceError
from avatorch.face.modes import device_of
from avatorch.face.network import Network
from avatorch.face.progress import Windows
from avatorch.face.record import Record

FRAME_RATE = 30
MOST_BUFFER = 1 << 24  # samples
BUFFER_LENGTH = 60_000  # samples
MOST_CLASSES = 1024


@dataclass(frozen=True)
class EmotionSettings:
    """How classes become emotions: the `post_processing_config`."""

    output_emotion_length: int
    emotion_contrast: float
    max_emotions: int
    live_blend_coef: float
    enable_preferred_emotion: bool
    preferred_emotion_strength: float
    transition_smoothing: float  # seconds
    fixed_dt: float  # seconds
    emotion_strength: float
    preferred_emotion: tuple[float, ...]  # [emotions]
    correspondence: tuple[int, ...]  # [classes], the emotion that a class is, -1 none

    @staticmethod
    def read(config: Record, classes: list[str]) -> EmotionSettings:
        """From a model_config.json."""
        size = config.integer("output_emotion_length", 1, 65536)
        preferred = config.content.get("enable_preferred_emotion")
        if not isinstance(preferred, bool):
            raise config.wrong("enable_preferred_emotion", f"is {preferred!r:.50}", "true or false")
        table = config.record("emotion_correspondence")
        return EmotionSettings(
            size,
            config.number("emotion_contrast", -1e6, 1e6),
            config.integer("max_emotions", 0, MOST_CLASSES),
            config.number("live_blend_coef", 0, 1),
            preferred,
            config.number("preferred_emotion_strength", 0, 1),
            config.number("transition_smoothing", 0, 1e6),
            config.number("fixed_dt", 0, 1e6),
            config.number("emotion_strength", -1e6, 1e6),
            tuple(config.numbers("preferred_emotion", size)),
            tuple(table.integer(name, -1, size - 1) for name in classes),
        )


CHANGEABLE = [field.name for field in dataclasses.fields(EmotionSettings) if field.name != "correspondence"]


class EmotionPostProcess:
    """Logits of classes, frame after frame, to emotions that change slowly."""

    def __init__(self, settings: EmotionSettings) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """The next frame is the first."""
        self._first = True
        self._blended = torch.zeros(self.settings.output_emotion_length, dtype=torch.float32, device="cpu")
        self._last = torch.zeros(self.settings.output_emotion_length, dtype=torch.float32, device="cpu")

    def step(self, logits: Tensor) -> Tensor:
        """[classes] -> [emotions]"""
        s = self.settings
        likely = torch.softmax(s.emotion_contrast * logits.cpu().float(), 0)
        mapped = torch.tensor(s.correspondence, device="cpu") >= 0
        likely = torch.where(mapped, likely, 0.0)
        kept = likely.argsort(descending=True, stable=True)[: s.max_emotions]
        emotion = self._last.clone()  # emotions that no class is keep what they were
        for index in range(len(likely)):
            if mapped[index]:
                emotion[s.correspondence[index]] = likely[index] if index in kept.tolist() else 0.0
        emotion = (1 - s.live_blend_coef) * emotion + s.live_blend_coef * self._blended
        self._blended = emotion
        if s.enable_preferred_emotion:
            strength = s.preferred_emotion_strength
            emotion = (1 - strength) * emotion + strength * torch.tensor(
                s.preferred_emotion, dtype=torch.float32, device="cpu"
            )
        if not self._first:
            part = min(s.fixed_dt / max(s.transition_smoothing, 1e-3), 1.0)
            emotion = part * emotion + (1 - part) * self._last
        self._first, self._last = False, emotion
        return s.emotion_strength * emotion


class Audio2Emotion:
    """One track's emotions, 30 a second, from windows of samples around each moment.

    The network is asked every `inferences_to_skip` + 1 frames; between, its last answer is used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: torch.device | str = "cpu",
        *,
        buffer_length: int = BUFFER_LENGTH,
        inferences_to_skip: int = 0,
        input_strength: float = 1.0,
        **changes: Any,
    ) -> None:
        """`changes` are settings of the post-processing, such as `emotion_strength=1.0`."""
        model_file = Path(path) / "model.json" if Path(path).is_dir() else Path(path)
        model, folder = Record.read(model_file), model_file.parent
        info = Record.read(inside(folder, model, "networkInfoPath"))
        self.classes = info.texts("emotions")
        if not 1 <= len(self.classes) <= MOST_CLASSES:
            raise info.wrong("emotions", f"has {len(self.classes)} names", f"1 to {MOST_CLASSES}")
        self.sample_rate = info.record("audio_params").integer("samplerate", FRAME_RATE, 1_000_000)
        config = Record.read(inside(folder, model, "modelConfigPath")).record("post_processing_config")
        for name in changes:
            if name not in CHANGEABLE:
                known = ", ".join(CHANGEABLE)
                raise FaceError("eInvalidValue", f"there is no setting {name!r}, expected one of {known}")
        settings = EmotionSettings.read(config, self.classes)
        if changes:
            settings = EmotionSettings.read(Record("Audio2Emotion", {**config.content, **changes}), self.classes)
        self.post_process = EmotionPostProcess(settings)
        if not 1 <= buffer_length <= MOST_BUFFER:
            raise FaceError("eInvalidValue", f"buffer_length is {buffer_length}, expected 1 to {MOST_BUFFER}")
        stride = Fraction(self.sample_rate, FRAME_RATE)
        if inferences_to_skip < 0 or stride * (inferences_to_skip + 1) > buffer_length:
            raise FaceError(
                "eInvalidValue", f"inferences_to_skip is {inferences_to_skip}, expected windows that overlap"
            )
        self.windows = Windows(buffer_length, -(buffer_length // 2), buffer_length // 2, stride)
        self._skip, self._strength = inferences_to_skip, input_strength
        network, outputs = find_network(folder, model), {"output": (None, len(self.classes))}
        self._network = Network(network, {"input_values": (None, None)}, outputs, device_of(device))
        self.reset()

    def reset(self) -> None:
        """The next frame is the first."""
        self._made = 0
        self._logits = torch.zeros(len(self.classes), dtype=torch.float32, device="cpu")
        self.post_process.reset()

    def run(self, audio: AudioAccumulator, emotions: EmotionAccumulator) -> int:
        """Gives what the samples allow to `emotions`, and closes them behind a track that is closed; frames made."""
        closed = audio.is_closed  # Another thread may close it meanwhile: then the rest is for the next call.
        described = self.windows.count_described if closed else self.windows.count_complete
        begin, end = self._made, described(audio.count)
        for frame in range(begin, end):
            if frame % (self._skip + 1) == 0:
                window = audio.read(self.windows.start(frame), self.windows.size, self._strength)
                shape = {"output": (1, len(self.classes))}
                self._logits = self._network.run({"input_values": window[None]}, shape)["output"][0].cpu()
                if not self._logits.isfinite().all():
                    raise FaceError("eNotANumber", "the emotion network gave values that are not finite")
            emotions.accumulate(self.windows.target(frame), self.post_process.step(self._logits))
            self._made = frame + 1
        if closed and not emotions.is_closed and not emotions.is_empty:
            emotions.close()
        return self._made - begin
