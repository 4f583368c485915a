"""Other libraries' interfaces over this package's operators."""

from __future__ import annotations

import importlib
import sys

_SMPLX_MODULES = ["body_models", "joint_names", "lbs", "utils", "vertex_ids", "vertex_joint_selector"]


def install() -> None:
    """From here on, `import smplx` anywhere in this process gives `avatorch.compat.smplx`.

    Call it before anything imports smplx; if something has, there is an ImportError.
    """
    name = f"{__name__}.smplx"
    modules = {"smplx": importlib.import_module(name)}
    modules |= {f"smplx.{part}": importlib.import_module(f"{name}.{part}") for part in _SMPLX_MODULES}
    if sys.modules.get("smplx", modules["smplx"]) is not modules["smplx"]:
        raise ImportError(
            "avatorch.compat.install: another smplx is imported already; install before the first import of smplx"
        )
    sys.modules.update(modules)
