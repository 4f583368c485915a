"""A file that is there whole, or as it was before."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes beside the file and then puts it in its place, so that a full disk or a kill loses nothing."""
    path = Path(path)
    if path.exists() and not path.is_file():
        path.write_bytes(content)  # a pipe or a device; a folder refuses
        return
    path = path.resolve()  # a link stays a link
    beside = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        with beside.open("rb") as file:
            os.fsync(file.fileno())  # before its name is the file's, or a power cut leaves nothing of either
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
