"""How this part fails: a sentence, and the SDK's name for the error where it has one."""

from __future__ import annotations


class FaceError(ValueError):
    """A bundle, an argument or the order of calls is wrong. `code` is the SDK's name, such as `eMismatch`."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{sentence} ({code})")
        self.code = code


def check_track(track: int, tracks: int) -> None:
    """A track is one of those there are, counted from 0."""
    if isinstance(track, bool) or not isinstance(track, int) or not 0 <= track < tracks:
        raise FaceError("eOutOfRange", f"track is {track!r}, expected 0 to {tracks - 1}")
