"""The compiled module speaks to exactly one version of torch; anything else would crash later and unclearly."""

from importlib import metadata

REQUIRED = "2.11.0"

try:
    _found = metadata.version("torch")
except metadata.PackageNotFoundError:
    raise ImportError(
        f"avatorch needs torch {REQUIRED}, and no torch is installed: pip install torch=={REQUIRED}"
    ) from None
if _found.split("+")[0] != REQUIRED:
    raise ImportError(
        f"avatorch needs torch {REQUIRED}, and torch {_found} is installed: pip install torch=={REQUIRED}"
    )

import torch  # noqa: E402, F401  (its libraries must be loaded before ours)
