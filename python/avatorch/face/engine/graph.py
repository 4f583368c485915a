"""An ONNX file as nodes and tensors, read without the package onnx and without executing anything.

The file is protobuf; the few fields that a network needs are read from its wire format. Tensors stay in the mapped file
until they are asked for. Sizes are checked against the file before anything is made of them.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from avatorch.face.errors import FaceError

Buffer = memoryview
DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
MOST_NODES = 1 << 20
MOST_DIMENSIONS = 8


@dataclass
class StoredTensor:
    """Where a tensor is; `load` makes it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    data: Buffer

    def load(self) -> Tensor:
        """Of its own memory, so that it outlives the file."""
        if prod(self.shape) == 0:
            return torch.empty(self.shape, dtype=self.dtype)
        return torch.frombuffer(bytearray(self.data), dtype=self.dtype).reshape(self.shape)


Attribute = int | float | str | list[int] | StoredTensor


@dataclass
class Node:
    """One operation."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute] = field(default_factory=dict)

    def integer(self, name: str, default: int = 0) -> int:
        """An attribute that is a whole number."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default

    def integers(self, name: str) -> list[int]:
        """An attribute that is a list of whole numbers; empty where there is none."""
        value = self.attributes.get(name, [])
        return value if isinstance(value, list) else []

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number."""
        value = self.attributes.get(name, default)
        return float(value) if isinstance(value, int | float) else default


@dataclass
class Graph:
    """The nodes of a network in the order of the file, and its stored tensors by name."""

    file: str
    nodes: list[Node]
    tensors: dict[str, StoredTensor]
    inputs: list[str]
    outputs: list[str]


def read_graph(path: Path) -> Graph:
    """Reads a file; tensors that it keeps in other files must be beside it."""
    reader = _Reader(path)
    try:
        return reader.graph()
    except (IndexError, struct.error, UnicodeDecodeError, ValueError, RecursionError) as error:
        if isinstance(error, FaceError):
            raise
        raise FaceError("eReadFileFailed", f"{path.name}: is no ONNX network: {error}") from None


class _Reader:
    """Reads one file, and opens those that it refers to once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: dict[str, Buffer] = {}

    def graph(self) -> Graph:
        body = next((value for number, value in _fields(map_file(self._path)) if number == 7), None)
        if not isinstance(body, memoryview):
            raise self._wrong("has no graph")
        graph = Graph(self._path.name, [], {}, [], [])
        for number, value in _fields(body):
            if not isinstance(value, memoryview):
                continue
            if number == 1:
                graph.nodes.append(self._node(value))
            elif number == 5:
                name, tensor = self._tensor(value)
                graph.tensors[name] = tensor
            elif number in (11, 12):
                names = graph.inputs if number == 11 else graph.outputs
                names += [_text(inner) for key, inner in _fields(value) if key == 1]
            if len(graph.nodes) > MOST_NODES:
                raise self._wrong(f"has more than {MOST_NODES} nodes")
        graph.inputs = [name for name in graph.inputs if name not in graph.tensors]
        return graph

    def _node(self, body: Buffer) -> Node:
        node = Node("", [], [])
        for number, value in _fields(body):
            if number == 1:
                node.inputs.append(_text(value))
            elif number == 2:
                node.outputs.append(_text(value))
            elif number == 4:
                node.kind = _text(value)
            elif number == 5 and isinstance(value, memoryview):
                self._attribute(node, value)
        return node

    def _attribute(self, node: Node, body: Buffer) -> None:
        name, found, integers = "", None, []
        for number, value in _fields(body):
            if number == 1:
                name = _text(value)
            elif number == 2 and isinstance(value, memoryview):
                found = struct.unpack("<f", value)[0]
            elif number == 3 and isinstance(value, int):
                found = _signed(value)
            elif number == 4:
                found = _text(value)
            elif number == 5 and isinstance(value, memoryview):
                found = self._tensor(value)[1]
            elif number == 8:
                integers += _integers(value)
        if integers or found is not None:
            node.attributes[name] = integers or found  # type: ignore[assignment]

    def _tensor(self, body: Buffer) -> tuple[str, StoredTensor]:
        name, shape, element, raw = "", [], 0, None
        typed: list[bytes] = []
        external: dict[str, str] = {}
        for number, value in _fields(body):
            if number == 1:
                shape += _integers(value)
            elif number == 2 and isinstance(value, int):
                element = value
            elif number == 8:
                name = _text(value)
            elif number == 9 and isinstance(value, memoryview):
                raw = value
            elif number in (4, 10) and isinstance(value, memoryview):  # floats and doubles are stored as they are
                typed.append(bytes(value))
            elif number in (5, 7):
                code = "<i" if number == 5 else "<q"
                typed += [struct.pack(code, integer) for integer in _integers(value)]
            elif number == 13 and isinstance(value, memoryview):
                entry = {key: _text(inner) for key, inner in _fields(value)}
                external[entry.get(1, "")] = entry.get(2, "")
        if element not in DTYPES or len(shape) > MOST_DIMENSIONS or any(size < 0 for size in shape):
            raise self._wrong(f"tensor {name[:200]!r} has element type {element} and shape {shape[:16]}")
        dtype = DTYPES[element]
        data = self._external(name, external) if external else raw
        if data is None:
            data = memoryview(b"".join(typed))
        wanted = prod(shape) * dtype.itemsize
        if len(data) != wanted:
            raise self._wrong(f"tensor {name[:200]!r} has {len(data)} bytes, expected {wanted} for shape {shape}")
        return name, StoredTensor(tuple(shape), dtype, data)

    def _external(self, name: str, entry: dict[str, str]) -> Buffer:
        location = PurePosixPath(entry.get("location", ""))
        if location.is_absolute() or len(location.parts) != 1 or ".." in location.parts or "\\" in str(location):
            raise self._wrong(
                f"tensor {name[:200]!r} is in {str(location)[:200]!r}, expected a file beside the network"
            )
        if str(location) not in self._opened:
            self._opened[str(location)] = map_file(self._path.parent / location)
        content = self._opened[str(location)]
        offset = int(entry.get("offset", "0"))
        length = int(entry.get("length", str(len(content) - offset)))
        if not 0 <= offset <= offset + length <= len(content):
            raise self._wrong(
                f"tensor {name[:200]!r} is at {offset} of {location} for {length} bytes, which has {len(content)}"
            )
        return content[offset : offset + length]

    def _wrong(self, sentence: str) -> FaceError:
        return FaceError("eReadFileFailed", f"{self._path.name}: {sentence}")


