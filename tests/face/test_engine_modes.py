"""The engine under torch's modes and defaults, and with arguments that are wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import torch

from avatorch.face import FaceError, read_bundle
from avatorch.face.engine.diffusion import Diffusion
from avatorch.face.engine.regression import Regression
from avatorch.face.engine.session import TorchNetwork
from avatorch.face.engine.streams import FaceStreams
from face.test_engine import EXPORTED, FORMS, ORDER, distance, exported, network, stored


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Callable[[str], AbstractContextManager[object]]] = {
    "float64 by default": lambda _: default_dtype(torch.float64),
    "autocast": lambda device: torch.autocast(device, torch.bfloat16),
    "another device by default": lambda _: torch.device("meta"),
    "inference": lambda _: torch.inference_mode(),
}


def spoken(tracks: int = 2) -> torch.Tensor:
    random = torch.Generator().manual_seed(5)
    return torch.randn(tracks, 16000, generator=random, dtype=torch.float32, device="cpu") * 0.1


def said(streams: FaceStreams, samples: torch.Tensor) -> torch.Tensor:
    streams.set_parameters(1, skin_strength=1.0)
    return torch.cat([block.weights.clone() for block in streams.push(samples)], 1)


@exported
@pytest.mark.parametrize("mode", MODES)
def test_streams_in_every_mode(mode: str, device: str) -> None:
    """Made and used there, they say the same."""
    bundle = read_bundle(EXPORTED / "diffusion")
    expected = said(FaceStreams(bundle, "James", 2, device), spoken())
    with MODES[mode](device):
        streams = FaceStreams(bundle, "James", 2, device)
        found = said(streams, spoken())
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    for track in range(2):  # what was made there is changed elsewhere
        streams.reset(track)
    torch.testing.assert_close(said(streams, spoken()), expected, atol=2e-5, rtol=0)


@exported
@pytest.mark.parametrize("mode", MODES)
def test_networks_in_every_mode(mode: str, device: str) -> None:
    """Computed there with the results that they have elsewhere, and differentiable wherever they were made."""
    given, heard = stored("diffusion", "io_001.npz", device), stored("regression", "io_001.npz", device)
    with MODES[mode](device):
        engine = TorchNetwork(read_bundle(EXPORTED / "diffusion"), torch.device(device)).engine
        other = TorchNetwork(read_bundle(EXPORTED / "regression"), torch.device(device)).engine
        assert isinstance(engine, Diffusion) and isinstance(other, Regression)
        result = engine(*(given[key] for key in ORDER), engine.embed_noise(given["noise"]))
        frames = engine.frames(result.features, given["identity"])
        rows = other(heard["input"][:, 0], heard["emotion"][:, 0])
    assert distance(frames, given["prediction"][:, 15:45]) < 1e-4
    assert distance(rows, heard["result"][:, 0]) < 1e-4
    window, emotion = given["window"].clone().requires_grad_(), heard["emotion"][:, 0].clone().requires_grad_()
    engine(window, *(given[key] for key in ORDER[1:]), engine.embed_noise(given["noise"])).features.sum().backward()
    other(heard["input"][:, 0], emotion).sum().backward()
    for leaf in (window, emotion):
        assert leaf.grad is not None and float(leaf.grad.abs().max()) > 0


@exported
def test_streams_with_wrong_arguments() -> None:
    bundle = read_bundle(EXPORTED / "diffusion")
    streams = FaceStreams(bundle, 0, 2)
    for track in (2, -1, True):
        with pytest.raises(FaceError, match=f"track is {track}, expected 0 to 1"):
            streams.reset(track)
        with pytest.raises(FaceError, match=f"track is {track}, expected 0 to 1"):
            streams.set_parameters(track, skin_strength=1.0)
    noise = torch.zeros(3, 61, bundle.info.values)
    with pytest.raises(FaceError, match=r"noise has shape \[3, 61, \d+\], expected \[3, 60, \d+\]"):
        FaceStreams(bundle, 0, 2, noise=noise, network=streams.network)
    with pytest.raises(FaceError, match=r"tracks is 1\.5, expected at least 1"):
        FaceStreams(bundle, 0, 1.5)  # type: ignore[arg-type]
    with pytest.raises(FaceError, match="device is 'gpu', expected cpu or cuda"):
        FaceStreams(bundle, 0, 1, "gpu")


@exported
def test_networks_with_wrong_shapes(device: str) -> None:
    """They are named, and nothing is computed of samples that are not there or one too many."""
    engine, given = network("diffusion", FORMS[0], device), stored("diffusion", "io_001.npz", device)
    other, heard = network("regression", FORMS[0], device), stored("regression", "io_001.npz", device)
    assert isinstance(engine, Diffusion) and isinstance(other, Regression)
    embedded = engine.embed_noise(given["noise"])
    whole = [*(given[key] for key in ORDER), embedded]
    rows = len(embedded)
    wrong = [
        (0, given["window"][:, 1:], rf"windows is torch.float32 \[{rows}, 15999\], expected floats \[B, 16000\]"),
        (0, given["window"][:0], r"windows is torch.float32 \[0, 16000\], expected floats \[B, 16000\]"),
        (0, given["window"].long(), r"windows is torch.int64 .* expected floats"),
        (1, given["identity"][:, 1:], rf"identity is .*, 2\], expected floats \[{rows}, 3\]"),
        (2, given["emotion"][:, :29], r"emotion is .*, 29, 10\], expected floats"),
        (3, torch.cat([given["input_latents"]] * 2), r"latents is torch.float32 \[4, .* expected floats \[2, 2"),
        (4, given["noise"], r"embedded is .*1579\], expected floats .*, 3, 30, 186\]"),
    ]
    for place, tensor, sentence in wrong:
        with pytest.raises(FaceError, match=sentence):
            engine(*whole[:place], tensor, *whole[place + 1 :])
    with pytest.raises(FaceError, match=rf"blocks is {rows + 1}, expected a divisor of {rows} windows"):
        engine(*whole, rows + 1)
    several = [torch.cat([given[key]] * 2) for key in ("window", "emotion")]
    for count in (2, rows, 2 * rows - 1):  # some would fit a turn of blocks, or be one for all of it
        noise = torch.cat([embedded] * 2)[:count]
        with pytest.raises(FaceError, match=rf"embedded is .* \[{count}, 3, .* floats \[{2 * rows}, 3, 30, 186\]"):
            engine(several[0], given["identity"], several[1], given["input_latents"], noise, 2)
    gates = 3 * engine.info.gru_width
    followed = engine.hear(given["window"], given["emotion"])
    for tensor in (followed[:0], followed[:, 1:], followed[..., 1:], followed[0], followed.sum(), followed.long()):
        with pytest.raises(FaceError, match=rf"heard is torch.* expected floats \[B, 30, {gates}\]"):
            engine.follow(tensor, given["identity"], given["input_latents"], embedded)
    for place in (0, 4):
        with pytest.raises(FaceError, match=r" is torch.float32 \[\], expected floats \["):
            engine(*whole[:place], torch.tensor(0.5, device=device), *whole[place + 1 :])
    with pytest.raises(FaceError, match=r"noise is .* \[\d+, 3, 59, 1579\], expected floats \[B, 3, 60, 1579\]"):
        engine.embed_noise(given["noise"][:, :, 1:])
    window, emotion = heard["input"][:, 0], heard["emotion"][:, 0]
    with pytest.raises(FaceError, match=r"windows is .* 8420\], expected floats \[B, 8320\]"):
        other(torch.cat([window, window[:, :100]], 1), emotion)
    with pytest.raises(FaceError, match=r"emotion is .* 25\], expected floats \[\d+, 26\]"):
        other(window, emotion[:, 1:])
