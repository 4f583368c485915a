"""Speech to the weights of a face: whole clips, many at a time, or a stream."""

from __future__ import annotations

import math
import numbers
import os
import threading
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from avatorch.face.accumulators import check_samples
from avatorch.face.bundle import Bundle, read_bundle
from avatorch.face.engine.choice import AnyNetwork
from avatorch.face.errors import FaceError
from avatorch.face.executor import Executor, Frames, Part
from avatorch.face.modes import device_of, tensor_of
from avatorch.face.resample import Resampler, resample
from avatorch.face.weights import FaceWeights

# One emotion for all of a clip, [emotions] or by name; or emotions at seconds, between which it moves.
Emotion = Tensor | Mapping[str, float]
Emotions = Emotion | Sequence[tuple[float, Emotion]] | None
WINDOWS_AT_ONCE = 32  # of a clip that is all there


class Audio2Face:
    """A bundle as a function of speech.

        face = Audio2Face("audio2face-3d-v3.0", identity="Claire")
        weights, names, fps, _ = face(samples, sample_rate=48_000, emotion={"joy": 0.7})

    `settings` are those of the animators, such as `blink_strength=0.5`; `options` those of Executor, such as
    `engine="torch"` and `precision="float16"`.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        identity: str | int = 0,
        device: torch.device | str = "cpu",
        *,
        frame_rate: Fraction | int | None = None,
        settings: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self.identity = self.bundle.identity(identity).name
        self.device = device_of(device)
        self.settings = dict(settings or {})
        try:
            self._options = {"frame_rate": None if frame_rate is None else Fraction(frame_rate), **options}
        except (ValueError, TypeError, OverflowError):
            raise FaceError("eInvalidValue", f"frame_rate is {frame_rate!r}, expected a positive number") from None
        self._network: AnyNetwork | None = None
        self._executor: Executor | None = None
        self._lock = threading.Lock()

    def __call__(
        self,
        audio: Tensor | Sequence[Tensor],
        sample_rate: int | None = None,
        emotion: Emotions = None,
        progress: Any = None,
    ) -> FaceWeights:
        """One clip [samples], clips [clips, samples], or clips of any lengths in a list; mono, floats in [-1, 1].

        Without a `sample_rate` the audio has the network's. `progress(done, total)` is called with frames as they come.
        """
        single = not isinstance(audio, list | tuple) and tensor_of(audio).ndim < 2
        clips = [tensor_of(clip) for clip in ([audio] if single else audio)]
        for clip in clips:
            if clip.ndim != 1 or not clip.is_floating_point():
                raise FaceError(
                    "eInvalidValue", f"audio has a clip of {clip.dtype} {list(clip.shape)}, expected floats [samples]"
                )
        rate = self.bundle.info.sample_rate
        given_rate = rate if sample_rate is None else sample_rate
        keys = self.emotion_keys(emotion)
        executor = self._take_executor(max(1, len(clips)))
        for track, clip in enumerate(clips):
            samples = resample(clip, given_rate, rate)
            if len(samples):
                executor.audio[track].accumulate(samples)
            executor.audio[track].close()
            for moment, value in keys:
                executor.emotions[track].accumulate(moment, value)
            executor.emotions[track].close()
        counts = tuple(executor.total_frames(track) for track in range(len(clips)))
        names = executor.weight_names
        weights = torch.zeros(len(clips), max(counts, default=0), len(names), dtype=torch.float32, device=self.device)
        done = 0
        for frames in executor.run():
            assert frames.weights is not None
            weights[frames.track, frames.first : frames.first + len(frames)] = frames.weights
            done += len(frames)
            if progress is not None:
                progress(done, sum(counts))
        self._executor = executor
        return FaceWeights(weights[0] if single else weights, names, float(executor.frame_rate), counts)

    @property
    def why(self) -> str:
        """Why ONNX Runtime computes the network and not torch; empty where torch does."""
        return (self._network or self.executor(1).network).why

    def stream(self, sample_rate: int | None = None, emotion: Emotions = None) -> FaceStream:
        """Speech as it comes."""
        return FaceStream(self, self.bundle.info.sample_rate if sample_rate is None else sample_rate, emotion)

    def executor(self, tracks: int, **options: Any) -> Executor:
        """An executor of this identity with these settings, for whoever wants tracks, geometry or callbacks."""
        given = {"weights": Part.SKIN_TONGUE, "network": self._network, **self._options, **options}
        executor = Executor(self.bundle, self.identity, tracks, self.device, **given)
        self._network = executor.network
        for track in range(tracks):
            executor.set_parameters(track, **self.settings)
        return executor

    def emotion_keys(self, emotion: Emotions) -> list[tuple[int, Tensor]]:
        """The emotions of a whole clip, each with the sample from which it is."""
        if emotion is None:
            emotion = self.bundle.info.default_emotion
        if isinstance(emotion, Tensor | Mapping):
            return [(0, self.emotion(emotion))]
        expected = "expected a vector, names with strengths, or a list of (seconds, emotion)"
        if isinstance(emotion, str) or not isinstance(emotion, Sequence) or not len(emotion):
            raise FaceError("eInvalidValue", f"emotion is {emotion!r}, {expected}")
        keys = []
        for key in emotion:
            pair: tuple[Any, ...] = tuple(key) if isinstance(key, Sequence) and not isinstance(key, str) else ()
            if len(pair) != 2 or not isinstance(pair[0], int | float) or not math.isfinite(pair[0]):
                raise FaceError("eInvalidValue", f"emotion has the key {key!r}, {expected}")
            keys.append((round(pair[0] * self.bundle.info.sample_rate), self.emotion(pair[1])))
        return keys

    def emotion(self, values: Emotion) -> Tensor:
        """Of names and strengths: [emotions]"""
        names = self.bundle.info.emotions
        if isinstance(values, Tensor):
            return values
        if not isinstance(values, Mapping):
            raise FaceError("eInvalidValue", f"emotion is {values!r}, expected a vector or names with strengths")
        vector = torch.zeros(len(names), dtype=torch.float32, device="cpu")
        for name, strength in values.items():
            if name not in names:
                raise FaceError("eInvalidValue", f"there is no emotion {name!r}, expected one of {', '.join(names)}")
            if isinstance(strength, bool) or not isinstance(strength, numbers.Real):
                raise FaceError("eInvalidValue", f"emotion {name} is {strength!r}, expected a number")
            vector[names.index(name)] = float(strength)
        return vector

    def _take_executor(self, tracks: int) -> Executor:
        """The one that the last call left, since its tables take time to make; other threads make their own."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is None or executor.tracks != tracks:
            return self.executor(tracks, **{"windows_per_execution": WINDOWS_AT_ONCE, **self._options})
        for track in range(tracks):
            executor.reset(track)
            executor.audio[track].reset()
            executor.emotions[track].reset()
        return executor


