"""What is installed, and what to do before the first call."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from avatorch import _native


def library_path() -> str:
    """The file that registers the operators, for `torch.ops.load_library` in a program without our Python."""
    return str(Path(_native.__file__).resolve())


def warm_up(device: torch.device | str | int = "cuda") -> None:
    """Loads every kernel on a CUDA device, compiling those that are not cached.

    Loading is impossible while a CUDA graph is captured, so call this before a capture. Nothing to do on the CPU.
    """
    device = torch.device(device)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        with torch.cuda.device(index):
            torch.cuda.synchronize()
            _native.load_kernels(index)


def info() -> dict[str, str]:
    """Versions, GPU and cache, and a sentence for what is missing; `avatorch info` prints it."""
    built = _native.build_info()
    report = {
        "avatorch": f"{built['version']} ({built['profile']}, {built['target']})",
        "library": library_path(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu threads": str(torch.get_num_threads()),
        "gpu": _gpu(),
        "nvrtc": built["nvrtc"] or "missing; CUDA kernels cannot be compiled: pip install nvidia-cuda-nvrtc",
        "kernel cache": _cache(built["cache"]),
    }
    return report


def _gpu() -> str:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        return "none found by torch" if built else "none: this torch is built without CUDA"
    names = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return ", ".join(f"{device.name} (sm_{device.major}{device.minor})" for device in names)


def _cache(folder: str | os.PathLike[str] | None) -> str:
    if folder is None:
        return "none: set AVATORCH_CACHE_DIR, or every process compiles its kernels again"
    path = Path(folder)
    try:
        entries = list(path.glob("*.cubin")) if path.is_dir() else []
        there = next(parent for parent in (path, *path.parents) if parent.exists())
        writable = there.is_dir() and os.access(there, os.W_OK)
    except OSError as error:
        return f"{path} (not usable: {error.strerror}; kernels are compiled in every process)"
    return (
        f"{path} ({len(entries)} kernels{'' if writable else ', not writable: kernels are compiled in every process'})"
    )
