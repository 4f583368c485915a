"""A glTF 2.0 document under construction: JSON lists that refer to each other by index, and one binary buffer."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

COMPONENTS = {"float32": 5126, "uint32": 5125, "uint16": 5123}
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942


class Document:
    """What will be one `.glb` file."""

    def __init__(self) -> None:
        self._lists: dict[str, list[Any]] = {}
        self._roots: list[int] = []
        self._binary = bytearray()

    def __getitem__(self, kind: str) -> list[Any]:
        return self._lists.setdefault(kind, [])

    def add(self, kind: str, entry: dict[str, Any]) -> int:
        """Appends to `nodes`, `meshes`, ...; returns the index."""
        self[kind].append(entry)
        return len(self[kind]) - 1

    def scene(self, nodes: list[int]) -> None:
        """Makes the nodes roots of the scene."""
        self._roots += nodes

    def accessor(self, array: np.ndarray, kind: str, bounds: bool = False) -> int:
        """Puts an array [n] or [n, components] into the buffer."""
        self._binary += bytes(-len(self._binary) % 4)
        data = array.tobytes()
        view = self.add("bufferViews", {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)})
        self._binary += data
        entry = {"bufferView": view, "componentType": COMPONENTS[array.dtype.name], "count": len(array), "type": kind}
        if bounds:
            rows = array.reshape(len(array), -1)
            entry |= {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
        return self.add("accessors", entry)

    def binary(self) -> bytes:
        """The file."""
        document = {
            "asset": {"version": "2.0", "generator": "avatorch"},
            "scene": 0,
            "scenes": [{"nodes": self._roots}],
            "buffers": [{"byteLength": len(self._binary)}],
            **self._lists,
        }
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        data = bytes(self._binary) + bytes(-len(self._binary) % 4)
        chunks = [
            struct.pack("<II", len(part), kind) + part for part, kind in ((text, JSON_CHUNK), (data, BINARY_CHUNK))
        ]
        size = 12 + sum(len(chunk) for chunk in chunks)
        return struct.pack("<4sII", b"glTF", 2, size) + b"".join(chunks)
