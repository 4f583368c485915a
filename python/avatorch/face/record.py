"""JSON objects of a bundle, read with suspicion: every value is asked for with its type and range."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from avatorch.face.errors import FaceError

MOST_BYTES = 1 << 24  # the largest known file has 5 KB
MOST_INTEGER = 1 << 31


class Record:
    """An object of a JSON file; errors name the file and the way to the value."""

    def __init__(self, file: str, content: dict[str, Any], way: str = "") -> None:
        self.file = file
        self.content = content
        self._way = way

    @staticmethod
    def read(path: Path) -> Record:
        """Reads a file that holds one object."""
        file = path.name
        try:
            if not path.is_file():
                raise FaceError("eOpenFileFailed", f"{path}: there is no such file")
            size = path.stat().st_size
            if size > MOST_BYTES:
                raise FaceError("eReadFileFailed", f"{file}: has {size} bytes, expected at most {MOST_BYTES}")
            content = json.loads(path.read_bytes().decode("utf-8-sig"), parse_constant=_refuse)
        except OSError as error:
            raise FaceError("eOpenFileFailed", f"{path}: cannot be read: {error.strerror}") from None
        except FaceError:
            raise
        except (ValueError, RecursionError) as error:
            what = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise FaceError("eReadFileFailed", f"{file}: is no JSON: {what}") from None
        if not isinstance(content, dict):
            raise FaceError("eReadFileFailed", f"{file}: holds {_kind(content)}, expected an object")
        return Record(file, content)

    def record(self, key: str) -> Record:
        """An object within this one."""
        return Record(self.file, self._typed(key, dict, "an object"), self.way(key) + ".")

    def records(self, key: str) -> list[Record]:
        """An array of objects."""
        items = self._typed(key, list, "an array of objects")
        for item in items:
            if not isinstance(item, dict):
                raise self.wrong(key, f"holds {_kind(item)}", "an array of objects")
        return [Record(self.file, item, f"{self.way(key)}[{index}].") for index, item in enumerate(items)]

    def text(self, key: str) -> str:
        """A string."""
        return str(self._typed(key, str, "a string"))

    def texts(self, key: str) -> list[str]:
        """An array of strings."""
        items = self._typed(key, list, "an array of strings")
        for item in items:
            if not isinstance(item, str):
                raise self.wrong(key, f"holds {_kind(item)}", "an array of strings")
        return list(items)

    def integer(self, key: str, least: int = 0, most: int = MOST_INTEGER) -> int:
        """A whole number within a range."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, f"is {_kind(value)}", "a whole number")
        if not least <= value <= most:
            raise self.wrong(key, f"is {_short(value)}", f"{least} to {most}", "eOutOfRange")
        return value

    def integers(self, key: str, count: int, least: int, most: int) -> list[int]:
        """So many whole numbers within a range."""
        items = self._sized(key, count, "whole numbers")
        for item in items:
            if isinstance(item, bool) or not isinstance(item, int):
                raise self.wrong(key, f"holds {_kind(item)}", "whole numbers")
            if not least <= item <= most:
                raise self.wrong(key, f"holds {_short(item)}", f"{least} to {most}", "eOutOfRange")
        return items

    def number(self, key: str, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number within a range."""
        return self._number(key, self._get(key), least, most)

    def numbers(self, key: str, count: int, least: float = -math.inf, most: float = math.inf) -> list[float]:
        """So many finite numbers within a range."""
        return [self._number(key, item, least, most) for item in self._sized(key, count, "numbers")]

    def way(self, key: str) -> str:
        """How a key is called in errors."""
        return self._way + key

    def wrong(self, key: str, found: str, expected: str, code: str = "eReadFileFailed") -> FaceError:
        """The error for a value that must not be what it is."""
        return FaceError(code, f"{self.file}: {self.way(key)} {found}, expected {expected}")

    def _get(self, key: str) -> Any:
        if key not in self.content:
            raise FaceError("eReadFileFailed", f"{self.file}: {self.way(key)} is missing")
        return self.content[key]

    def _typed(self, key: str, kind: type, name: str) -> Any:
        value = self._get(key)
        if not isinstance(value, kind):
            raise self.wrong(key, f"is {_kind(value)}", name)
        return value

    def _sized(self, key: str, count: int, name: str) -> list[Any]:
        items = self._typed(key, list, f"an array of {name}")
        if len(items) != count:
            raise self.wrong(key, f"has {len(items)} values", str(count), "eMismatch")
        return list(items)

    def _number(self, key: str, value: Any, least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"is {_kind(value)}", "a number")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.wrong(key, f"is {value}", "a finite number", "eNotANumber")
        if not least <= value <= most:
            raise self.wrong(key, f"is {value:g}", f"{least:g} to {most:g}", "eOutOfRange")
        return value


def _refuse(constant: str) -> None:
    raise FaceError("eNotANumber", f"a bundle's JSON holds {constant}, expected finite numbers")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(value: int) -> str:
    return str(value) if value.bit_length() < 128 else "a number of more than 38 digits"
