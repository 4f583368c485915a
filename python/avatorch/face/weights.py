"""What a face gives for clips."""

from typing import NamedTuple

from torch import Tensor


class FaceWeights(NamedTuple):
    """Weights of blend shapes over time."""

    weights: Tensor  # [frames, poses], or [clips, frames, poses] with zeros behind the end of a clip
    names: tuple[str, ...]  # [poses]
    fps: float
    counts: tuple[int, ...]  # frames of each clip
