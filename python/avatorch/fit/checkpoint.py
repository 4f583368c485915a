"""Where a fit stands, in a safetensors file that is always whole: a new one replaces the old one at once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatorch.whole_file import write_whole

DTYPES = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MOST_HEADER = 1 << 26  # some hundred thousand tensors: a result of every sequence of a data set


def save(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Writes all of it, or leaves the old file."""
    write_whole(path, packed(tensors, notes))


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU, and notes."""
    try:
        return unpacked(Path(path).read_bytes())
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"{path}: this is no checkpoint of a fit: {error}") from None


def packed(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> bytes:
    """The file's bytes."""
    header: dict[str, object] = {"__metadata__": dict(notes)}
    parts, end = [], 0
    for name, tensor in tensors.items():
        data = tensor.detach().cpu().contiguous().numpy().tobytes()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(data)],
        }
        parts.append(data)
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def unpacked(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `packed` made; every size is checked before it is used."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(MOST_HEADER, len(data) - 8):
        raise ValueError(f"its header has {size} bytes, and the file {len(data)}")
    header = json.loads(data[8 : 8 + size])
    notes = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
    body, tensors = memoryview(data)[8 + size :], {}
    for name, entry in header.items():
        dtype, shape, (begin, end) = DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        if dtype is None or not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
            raise ValueError(f"{name} is described as {entry}")
        expected = math.prod(shape) * dtype.itemsize
        if not begin <= end <= len(body) or end - begin != expected:
            raise ValueError(f"{name} {shape} has bytes {begin} to {end} of {len(body)}, expected {expected} of them")
        array = np.frombuffer(bytes(body[begin:end]), np.dtype(str(dtype).removeprefix("torch.")))
        tensors[name] = torch.from_numpy(array.copy()).reshape(shape)
    return tensors, notes
