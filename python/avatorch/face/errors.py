"""How this part fails: a sentence, and the SDK's name for the error where it has one."""

from __future__ import annotations

from torch import Tensor


class FaceError(ValueError):
    """A bundle, an argument or the order of calls is wrong. `code` is the SDK's name, such as `eMismatch`."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{sentence} ({code})")
        self.code = code


def check_track(track: int, tracks: int) -> None:
    """A track is one of those there are, counted from 0."""
    if isinstance(track, bool) or not isinstance(track, int) or not 0 <= track < tracks:
        raise FaceError("eOutOfRange", f"track is {track!r}, expected 0 to {tracks - 1}")


def check_floats(name: str, values: Tensor, *sizes: int | str) -> None:
    """Floats of a shape; a size that has a name may be any but 0."""
    shape = values.shape
    fits = len(shape) == len(sizes) and all(
        found == size if isinstance(size, int) else found > 0 for found, size in zip(shape, sizes, strict=True)
    )
    if not fits or not values.is_floating_point():
        words = ", ".join(map(str, sizes))
        raise FaceError("eMismatch", f"{name} is {values.dtype} {list(shape)}, expected floats [{words}]")
