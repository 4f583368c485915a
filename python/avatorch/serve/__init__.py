"""Speech to face as a service, over HTTP and WebSocket: `avatorch serve --model BUNDLE`.

    service = Service("audio2face-3d-v3.0", device="cuda", limits=Limits(tracks=128))
    Server(service, port=8000).run()

`create_app(service)` is an ASGI application for another server. It needs `pip install avatorch[serve]`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from avatorch.serve.limits import Limits

if TYPE_CHECKING:
    from avatorch.serve.app import create_app
    from avatorch.serve.server import Server
    from avatorch.serve.service import Service

__all__ = ["Limits", "Server", "Service", "create_app"]

_WITH_PACKAGES = {"Server": "server", "Service": "service", "create_app": "app"}  # imported when first asked for


def __getattr__(name: str) -> Any:
    if name not in _WITH_PACKAGES:
        raise AttributeError(f"module 'avatorch.serve' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"avatorch.serve.{_WITH_PACKAGES[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"a service needs the package {error.name}: pip install 'avatorch[serve]'") from error
