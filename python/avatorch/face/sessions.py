"""ONNX Runtime's sessions: one for each file, device and way of running it, shared by all who open it.

On a GPU a session is never freed by garbage collection, in the middle of other work, with runs of it still on their
way: memory that the device still uses would go with it. One that nothing uses any more is put aside, taken up again
by whoever opens the same file, and else freed when another file is opened, by `free_unused_networks`, or at exit,
each time after its stream has come to rest.
"""

from __future__ import annotations

import atexit
import contextlib
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

    def free(self) -> None:
        """After all that it was asked to do is done."""
        if self.stream is not None:
            self.stream.synchronize()
        self.session = None


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
            free_unused_networks()
            shared = opened()
        shared.users += 1
        _sessions[identity] = shared  # again: garbage collection may just have given it back
        return shared


def give_back(identity: tuple[Hashable, ...], shared: SharedSession) -> None:
    """One user less."""
    with _lock:
        shared.users -= 1
        if not shared.users and shared.stream is None:
            _sessions.pop(identity, None)


def free_unused_networks() -> None:
    """Frees the memory of networks that nothing uses any more."""
    with _lock:
        for identity, shared in _sessions.copy().items():
            if not shared.users:
                _sessions.pop(identity, None)
                shared.free()


def _free_all() -> None:
    """Before CUDA and ONNX Runtime end."""
    with _lock:
        for (process, *_), shared in _sessions.copy().items():
            if process == os.getpid():
                shared.free()


atexit.register(_free_all)
