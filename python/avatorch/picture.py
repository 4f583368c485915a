"""A spectrogram as a picture with axes, in PNG, with nothing but the standard library and torch."""

from __future__ import annotations

import os
import struct
import zlib

import torch
from torch import Tensor

from avatorch.whole_file import write_whole

# Dark to bright: purple, magenta, orange, pale yellow.
COLOURS = torch.tensor([[5, 5, 20], [80, 20, 110], [185, 55, 85], [245, 140, 50], [250, 250, 190]])
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 44  # pixels around the spectrogram
INK, PAPER = 30, 255

# 5 by 7 dots; each number is a row, its highest of five bits the leftmost dot.
GLYPHS = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    ".": (0, 0, 0, 0, 0, 12, 12),
    " ": (0, 0, 0, 0, 0, 0, 0),
    "a": (0, 0, 14, 1, 15, 17, 15),
    "b": (16, 16, 22, 25, 17, 17, 30),
    "d": (1, 1, 13, 19, 17, 17, 15),
    "e": (0, 0, 14, 17, 31, 16, 14),
    "i": (4, 0, 12, 4, 4, 4, 14),
    "l": (12, 4, 4, 4, 4, 4, 14),
    "m": (0, 0, 26, 21, 21, 17, 17),
    "n": (0, 0, 22, 25, 17, 17, 17),
    "s": (0, 0, 14, 16, 14, 1, 30),
    "t": (8, 8, 28, 8, 8, 9, 6),
    ",": (0, 0, 0, 0, 12, 4, 8),
}


def write_png(path: str | os.PathLike[str], spectrogram: Tensor, seconds_per_frame: float) -> None:
    """Writes `spectrogram` [n_mels, frames] with time to the right and bands upwards, the largest value brightest."""
    if not spectrogram.numel() or not spectrogram.isfinite().all():
        raise ValueError(
            f"a spectrogram of shape {list(spectrogram.shape)} cannot be drawn: expected finite values, and some"
        )
    n_mels, frames = spectrogram.shape
    tall = max(1, 320 // n_mels)  # pixels of a band
    wide = max(1, 640 // frames)  # pixels of a frame
    shown = spectrogram.float().flip(0)
    if frames > 1600:  # a screen's width: the loudest of neighbouring frames
        shown = torch.nn.functional.adaptive_max_pool1d(shown, 1600)
    picture = torch.full((tall * n_mels + TOP + BOTTOM, wide * shown.shape[1] + LEFT + RIGHT, 3), PAPER)
    height, width = tall * n_mels, wide * shown.shape[1]
    cells = coloured(shown).repeat_interleave(tall, 0).repeat_interleave(wide, 1)
    picture[TOP : TOP + height, LEFT : LEFT + width] = cells
    draw_time(picture, height, width, frames * seconds_per_frame)
    draw_bands(picture, height, n_mels)
    write_whole(path, png(picture.to(torch.uint8)))


def coloured(values: Tensor) -> Tensor:
    """[..., 3], from the darkest colour for the least value to the brightest for the largest."""
    spread = (values.max() - values.min()).clamp_min(1e-12)
    place = (values - values.min()) / spread * (len(COLOURS) - 1)
    below = place.long().clamp(max=len(COLOURS) - 2)
    part = (place - below)[..., None]
    return ((1 - part) * COLOURS[below] + part * COLOURS[below + 1]).round().long()


def draw_time(picture: Tensor, height: int, width: int, seconds: float) -> None:
    """Ticks below, and their unit."""
    step = ticks(seconds, width // 60)
    for i in range(int(seconds / step + 1e-9) + 1):
        x = LEFT + min(round(i * step / seconds * width), width - 1)
        picture[TOP + height : TOP + height + 5, x] = INK
        text = f"{i * step:g}"
        write(picture, text, TOP + height + 9, x - 3 * len(text))
    write(picture, "time, s", TOP + height + 26, LEFT + width // 2 - 20)


def draw_bands(picture: Tensor, height: int, n_mels: int) -> None:
    """Ticks on the left, and their name."""
    step = max(1, int(ticks(n_mels, 8)))
    for band in range(0, n_mels, step):
        y = TOP + height - 1 - band * (height // n_mels) - (height // n_mels) // 2
        picture[y, LEFT - 5 : LEFT] = INK
        text = str(band)
        write(picture, text, y - 3, LEFT - 8 - 6 * len(text))
    label = torch.full((7, 6 * len("mel band"), 3), PAPER)
    write(label, "mel band", 0, 0)
    turned = label.transpose(0, 1).flip(0)
    top = max(0, TOP + height // 2 - len(turned) // 2)
    room = picture[top : top + len(turned), 8:15]
    room[:] = turned[: len(room)]


def ticks(extent: float, most: int) -> float:
    """The smallest of 1, 2, 5, 10, ... that divides `extent` into at most so many parts."""
    step = 10.0 ** torch.tensor(max(extent, 1e-9)).log10().floor().item() / 100
    while True:
        for factor in (1, 2, 5):
            if extent / (factor * step) <= max(most, 1):
                return factor * step
        step *= 10


def write(picture: Tensor, text: str, top: int, left: int) -> None:
    """Dots of `text` from a corner on; those outside the picture are left out."""
    for at, letter in enumerate(text):
        for row, bits in enumerate(GLYPHS[letter]):
            for column in range(5):
                y, x = top + row, left + 6 * at + column
                if bits >> (4 - column) & 1 and 0 <= y < picture.shape[0] and 0 <= x < picture.shape[1]:
                    picture[y, x] = INK


def png(picture: Tensor) -> bytes:
    """[height, width, 3], uint8, as a file."""
    height, width, _ = picture.shape
    lines = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), picture.reshape(height, 3 * width)], 1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    content = bytes(lines.flatten().tolist())
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(content, 9)) + chunk(b"IEND", b"")
