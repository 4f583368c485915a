"""A gain for ONNX Runtime too: an exported diffusion network holds its speech network once for every step of the
sampler, on the same samples, and the runtime would merge the copies, were it not for two constants of each.

The normalisation of the first convolution has a gain of ones and a shift of zeros of its own in every copy. All copies
are pointed at the first one's, where they are equal; then the runtime keeps the first copy alone, to the last bit.
"""

from __future__ import annotations

from pathlib import Path

from avatorch.face.engine.graph import Buffer, StoredTensor, field_of, fields, map_file, read_graph
from avatorch.face.errors import FaceError

KIND = "InstanceNormalization"
MOST_BYTES = 1 << 31  # that ONNX Runtime takes from memory


def merged_copies(path: Path) -> bytes | None:
    """The file with these constants shared; None where there is nothing to share."""
    try:
        renamed = _renamed(path)
        return _rewritten(map_file(path), renamed) if renamed and path.stat().st_size < MOST_BYTES else None
    except (FaceError, ValueError, IndexError):
        return None  # whatever is wrong with the file, ONNX Runtime says it


def _renamed(path: Path) -> dict[str, str]:
    """Constants of later copies, and those of the first that are equal."""
    graph = read_graph(path)
    constants = {node.outputs[0]: node.attributes.get("value") for node in graph.nodes if node.kind == "Constant"}
    constants.update(graph.tensors)
    renamed: dict[str, str] = {}
    first: dict[bytes, str] = {}
    for node in graph.nodes:
        for name in node.inputs[1:3] if node.kind == KIND else ():
            tensor = constants.get(name)
            if isinstance(tensor, StoredTensor):
                kept = first.setdefault(bytes(tensor.data), name)
                if kept != name:
                    renamed[name] = kept
    return renamed


def _rewritten(model: Buffer, renamed: dict[str, str]) -> bytes:
    parts: list[bytes | Buffer] = []
    for number, value, whole in fields(model):
        if number == 7 and isinstance(value, memoryview):
            parts.append(field_of(7, b"".join(_graph_parts(value, renamed))))
        else:
            parts.append(whole)
    return b"".join(parts)


def _graph_parts(graph: Buffer, renamed: dict[str, str]) -> list[bytes | Buffer]:
    parts: list[bytes | Buffer] = []
    for number, value, whole in fields(graph):
        node = list(fields(value)) if number == 1 and isinstance(value, memoryview) else []
        if not any(key == 4 and inner == KIND.encode() for key, inner, _ in node):
            parts.append(whole)
            continue
        inner = b"".join(_node_part(*field, renamed) for field in node)
        parts.append(field_of(1, inner))
    return parts


def _node_part(number: int, value: int | Buffer, whole: Buffer, renamed: dict[str, str]) -> bytes | Buffer:
    if number != 1 or not isinstance(value, memoryview):
        return whole
    name = bytes(value).decode()
    return field_of(1, renamed.get(name, name).encode())
