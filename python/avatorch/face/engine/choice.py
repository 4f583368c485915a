"""Which of the two computes a network: torch, or ONNX Runtime."""

from __future__ import annotations

import torch
from torch import Tensor

from avatorch.face.bundle import Bundle, Identity
from avatorch.face.engine.flow import NotRecognised
from avatorch.face.engine.precision import precision_of
from avatorch.face.engine.session import TorchDiffusionInference, TorchNetwork, TorchRegressionInference
from avatorch.face.errors import FaceError
from avatorch.face.inference import Inference
from avatorch.face.network import Network, open_network

ENGINES = ("auto", "torch", "onnx")
AnyNetwork = Network | TorchNetwork


def choose_network(
    bundle: Bundle,
    device: torch.device,
    engine: str = "auto",
    precision: str = "float32",
    *,
    tf32: bool = False,
    tensorrt: bool = False,
) -> AnyNetwork:
    """Opens it. "auto" takes torch where the structure is known; else the network's `why` says what differs."""
    if engine not in ENGINES:
        raise FaceError("eInvalidValue", f"engine is {engine!r}, expected one of {', '.join(ENGINES)}")
    precision_of(precision)
    why = "" if engine == "auto" and not tensorrt else "ONNX Runtime was asked for"
    if not why or engine == "torch":
        try:
            return TorchNetwork(bundle, device, "tf32" if tf32 and precision == "float32" else precision)
        except NotRecognised as reason:
            if engine == "torch":
                raise FaceError(
                    "eUnsupported", f"{bundle.network.name}: is no network that torch computes here: {reason}"
                ) from None
            why = str(reason)
        except FaceError as error:
            if engine == "torch":
                raise
            why = str(error)
    if precision != "float32":
        raise FaceError("eUnsupported", f"ONNX Runtime computes in float32, not in {precision}: {why}")
    network = open_network(bundle.network, bundle.info, device, tf32=tf32, tensorrt=tensorrt)
    network.why = why
    return network


def torch_inference(
    network: TorchNetwork,
    bundle: Bundle,
    identity: Identity,
    tracks: int,
    noise: Tensor | None,
    constant_noise: bool,
    seed: int,
    *,
    features: bool,
) -> Inference:
    """For a network that torch computes."""
    if bundle.info.kind == "regression":
        return TorchRegressionInference(bundle, identity, network.device, network)
    return TorchDiffusionInference(
        bundle, identity, tracks, network.device, network, noise, constant_noise, seed, features=features
    )
