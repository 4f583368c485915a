"""What must hold before the compiled module is loaded; anything else would crash later and unclearly.

It speaks to exactly one version of torch, and there is room for one copy of it in a process.
"""

import ctypes
import importlib.util
import os
from importlib import metadata

REQUIRED = "2.11.0"

try:
    _found = metadata.version("torch")
except metadata.PackageNotFoundError:
    raise ImportError(
        f"avatorch needs torch {REQUIRED}, and no torch is installed: pip install torch=={REQUIRED}"
    ) from None
if str(_found).split("+")[0] != REQUIRED:  # a broken installation has no version
    raise ImportError(
        f"avatorch needs torch {REQUIRED}, and torch {_found} is installed: pip install torch=={REQUIRED}"
    )

import torch  # noqa: E402  (its libraries must be loaded before ours)


def _is_loaded(library: str) -> bool:
    try:
        ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


_native = importlib.util.find_spec("avatorch._native")
if torch._C._dispatch_has_kernel("smplx::rodrigues") and not (
    _native and _native.origin and _is_loaded(_native.origin)
):
    raise ImportError(
        "another copy of avatorch's library registered its operators in this process (torch.ops.load_library of "
        "another file?); load avatorch.library_path(), or import avatorch alone"
    )