def map_file(path: Path) -> Buffer:
    """The content of a file, read when it is looked at."""
    if path.exists() and not path.is_file():
        raise FaceError("eOpenFileFailed", f"{path}: cannot be read: it is no file")
    try:
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise FaceError("eOpenFileFailed", f"{path}: cannot be read: {error.strerror}") from None


def fields(body: Buffer) -> Iterator[tuple[int, int | Buffer, Buffer]]:
    """Of a message: numbers, values, which are whole numbers or bytes, and all of the field as it is stored."""
    at = 0
    while at < len(body):
        begin = at
        key, at = _varint(body, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(body, at)
            yield key >> 3, value, body[begin:at]
            continue
        if wire == 2:
            size, at = _varint(body, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of wire type {wire}")
        if at + size > len(body):
            raise ValueError("a field ends behind its message")
        yield key >> 3, body[at : at + size], body[begin : at + size]
        at += size


def field_of(number: int, content: bytes) -> bytes:
    """A field of bytes as it is stored."""
    size, head = len(content), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + content


def _fields(body: Buffer) -> Iterator[tuple[int, int | Buffer]]:
    return ((number, value) for number, value, _ in fields(body))


def _varint(body: Buffer, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise ValueError("a number of more than 64 bits")


def _integers(value: int | Buffer) -> list[int]:
    """One whole number, or many in a row."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(_signed(number))
    return numbers


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _text(value: int | Buffer) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""
