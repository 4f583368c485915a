"""Builds the package with maturin, against the torch of the Python that runs this very build.

torch-sys asks the first `python` on PATH for libtorch. In an isolated build, or under a virtual environment that is not
activated, that would be a Python without torch, or with another one; so this Python is put first.
"""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import maturin

TORCH = "2.11.0"


def _use_this_python() -> None:
    try:
        found = metadata.version("torch")
    except metadata.PackageNotFoundError:
        found = "no torch"
    if found.split("+")[0] != TORCH:
        sys.exit(
            f"avatorch is built against torch {TORCH}, and {found} is installed for {sys.executable}: "
            f"pip install torch=={TORCH} maturin, or build without --no-build-isolation"
        )
    folder = Path(sys.executable).parent
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["LIBTORCH_USE_PYTORCH"] = "1"
    if (folder / "python").exists():
        os.environ["VIRTUAL_ENV"] = sys.prefix
    else:
        os.environ.pop("VIRTUAL_ENV", None)


def build_wheel(directory: str, settings: Any = None, metadata_directory: str | None = None) -> str:
    _use_this_python()
    return maturin.build_wheel(directory, settings, metadata_directory)


def build_editable(directory: str, settings: Any = None, metadata_directory: str | None = None) -> str:
    _use_this_python()
    return maturin.build_editable(directory, settings, metadata_directory)


def prepare_metadata_for_build_wheel(directory: str, settings: Any = None) -> str:
    _use_this_python()
    return maturin.prepare_metadata_for_build_wheel(directory, settings)


def prepare_metadata_for_build_editable(directory: str, settings: Any = None) -> str:
    _use_this_python()
    return maturin.prepare_metadata_for_build_editable(directory, settings)


build_sdist = maturin.build_sdist
get_requires_for_build_wheel = maturin.get_requires_for_build_wheel
get_requires_for_build_editable = maturin.get_requires_for_build_editable
get_requires_for_build_sdist = maturin.get_requires_for_build_sdist
