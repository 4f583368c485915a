"""Networks of the published structure beside the results stored with them, and beside our own arithmetic."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from avatorch.face import Executor, FaceError, Part, read_bundle
from avatorch.face.network import open_diffusion, open_regression
from face import bundles

# Bundles with networks of the published structure, reduced sizes and random weights; not part of this project.
EXPORTED = Path(os.environ.get("AVATORCH_FACE_BUNDLES", Path(__file__).parents[3] / "shared/data/a2f-dev"))
exported = pytest.mark.skipif(not EXPORTED.is_dir(), reason="needs the exported networks, AVATORCH_FACE_BUNDLES")


@exported
@pytest.mark.parametrize("name", ["network.onnx", "network.simplified.onnx"])
@pytest.mark.parametrize("pair", ["io_000.npz", "io_001.npz", "io_002.npz"])
def test_regression_pairs(pair: str, name: str, device: str) -> None:
    bundle, stored = read_bundle(EXPORTED / "regression"), np.load(EXPORTED / "regression" / pair)
    network = open_regression(
        bundle.folder / name, bundle.info, torch.device(device, 0) if device == "cuda" else torch.device(device)
    )
    inputs = {key: torch.from_numpy(stored[key]) for key in ("input", "emotion")}
    found = network.run(inputs, {"result": stored["result"].shape})["result"]
    np.testing.assert_allclose(found.cpu(), stored["result"], atol=1e-4 if device == "cuda" else 1e-5)


@exported
@pytest.mark.parametrize("name", ["network.onnx", "network.simplified.onnx"])
@pytest.mark.parametrize("pair", ["io_000.npz", "io_001.npz"])
def test_diffusion_pairs(pair: str, name: str, device: str) -> None:
    bundle, stored = read_bundle(EXPORTED / "diffusion"), np.load(EXPORTED / "diffusion" / pair)
    network = open_diffusion(
        bundle.folder / name, bundle.info, torch.device(device, 0) if device == "cuda" else torch.device(device)
    )
    inputs = {key: torch.from_numpy(stored[key]) for key in ("window", "identity", "emotion", "input_latents", "noise")}
    found = network.run(inputs, {key: stored[key].shape for key in ("prediction", "output_latents")})
    for key, values in found.items():
        np.testing.assert_allclose(values.cpu(), stored[key], atol=2e-4 if device == "cuda" else 2e-5)


@exported
def test_the_stored_stream_is_what_the_executor_runs(device: str) -> None:
    """The windows, the state and the noise of four inferences of one stream."""
    bundle, stored = read_bundle(EXPORTED / "diffusion"), np.load(EXPORTED / "diffusion/io_002.npz")
    assert np.argmax(stored["identity"]) == 0 or stored["identity"].sum() == 1
    face = Executor(
        bundle,
        int(np.argmax(stored["identity"])),
        1,
        device,
        geometry=Part.ALL,
        noise=torch.from_numpy(stored["noise"][0]),
    )
    windows, emotion = stored["window"][:, 0], stored["emotion"][:, 0]
    for k in range(4):
        found = face.inference.infer(
            [0], torch.from_numpy(windows[k : k + 1]).to(device), torch.from_numpy(emotion[k : k + 1]).to(device), [k]
        )
        np.testing.assert_allclose(
            found[0].cpu(), stored["prediction"][k, 0, 15:45], atol=1e-3 if device == "cuda" else 5e-5
        )
    # The audio of these windows, as the accumulator gives it.
    audio = np.concatenate([windows[1][8000:], windows[2][8000:], windows[3][8000:]])
    face.audio[0].accumulate(torch.from_numpy(audio))
    for k in range(4):
        read = face.audio[0].read(face.clock.inferences.start(k), 16000)
        assert read.cpu().numpy().tobytes() == windows[k].tobytes()


@exported
def test_the_stored_windows_of_a_clip(device: str) -> None:
    bundle, stored = read_bundle(EXPORTED / "regression"), np.load(EXPORTED / "regression/io_002.npz")
    face = Executor(bundle, 0, 1, device, frame_rate=30)  # type: ignore[arg-type]
    assert [face.clock.inferences.start(frame) + 4160 for frame in range(4)] == [0, 533, 1066, 1600]
    emotion = torch.from_numpy(stored["emotion"])
    np.testing.assert_array_equal(bundle.identities[0].implicit_emotion, stored["emotion"][0, 0, :16])
    found = face.inference.infer(
        [0] * 4, torch.from_numpy(stored["input"][:, 0]).to(device), emotion[..., 16:].to(device), range(4)
    )
    np.testing.assert_allclose(found.cpu(), stored["result"], atol=1e-4 if device == "cuda" else 1e-5)


def test_a_network_of_our_own_beside_its_arithmetic(tmp_path: Path, device: str) -> None:
    import onnx
    from onnx import numpy_helper

    bundle = read_bundle(bundles.make_regression(tmp_path))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(bundle.network).graph.initializer}
    place = torch.device(device, 0) if device == "cuda" else torch.device(device)
    network = open_regression(bundle.network, bundle.info, place)
    window, emotion = torch.randn(3, 1, 1200) * 0.01, torch.randn(3, 1, 9)
    found = network.run({"input": window, "emotion": emotion}, {"result": (3, 1, 25)})["result"].cpu().numpy()
    heard = np.concatenate([window.double().numpy() @ weights["hear"], emotion.double().numpy()], 2)
    np.testing.assert_allclose(found, np.tanh(heard) @ weights["speak"], atol=2e-5)
    with pytest.raises(FaceError, match="the network cannot be run"):
        network.run({"input": window, "emotion": emotion[:2]}, {"result": (3, 1, 25)})
