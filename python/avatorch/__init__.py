"""Digital humans inside PyTorch: differentiable body models and exact mel spectrograms."""

from avatorch import _torch_version  # noqa: F401, I001  (checks torch before the compiled module needs it)
from avatorch import _native, audio, batching
from avatorch.body import Body, Posed, open_body
from avatorch.setup import info, library_path, warm_up

__version__: str = _native.build_info()["version"]

batching.register()

__all__ = ["Body", "Posed", "audio", "info", "library_path", "open_body", "warm_up"]
