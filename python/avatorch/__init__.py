"""Digital humans inside PyTorch: differentiable bodies, faces from speech, exact mel spectrograms."""

import importlib  # noqa: I001
from types import ModuleType

from avatorch import _requirements  # noqa: F401  (before the compiled module)
from avatorch import _native, audio, batching, joint_names
from avatorch.body import Body, open_body
from avatorch.rig import Posed, plain_torch
from avatorch.setup import info, library_path, warm_up

__version__: str = _native.build_info()["version"]

batching.register()

__all__ = ["Body", "Posed", "audio", "info", "joint_names", "library_path", "open_body", "plain_torch", "warm_up"]

_WITH_NUMPY = ("compat", "export", "face", "fit", "motion", "serve")  # imported when first asked for


def __getattr__(name: str) -> ModuleType:
    if name in _WITH_NUMPY:
        return importlib.import_module(f"avatorch.{name}")
    raise AttributeError(f"module 'avatorch' has no attribute {name!r}")
