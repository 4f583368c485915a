"""Which samples the network reads when, and which moment a frame describes. Whole numbers throughout."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from avatorch.face.bundle import NetworkInfo
from avatorch.face.errors import FaceError


@dataclass(frozen=True)
class Windows:
    """Windows of equal length at equal distances, which need not be whole samples."""

    size: int
    start_offset: int  # of the first window
    target_offset: int  # from a window's start to the moment that it describes
    stride: Fraction  # samples from one to the next

    def __post_init__(self) -> None:
        if self.stride <= 0:
            raise FaceError("eSampleRateTooLow", f"windows would be {self.stride} samples apart, expected more than 0")

    def start(self, index: int) -> int:
        """The first sample of a window; negative before the audio begins."""
        return index * self.stride.numerator // self.stride.denominator + self.start_offset

    def target(self, index: int) -> int:
        """The sample that a window describes."""
        return self.start(index) + self.target_offset

    def targets(self, indices: range) -> list[int]:
        """`target` of many."""
        up, down, offset = self.stride.numerator, self.stride.denominator, self.start_offset + self.target_offset
        return [index * up // down + offset for index in indices]

    def end(self, index: int) -> int:
        """The sample behind a window."""
        return self.start(index) + self.size

    def count_described(self, samples: int) -> int:
        """Windows whose target is among so many samples: those there are once the audio has ended."""
        return self._count_before(samples - self.start_offset - self.target_offset)

    def count_complete(self, samples: int) -> int:
        """Windows that end within so many samples: those there are while audio may follow."""
        return self._count_before(samples - self.start_offset - self.size + 1)

    def _count_before(self, position: int) -> int:
        """Indices i >= 0 with floor(i stride) < position: those with i stride < position, which is whole."""
        return max(0, -(-position * self.stride.denominator // self.stride.numerator))


@dataclass(frozen=True)
class Clock:
    """The inferences of a network and the frames that they give."""

    inferences: Windows
    frames: Windows
    frames_per_inference: int
    frame_rate: Fraction
    sample_rate: int
    first_frame: int  # those before describe moments before the audio, and are not given out

    @staticmethod
    def of(info: NetworkInfo, frame_rate: Fraction | None = None) -> Clock:
        """Of a regression network at a frame rate, 60 a second by default, or of a diffusion network at its own."""
        if info.kind == "regression":
            rate = Fraction(60) if frame_rate is None else frame_rate
            if rate <= 0:
                raise FaceError("eInvalidValue", f"frame_rate is {rate}, expected more than 0")
            stride = Fraction(info.sample_rate) / rate
            if stride < 1:
                raise FaceError(
                    "eSampleRateTooLow",
                    f"frame_rate is {rate}, expected at most {info.sample_rate}, one frame a sample",
                )
            windows = Windows(info.window, -info.target_offset, info.target_offset, stride)
            return Clock(windows, windows, 1, rate, info.sample_rate, 0)
        rate = Fraction(info.frames * info.sample_rate, info.window)
        if frame_rate is not None and frame_rate != rate:
            raise FaceError("eInvalidValue", f"frame_rate is {frame_rate}, expected {rate}: this network has its own")
        stride = Fraction(info.window * info.center_frames, info.frames)
        target = info.window * info.left_frames // info.frames
        inferences = Windows(info.window, -info.padding_left, target, stride)
        frames = Windows(info.window, -info.padding_left, target, stride / info.center_frames)
        return Clock(inferences, frames, info.center_frames, rate, info.sample_rate, frames.count_described(0))

    def total_frames(self, samples: int) -> int:
        """Frames that so many samples give once the audio has ended."""
        return max(0, self.frames.count_described(samples) - self.first_frame)

    def available_inferences(self, samples: int, closed: bool) -> int:
        """Inferences that so many samples allow, those already made included."""
        return self.inferences.count_described(samples) if closed else self.inferences.count_complete(samples)

    def timestamp(self, frame: int) -> int:
        """The sample that a frame describes, counted from the first that is given out."""
        return self.frames.target(frame + self.first_frame)

    def timestamps(self, frames: range) -> tuple[int, ...]:
        """`timestamp` of frames that follow one another, and of the one behind them."""
        return tuple(self.frames.targets(range(frames.start + self.first_frame, frames.stop + self.first_frame + 1)))
