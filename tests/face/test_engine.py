"""The engine beside ONNX Runtime, on networks of the published structures in both their forms."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from avatorch.face import read_bundle
from avatorch.face.engine.captured import Captured
from avatorch.face.engine.diffusion import Diffusion
from avatorch.face.engine.precision import precision_of
from avatorch.face.engine.recognise import recognise
from avatorch.face.engine.regression import Regression

# Bundles with networks of the published structure, reduced sizes and random weights; not part of this project.
EXPORTED = Path(os.environ.get("AVATORCH_FACE_BUNDLES", Path(__file__).parents[3] / "shared/data/a2f-dev"))
exported = pytest.mark.skipif(not EXPORTED.is_dir(), reason="needs the exported networks, AVATORCH_FACE_BUNDLES")
FORMS = ["network.onnx", "network.simplified.onnx"]
# Of the largest value. The speech network's own rounding decides; measured 1.1e-3 and 1.8e-2 at these sizes.
TOLERANCES = {"float64": 2e-6, "float32": 1e-4, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 5e-2}
ORDER = ("window", "identity", "emotion", "input_latents")


def network(kind: str, form: str, device: str, precision: str = "float32", **options: bool) -> Diffusion | Regression:
    bundle = read_bundle(EXPORTED / kind)
    weights = recognise(bundle.folder / form, bundle.info)
    made = Diffusion if kind == "diffusion" else Regression
    return made(weights, bundle.info, torch.device(device), precision_of(precision), **options)  # type: ignore[arg-type]


def stored(kind: str, pair: str, device: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value).to(device) for key, value in np.load(EXPORTED / kind / pair).items()}


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


@exported
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pair", ["io_000.npz", "io_001.npz"])
@pytest.mark.parametrize("dense", [False, True])
def test_diffusion(pair: str, form: str, dense: bool, device: str) -> None:
    engine, given = network("diffusion", form, device, dense_position=dense), stored("diffusion", pair, device)
    result = engine(*(given[key] for key in ORDER), engine.embed_noise(given["noise"]))
    frames = engine.frames(result.features, given["identity"])
    expected = given["prediction"][:, 15:45]
    for part in (slice(0, 1200), slice(1200, 1560), slice(1560, 1575), slice(1575, None)):
        assert distance(frames[..., part], expected[..., part]) < TOLERANCES["float32"]
    assert distance(result.latents, given["output_latents"]) < TOLERANCES["float32"]


@exported
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pair", ["io_000.npz", "io_001.npz", "io_002.npz"])
def test_regression(pair: str, form: str, device: str) -> None:
    engine, given = network("regression", form, device), stored("regression", pair, device)
    found = engine(given["input"][:, 0], given["emotion"][:, 0])
    assert distance(found, given["result"][:, 0]) < TOLERANCES["float32"]


@exported
@pytest.mark.parametrize("precision", TOLERANCES)
def test_precisions(precision: str, device: str) -> None:
    engine, given = network("diffusion", FORMS[0], device, precision), stored("diffusion", "io_001.npz", device)
    result = engine(*(given[key] for key in ORDER), engine.embed_noise(given["noise"]))
    frames = engine.frames(result.features, given["identity"])
    assert distance(frames, given["prediction"][:, 15:45]) < TOLERANCES[precision]
    engine, given = network("regression", FORMS[0], device, precision), stored("regression", "io_001.npz", device)
    found = engine(given["input"][:, 0], given["emotion"][:, 0])
    assert distance(found, given["result"][:, 0]) < TOLERANCES[precision]


@exported
@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_captured_block_is_the_block(precision: str) -> None:
    engine, given = network("diffusion", FORMS[0], "cuda", precision), stored("diffusion", "io_001.npz", "cuda")
    embedded = engine.embed_noise(given["noise"])
    tensors = [given[key] for key in ORDER]
    expected = engine(*tensors, embedded)
    captured = Captured(lambda *some: engine(*some, embedded), [torch.zeros_like(tensor) for tensor in tensors])
    found = captured(*tensors)
    assert distance(found.features, expected.features) < TOLERANCES[precision]
    assert distance(found.latents, expected.latents) < TOLERANCES[precision]
