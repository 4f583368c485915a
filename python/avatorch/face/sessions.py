"""ONNX Runtime's sessions: one for each file, device and way of running it, shared by all who open it.

On a GPU a session is never freed, not even at exit: the CUDA provider of ONNX Runtime (1.31) ends the process when one
that held convolutions goes, also when its stream is at rest. It stays for whoever opens the same file again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass
class SharedSession:
    """A session, and the stream it was opened on, which it cannot outlive."""

    session: Any
    stream: torch.cuda.Stream | None  # None on the CPU
    users: int = 0

    def __post_init__(self) -> None:
        # Runs of several threads on one stream take turns.
        self.turn: Any = threading.Lock() if self.stream is not None else contextlib.nullcontext()
        if self.stream is not None:  # nothing ever takes these references back
            for kept in (self.session, self.stream):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


_sessions: dict[tuple[Hashable, ...], SharedSession] = {}
# Garbage collection can give a session back while this thread opens another.
_lock = threading.RLock()


def identity_of(path: Path, *how: Hashable) -> tuple[Hashable, ...]:
    """What tells a session from others: the file as it is now, and `how` it is run. A fork has none of its parent's."""
    found = path.stat()
    return (os.getpid(), str(path.resolve()), found.st_ino, found.st_size, found.st_mtime_ns, *how)


def take(identity: tuple[Hashable, ...], opened: Callable[[], SharedSession]) -> SharedSession:
    """The session of this identity, `opened` if there is none."""
    with _lock:
        shared = _sessions.get(identity)
        if shared is None:
            shared = opened()
        shared.users += 1
        _sessions[identity] = shared  # again: garbage collection may just have given it back
        return shared


def give_back(identity: tuple[Hashable, ...], shared: SharedSession) -> None:
    """One user less; on the CPU the last one frees it."""
    with _lock:
        shared.users -= 1
        if not shared.users and shared.stream is None:
            _sessions.pop(identity, None)
