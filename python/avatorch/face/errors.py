"""How this part fails: a sentence, and the SDK's name for the error where it has one."""

from __future__ import annotations


class FaceError(ValueError):
    """A bundle, an argument or the order of calls is wrong. `code` is the SDK's name, such as `eMismatch`."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{sentence} ({code})")
        self.code = code
