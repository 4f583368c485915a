"""What is computed here does not depend on the modes and defaults of torch that a caller has set."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from avatorch.face.errors import FaceError

Method = TypeVar("Method", bound=Callable[..., Any])


def undisturbed(method: Method) -> Method:
    """Without derivatives, autocast, a default device, and tensors that only inference mode may change.

    The method's object has a `device`.
    """

    @functools.wraps(method)
    def run(self: Any, *arguments: Any, **options: Any) -> Any:
        elsewhere = torch.get_default_device().type != "cpu"
        place: Any = torch.device("cpu") if elsewhere else contextlib.nullcontext()
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False), place:
            return method(self, *arguments, **options)

    return cast(Method, run)


def tensor_of(values: Any) -> Tensor:
    """A tensor as it is, and arrays or lists of numbers on the CPU, whatever torch's default device."""
    return values if isinstance(values, Tensor) else torch.as_tensor(values, device="cpu")


def device_of(device: torch.device | str) -> torch.device:
    """A device by its name, with a number if it is a GPU."""
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError):
        raise FaceError("eInvalidValue", f"device is {device!r}, expected cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise FaceError("eInvalidValue", f"device is {device}, expected cpu or cuda")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
