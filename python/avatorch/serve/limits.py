"""How much one client, and all of them together, may ask for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields


def _limit(default: int, text: str) -> int:
    value: int = dataclasses.field(default=default, metadata={"text": text})
    return value


@dataclass(frozen=True)
class Limits:
    """Whole numbers, each at least 1. The command line has an option for each: `--max-tracks 64`."""

    tracks: int = _limit(64, "clips computed at once, uploads and sockets together")
    waiting: int = _limit(256, "clips that wait for a track")
    wait_seconds: int = _limit(30, "seconds that a clip waits for a track")
    connections: int = _limit(1024, "connections; also sockets")
    upload_bytes: int = _limit(32 << 20, "bytes of an upload")
    upload_seconds: int = _limit(60, "seconds that an upload takes")
    clip_seconds: int = _limit(300, "seconds of sound in an upload")
    stream_seconds: int = _limit(3600, "seconds of sound in a clip of a socket")
    message_bytes: int = _limit(1 << 20, "bytes of a socket's message")
    backlog_seconds: int = _limit(10, "seconds of sound that a socket may be ahead before it is not read")
    idle_seconds: int = _limit(60, "seconds that a socket says nothing")
    header_seconds: int = _limit(10, "seconds that a request's headers take")
    stall_seconds: int = _limit(30, "seconds that a client does not read what it is sent")
    grace_seconds: int = _limit(60, "seconds that accepted work has when the server is told to end")

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{field.name} is {value!r}, expected a whole number of at least 1")
