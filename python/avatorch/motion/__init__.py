"""Motions from files: AMASS `.npz`, `.smpl`, BVH. Nothing in a file is executed.

motion = avatorch.motion.load("walk.npz")
posed = body(**motion.arguments(body))
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from avatorch.motion.bvh import read_bvh
from avatorch.motion.parameters import is_archive, read_archive
from avatorch.motion.sequence import Motion

__all__ = ["Motion", "load"]


def load(path: str | os.PathLike[str], *, scale: float = 1.0) -> Motion:
    """Reads a motion file; what it is follows from its content.

    `scale` is one length unit of a BVH file in metres, 0.01 for centimetres; the other formats are in metres.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(64)
    if is_archive(start):
        return read_archive(path)
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"HIERARCHY"):
        return read_bvh(path, scale)
    raise ValueError(f"{path}: this is neither an .npz or .smpl archive nor a BVH file, which begins with HIERARCHY")
