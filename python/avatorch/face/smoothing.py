"""Two filters, one behind the other, along frames: each moves a value by a part of its way to what it follows.

Values are [R tracks, F frames, 2 halves of a face, k], what was before them [R, 2, k], parts of the way [R, 2, 1]. The
results are the smoothed values, and what is before the next: filtered once, and twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_AT_ONCE = 256  # frames smoothed in one product, whose matrix is the square of them


def smooth_by_frame(wanted: Tensor, once: Tensor, twice: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frame by frame, so that it does not matter how many there are. [R, F, 2, k], [R, 2, k], [R, 2, k], [R, 2, 1]"""
    smoothed = []
    for target in wanted.unbind(1):
        once = torch.lerp(once, target, alpha)
        twice = torch.lerp(twice, once, alpha)
        smoothed.append(twice)
    return torch.stack(smoothed, 1), once, twice


def smooth_at_once(wanted: Tensor, once: Tensor, twice: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same as one product over frames: n frames ago counts a (1 - a)^n once, and (n + 1) a^2 (1 - a)^n twice."""
    frames = wanted.shape[1]
    if frames > MOST_AT_ONCE:
        parts = []
        for some in wanted.split(MOST_AT_ONCE, 1):
            part, once, twice = smooth_at_once(some, once, twice, alpha)
            parts.append(part)
        return torch.cat(parts, 1), once, twice
    number = torch.arange(frames, device=wanted.device)
    ago = number[:, None] - number  # [F, F]
    rest = 1 - alpha  # [R, 2, 1]
    power = rest[..., None] ** ago.clamp(min=0) * (ago >= 0)  # [R, 2, F, F]
    targets = wanted.transpose(1, 2)  # [R, 2, F, k]
    begun = rest ** (number + 1)  # [R, 2, F], of what was before the first frame
    by_frame = begun[..., None] * (twice[:, :, None] + (number[:, None] + 1) * alpha[..., None] * once[:, :, None])
    smoothed = alpha[..., None] ** 2 * ((power * (ago + 1)) @ targets) + by_frame
    last = alpha * (power[:, :, -1:] @ targets)[:, :, 0] + begun[..., -1:] * once
    return smoothed.transpose(1, 2), last, smoothed[:, :, -1]