class FaceStream:
    """Chunks of samples in, weights out as soon as they are known; the same numbers as for the whole clip."""

    def __init__(self, face: Audio2Face, sample_rate: int, emotion: Emotions) -> None:
        self.executor = face.executor(1)
        self.names = self.executor.weight_names
        self.fps = float(self.executor.frame_rate)
        for moment, value in face.emotion_keys(emotion):
            self.executor.emotions[0].accumulate(moment, value)
        self.executor.emotions[0].close()
        rate = face.bundle.info.sample_rate
        self._resampler = None if sample_rate == rate else Resampler(sample_rate, rate)

    def push(self, samples: Tensor) -> Tensor:
        """The weights that more samples [n] complete: [frames, poses], often none."""
        samples = tensor_of(samples)
        check_samples(samples)
        if self.executor.audio[0].is_closed:
            raise FaceError("eInvalidValue", "samples were pushed into a stream that is closed")
        samples = samples.float() if self._resampler is None else self._resampler.push(samples.cpu())
        if len(samples):
            self.executor.audio[0].accumulate(samples)
        return self._ready()

    def close(self) -> Tensor:
        """The rest: no samples follow."""
        audio = self.executor.audio[0]
        if self._resampler is not None and len(rest := self._resampler.flush()):
            audio.accumulate(rest)
        audio.close()
        return self._ready()

    def _ready(self) -> Tensor:
        parts = [_weights(frames) for frames in self.executor.run()]
        self.executor.audio[0].drop_before(self.executor.next_audio_sample(0))
        return torch.cat([torch.empty(0, len(self.names), dtype=torch.float32, device=self.executor.device), *parts])


def _weights(frames: Frames) -> Tensor:
    assert frames.weights is not None
    return frames.weights
