"""Arrays of a bundle's .npz files, through the reader in Rust, which executes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatorch import _native
from avatorch.face.errors import FaceError


class Arrays:
    """The members of one .npz file; each is asked for with its type and shape."""

    def __init__(self, path: Path) -> None:
        self.file = path.name
        try:
            members = _native.read_npz(path)
        except FileNotFoundError:
            raise FaceError("eOpenFileFailed", f"{path}: there is no such file") from None
        except OSError as error:
            raise FaceError("eOpenFileFailed", str(error)) from None
        except (ValueError, NotImplementedError, RuntimeError) as error:
            raise FaceError("eReadFileFailed", str(error)) from None
        self._members: dict[str, tuple[str, list[int], Any]] = {name: rest for name, *rest in members}  # type: ignore[misc]

    def names(self) -> list[str]:
        """Every key of the file."""
        return list(self._members)

    def __contains__(self, key: str) -> bool:
        return key in self._members

    def floats(self, key: str, shape: tuple[int | None, ...]) -> Tensor:
        """A finite float32 array; None stands for any size but 0."""
        values = self._numbers(key, "f4", "float32", shape)
        if not values.isfinite().all():
            raise FaceError("eNotANumber", f"{self.file}: {key} holds values that are not finite, expected finite ones")
        return values

    def integers(self, key: str, shape: tuple[int | None, ...]) -> Tensor:
        """An int32 array, as int64."""
        return self._numbers(key, "i4", "int32", shape)

    def texts(self, key: str) -> list[str]:
        """A one-dimensional array of text."""
        code, shape, content = self._get(key)
        if code != "S" or len(shape) != 1:
            raise self._wrong(key, f"is {_words(code, content)} of shape {list(shape)}", "a row of names")
        return list(content)

    def _numbers(self, key: str, code: str, name: str, shape: tuple[int | None, ...]) -> Tensor:
        found, sizes, content = self._get(key)
        if found != code:
            raise self._wrong(key, f"is {_words(found, content)}", name)
        fits = len(sizes) == len(shape) and all(
            size == wanted or (wanted is None and size > 0) for size, wanted in zip(sizes, shape, strict=True)
        )
        if not fits:
            expected = ", ".join("*" if size is None else str(size) for size in shape)
            raise self._wrong(key, f"has shape {list(sizes)}", f"[{expected}]", "eMismatch")
        return torch.from_dlpack(content) if 0 not in sizes else torch.empty(sizes, device="cpu")

    def _get(self, key: str) -> tuple[str, list[int], Any]:
        if key not in self._members:
            raise FaceError("eReadFileFailed", f"{self.file}: key '{key}' is missing")
        return self._members[key]

    def _wrong(self, key: str, found: str, expected: str, code: str = "eReadFileFailed") -> FaceError:
        return FaceError(code, f"{self.file}: {key} {found}, expected {expected}")


def _words(code: str, content: Any) -> str:
    names = {"f2": "float16", "f4": "float32", "f8": "float64", "S": "text", "": str(content)}
    return names.get(code, f"{'u' if code.startswith('u') else ''}int{8 * int(code[1:] or 1)}" if code else "")
