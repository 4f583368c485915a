"""What a track has been given so far: samples, and emotions at moments."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from avatorch.face.errors import FaceError
from avatorch.face.modes import undisturbed

SAMPLES_OF_BUFFER = 16_000
EMOTIONS_OF_BUFFER = 300


def check_samples(samples: Tensor) -> None:
    """Finite floats [n]: what is not would stay in a track's state for good."""
    if samples.ndim != 1 or not samples.is_floating_point():
        raise FaceError(
            "eInvalidValue", f"samples is {samples.dtype} of shape {list(samples.shape)}, expected floats [n]"
        )
    if not samples.isfinite().all():
        raise FaceError("eNotANumber", "samples hold values that are not finite, expected floats in [-1, 1]")


class AudioAccumulator:
    """Samples of one track, mono, added in chunks of any size. Threads may add and read at once."""

    def __init__(self, device: torch.device | str = "cpu", buffer_size: int = SAMPLES_OF_BUFFER) -> None:
        self.device = torch.device(device)
        self._size = buffer_size
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """As if nothing had been added."""
        with self._lock:
            self._buffers: list[Tensor] = []
            self._dropped_buffers = 0
            self._count = 0
            self._closed = False

    @undisturbed
    def accumulate(self, samples: Tensor) -> None:
        """Appends at least one sample, [n], floats in [-1, 1]."""
        check_samples(samples)
        if not len(samples):
            raise FaceError("eInvalidValue", "samples is empty, expected at least one")
        samples = samples.detach().to(self.device, torch.float32)
        with self._lock:
            if self._closed:
                raise FaceError("eInvalidValue", "samples were added to a track that is closed")
            while len(samples):
                used = self._count % self._size
                if used == 0:
                    self._buffers.append(torch.empty(self._size, dtype=torch.float32, device=self.device))
                part = samples[: self._size - used]
                self._buffers[-1][used : used + len(part)] = part
                self._count += len(part)
                samples = samples[len(part) :]

    def close(self) -> None:
        """No samples follow: what is read behind them is silence."""
        with self._lock:
            if self._closed:
                raise FaceError("eInvalidValue", "a track was closed twice")
            self._closed = True

    def read(self, start: int, length: int, strength: float = 1.0) -> Tensor:
        """Samples from `start`, which may be negative, times `strength`: silence before the first and, once closed,
        behind the last. [length]
        """
        with self._lock:
            end = start + length
            if end > self._count and not self._closed:
                raise FaceError(
                    "eOutOfBounds", f"samples to {end} were read, expected at most the {self._count} there are"
                )
            if max(start, 0) < min(self.dropped_samples, self._count) and end > 0:
                raise FaceError("eOutOfBounds", f"sample {max(start, 0)} was read, {self.dropped_samples} were dropped")
            window = torch.zeros(length, dtype=torch.float32, device=self.device)
            at, last = max(start, 0), min(end, self._count)
            while at < last:
                offset = at % self._size
                take = min(self._size - offset, last - at)
                buffer = self._buffers[at // self._size - self._dropped_buffers]
                window[at - start : at - start + take] = buffer[offset : offset + take]
                at += take
        return window if strength == 1.0 else window * strength

    def read_each(self, starts: Sequence[int], length: int, strength: float = 1.0) -> Tensor:
        """`read` from several starts, in one piece where they overlap. [starts, length]"""
        first, last = min(starts), max(starts)
        if last - first > length * len(starts):
            return torch.stack([self.read(start, length, strength) for start in starts])
        whole = self.read(first, last + length - first, strength)
        return torch.stack([whole[start - first : start - first + length] for start in starts])

    def drop_before(self, sample: int) -> None:
        """Frees whole buffers of samples before this one."""
        with self._lock:
            whole = min(max(sample, 0), self._count) // self._size - self._dropped_buffers
            if whole > 0:
                del self._buffers[:whole]
                self._dropped_buffers += whole

    @property
    def count(self) -> int:
        """Samples added, those dropped included."""
        return self._count

    @property
    def dropped_samples(self) -> int:
        """Samples that can no longer be read."""
        return self._dropped_buffers * self._size

    @property
    def is_closed(self) -> bool:
        """Whether no samples follow."""
        return self._closed


class EmotionAccumulator:
    """Emotions of one track at moments, counted in samples: between two the emotion moves in a straight line."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """As if nothing had been added."""
        with self._lock:
            self._times: list[int] = []
            self._emotions: list[Tensor] = []
            self._last_dropped: int | None = None
            self._closed = False

    def accumulate(self, timestamp: int, emotion: Tensor) -> None:
        """Appends the emotion, [emotions], of a later moment than any before."""
        if isinstance(timestamp, bool) or not isinstance(timestamp, int):
            raise FaceError("eInvalidValue", f"timestamp is {timestamp!r}, expected a number of samples")
        if emotion.shape != (self.size,):
            raise FaceError("eMismatch", f"emotion has shape {list(emotion.shape)}, expected [{self.size}]")
        if not emotion.isfinite().all():
            raise FaceError("eNotANumber", f"emotion is {emotion.tolist()}, expected finite strengths")
        with self._lock:
            if self._closed:
                raise FaceError("eInvalidValue", "an emotion was added to a track that is closed")
            last = self._times[-1] if self._times else self._last_dropped
            if last is not None and timestamp <= last:
                raise FaceError("eInvalidValue", f"timestamp is {timestamp}, expected more than {last}")
            self._times.append(timestamp)
            self._emotions.append(emotion.detach().to("cpu", torch.float32).clone())

    def close(self) -> None:
        """No emotions follow: the last one stays."""
        with self._lock:
            if self._closed or (not self._times and self._last_dropped is None):
                what = "was closed twice" if self._closed else "was closed without an emotion"
                raise FaceError("eInvalidValue", f"a track of emotions {what}")
            self._closed = True

    def can_read(self, timestamp: int) -> bool:
        """Whether the emotion of a moment is known."""
        with self._lock:
            return bool(self._times) and (self._closed or timestamp <= self._times[-1])

    def read(self, timestamp: int) -> Tensor:
        """The emotion of a moment: the first before any, the last behind all if the track is closed. [emotions]"""
        return self.read_each([timestamp])[0]

    def read_each(self, timestamps: Sequence[int]) -> Tensor:
        """The emotions of moments. [moments, emotions]"""
        with self._lock:
            first, last = self._place(min(timestamps))[0], self._place(max(timestamps))[1]
            if first == last:
                return self._emotions[first].repeat(len(timestamps), 1)
            places = [self._place(timestamp) for timestamp in timestamps]
            known = torch.stack(self._emotions[first : last + 1]).double()
        before, after = (known[[place[end] - first for place in places]] for end in range(2))
        part = torch.tensor([place[2] for place in places], dtype=torch.float64, device="cpu")[:, None]
        return (before * (1 - part) + after * part).float()

    def _place(self, timestamp: int) -> tuple[int, int, float]:
        """Which emotions a moment is between, and where: 0 is at the first of them."""
        if not self.can_read(timestamp):
            last = self._times[-1] if self._times else "none"
            raise FaceError("eOutOfBounds", f"the emotion of sample {timestamp} was read, the last known is {last}")
        after = bisect.bisect_left(self._times, timestamp)
        if after == 0:
            if self._last_dropped is not None and timestamp < self._times[0]:
                raise FaceError("eOutOfBounds", f"the emotion of sample {timestamp} was read, it was dropped")
            return 0, 0, 0.0
        if after == len(self._times):
            return after - 1, after - 1, 0.0
        start, end = self._times[after - 1], self._times[after]
        return after - 1, after, (timestamp - start) / (end - start)

    def drop_before(self, timestamp: int) -> None:
        """Frees whole buffers of emotions that are not needed for this moment and later."""
        with self._lock:
            needless = max(0, bisect.bisect_right(self._times, timestamp) - 1)
            whole = needless // EMOTIONS_OF_BUFFER * EMOTIONS_OF_BUFFER
            if whole:
                self._last_dropped = self._times[whole - 1]
                del self._times[:whole], self._emotions[:whole]

    @property
    def last_timestamp(self) -> int | None:
        """Of the last emotion, if there is one."""
        return self._times[-1] if self._times else self._last_dropped

    @property
    def has_dropped(self) -> bool:
        """Whether emotions can no longer be read."""
        return self._last_dropped is not None

    @property
    def is_empty(self) -> bool:
        """Whether there is no emotion to read."""
        return not self._times

    @property
    def is_closed(self) -> bool:
        """Whether no emotions follow."""
        return self._closed
