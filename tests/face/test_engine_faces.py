"""What is built on the engine: weights without geometry, streams in step, gradients; and what happens without it."""

from __future__ import annotations

import os
import struct
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.utils._python_dispatch import TorchDispatchMode

from avatorch.face import Audio2Face, Executor, FaceError, Part, read_bundle
from avatorch.face.bundle import Bundle
from avatorch.face.engine.choice import choose_network
from avatorch.face.engine.diffusion import Diffusion
from avatorch.face.engine.flow import Flow, NotRecognised
from avatorch.face.engine.graph import read_graph
from avatorch.face.engine.merge import merged_copies
from avatorch.face.engine.precision import precision_of
from avatorch.face.engine.recognise import recognise
from avatorch.face.engine.regression import Regression
from avatorch.face.engine.session import TorchDiffusionInference, TorchNetwork, _padded, _turns
from avatorch.face.engine.streams import FaceStreams
from avatorch.face.network import Network
from avatorch.face.products import run_of
from face import bundles

# Bundles with networks of the published structure, reduced sizes and random weights; not part of this project.
EXPORTED = Path(os.environ.get("AVATORCH_FACE_BUNDLES", Path(__file__).parents[3] / "shared/data/a2f-dev"))
exported = pytest.mark.skipif(not EXPORTED.is_dir(), reason="needs the exported networks, AVATORCH_FACE_BUNDLES")
KINDS = ["regression", "diffusion"]


def weights_of(
    bundle: Bundle, device: str, identity: int = 0, **options: object
) -> tuple[Executor, list[torch.Tensor]]:
    """Of two tracks with different samples, emotions and settings."""
    face = Executor(bundle, identity, 2, device, **options)  # type: ignore[arg-type]
    face.set_parameters(1, skin_strength=1.3, face_mask_level=0.4, eyelid_open_offset=0.1, tongue_height_offset=0.3)
    random = torch.Generator().manual_seed(3)
    for track in range(2):
        face.audio[track].accumulate(torch.randn(9000 + 3000 * track, generator=random) * 0.1)
        face.audio[track].close()
        face.emotions[track].accumulate(0, torch.rand(10, generator=random))
        face.emotions[track].close()
    found: list[list[torch.Tensor]] = [[], []]
    for frames in face.run():
        assert frames.weights is not None
        found[frames.track].append(frames.weights)
    return face, [torch.cat(parts) for parts in found]


@exported
@pytest.mark.parametrize("kind", KINDS)
def test_weights_without_geometry_are_those_of_geometry(kind: str, device: str) -> None:
    bundle = read_bundle(EXPORTED / kind)
    rate = {"frame_rate": 15} if kind == "regression" else {}
    runtime, expected = weights_of(bundle, device, engine="onnx", **rate)
    assert isinstance(runtime.network, Network) and runtime.why
    fast, features = weights_of(bundle, device, engine="torch", **rate)
    assert isinstance(fast.network, TorchNetwork) and fast.features is not None and fast.skin is None
    slow, through = weights_of(bundle, device, engine="torch", geometry=Part.ALL, network=fast.network, **rate)
    assert slow.features is None
    for one, other, third in zip(features, through, expected, strict=True):
        assert one.shape == other.shape == third.shape and float(third.std()) > 0.05
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)
        torch.testing.assert_close(one, third, atol=1e-4, rtol=0)


@exported
def test_blocks_of_a_clip_at_once(device: str) -> None:
    """As many as there are, and as the executor makes them."""
    bundle = read_bundle(EXPORTED / "diffusion")
    one, expected = weights_of(bundle, device, engine="torch")
    _, found = weights_of(bundle, device, engine="torch", windows_per_execution=32, network=one.network)
    for some, others in zip(found, expected, strict=True):
        torch.testing.assert_close(some, others, atol=2e-5, rtol=0)
    network, info = one.network, bundle.info
    assert isinstance(network, TorchNetwork) and isinstance(network.engine, Diffusion)
    window, emotion = torch.randn(6, info.window, device=device) * 0.1, torch.rand(6, 30, 10, device=device)
    identity, latents = torch.eye(3, device=device)[:2], torch.randn(2, 2, 2, info.gru_width, device=device)
    embedded = network.engine.embed_noise(torch.randn(6, 3, info.frames, info.values, device=device))
    whole = network.engine(window, identity, emotion, latents, embedded, blocks=3)
    for block in range(3):
        at = slice(block, None, 3)
        step = network.engine(window[at], identity, emotion[at], latents, embedded[at])
        latents = step.latents
        torch.testing.assert_close(whole.features[at], step.features, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(whole.latents, latents, atol=2e-5, rtol=1e-4)
    values = network.engine.frames(whole.features[:3], identity[:1])  # of one face
    for block in range(3):
        single = network.engine.frames(whole.features[block : block + 1], identity[:1])
        torch.testing.assert_close(values[block : block + 1], single)


@exported
def test_clips_of_any_lengths(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together as alone; whatever the lengths, the GRU is that of one block, whose graph is there."""
    face = Audio2Face(read_bundle(EXPORTED / "diffusion"), 0, device)
    keys, replay = set(), TorchNetwork.replay

    def seen(self: TorchNetwork, key: Any, *given: Any) -> Any:
        keys.add(key)
        return replay(self, key, *given)

    monkeypatch.setattr(TorchNetwork, "replay", seen)
    clips = [torch.randn(length) * 0.1 for length in (31_000, 16_000, 0, 333, 40_001)]
    alone = [face(clip).weights for clip in clips]
    assert [key for key in keys if key[0] == "follow"] == [("follow", 1, True)]
    for _ in range(3):  # on a GPU as it is, captured, and from the graph
        torch.testing.assert_close(face(clips[0]).weights, alone[0], atol=0 if device == "cpu" else 2e-5, rtol=0)
    together = face(clips)
    for weights, count, expected in zip(together.weights, together.counts, alone, strict=True):
        torch.testing.assert_close(weights[:count], expected, atol=0 if device == "cpu" else 2e-5, rtol=0)


@exported
def test_rows_are_kept_once(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a turn are gone when the turn behind the next begins: with geometry a block has 10 MB of them."""
    executor = Executor(read_bundle(EXPORTED / "diffusion"), 0, 2, device, geometry=Part.ALL)
    parts: list[weakref.ref[torch.Tensor]] = []
    follow = TorchDiffusionInference._follow

    def seen(self: TorchDiffusionInference, *given: Any) -> torch.Tensor:
        assert sum(part() is not None for part in parts) <= 1
        rows = follow(self, *given)
        parts.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(TorchDiffusionInference, "_follow", seen)
    windows, emotions = torch.randn(6, 16_000, device=device) * 0.1, torch.rand(6, 30, 10)
    with torch.no_grad():
        found = executor.inference.infer([0, 1, 0, 1, 0, 1], windows, emotions, [0, 0, 1, 1, 2, 2])
    assert len(parts) >= 3 and len(found) == 6 and found.isfinite().all()


@exported
@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_for_the_gpu(kind: str) -> None:
    """From samples that are there to weights that nobody has looked at, once everything was seen before."""
    executor = Executor(read_bundle(EXPORTED / kind), 0, 2, "cuda", windows_per_execution=32)
    for repeat in range(4):
        for track in range(2):
            executor.reset(track)
            executor.audio[track].reset()
            executor.emotions[track].reset()
            executor.audio[track].accumulate(torch.randn(20_000) * 0.1)
            executor.audio[track].close()
            executor.emotions[track].accumulate(0, torch.rand(10))
            executor.emotions[track].accumulate(9000, torch.rand(10))
            executor.emotions[track].close()
        torch.cuda.set_sync_debug_mode("error" if repeat == 3 else "default")
        try:
            found = list(executor.run())
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert sum(len(frames) for frames in found) == executor.total_frames(0) * 2


def test_what_a_gpu_is_given() -> None:
    """Rows that are equally far apart without an index, and few sizes of batches, little larger than what is there."""
    gpu = torch.device("cuda")
    assert run_of([4], gpu) == slice(4, 5, 1) and run_of([], gpu) == slice(0, 0, 1)
    for numbers in ([2, 3, 4], [0, 10, 20], [7, 9]):
        assert list(range(30))[run_of(numbers, gpu)] == numbers
    sizes = [len(_padded(torch.empty(count, 2, device="meta"), 256)) for count in range(1, 257)]
    assert all(count <= size <= 1.25 * count for count, size in enumerate(sizes, 1)) and len(set(sizes)) == 28
    assert len(_padded(torch.empty(17, 2, device="meta"), 18)) == 18
    assert _turns([5, 5, 2, 5, 2], 8) == [[0, 2], [1, 4], [3]]
    assert _turns([5, 5, 2, 5, 2], 1) == [[0], [2], [1], [4], [3]]


@exported
@pytest.mark.parametrize("constant", [True, False])
def test_noise_is_that_of_the_runtime(constant: bool, device: str) -> None:
    bundle = read_bundle(EXPORTED / "diffusion")
    options = {"constant_noise": constant, "seed": 7}
    _, expected = weights_of(bundle, device, 1, engine="onnx", **options)
    _, found = weights_of(bundle, device, 1, engine="torch", **options)
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=0)


@exported
def test_streams_in_step_are_tracks_of_an_executor(device: str) -> None:
    bundle = read_bundle(EXPORTED / "diffusion")
    streams = FaceStreams(bundle, "James", 3, device)
    streams.set_parameters(2, skin_strength=1.2, face_mask_level=0.5)
    samples = torch.randn(3, 27000) * 0.1
    found: list[list[torch.Tensor]] = [[], [], []]
    given = samples.clone()
    given[1, :8000] = 1.0  # of somebody before, who is forgotten
    for at in range(0, 27000, 4000):
        if at == 8000:
            streams.reset(1)
            found[1] = []
        for block in streams.push(given[:, at : at + 4000]):
            for track in range(3):
                found[track].append(block.weights[track, block.first[track] :].clone())
    face = Executor(bundle, "James", 3, device, engine="torch", network=streams.network)
    face.set_parameters(2, skin_strength=1.2, face_mask_level=0.5)
    for track in range(3):
        face.audio[track].accumulate(samples[track, 8000 * (track == 1) :])
        face.emotions[track].accumulate(0, bundle.info.default_emotion)
        face.emotions[track].close()
    expected: list[list[torch.Tensor]] = [[], [], []]
    for frames in face.run():
        assert frames.weights is not None
        expected[frames.track].append(frames.weights)
    for track in range(3):
        assert len(torch.cat(found[track])) == 75 - 30 * (track == 1)
        torch.testing.assert_close(torch.cat(found[track]), torch.cat(expected[track]), atol=2e-5, rtol=0)
    with pytest.raises(FaceError, match=r"samples is torch.float32 \[2, 10\], expected floats \[3, samples\]"):
        streams.push(torch.zeros(2, 10))


class Captureable(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: numbers from the host and numbers for it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        assert func.overloadpacket not in (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal), func
        assert func.overloadpacket is not aten.lift_fresh or not args[0].ndim, func  # one number is no copy
        if func.overloadpacket in (aten.index, aten.index_put, aten.index_put_):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), func
        return func(*args, **(kwargs or {}))


@exported
def test_a_block_takes_nothing_from_the_host(device: str) -> None:
    """Once it was computed as it is: also where every track has its settings, poses and pairs."""
    streams = FaceStreams(read_bundle(EXPORTED / "diffusion"), "James", 3, device)
    streams.set_parameters(1, lower_face_smoothing=0.0, upper_face_smoothing=0.1, skin_strength=0.5)
    streams.set_parameters(2, face_mask_level=0.5, tongue_strength=1.2)
    poses = streams._solvers[0].num_poses
    streams._solvers[0].set_poses(1, active=[pose % 3 > 0 for pose in range(poses)])
    samples = torch.randn(3, streams.hop, device=device) * 0.1
    chunk = slice(0, 3)
    with torch.no_grad():
        streams._step(chunk, samples)
    expected = streams._weights.clone()
    for state in (streams._window, streams._latents, *streams._face.states(), *(s.state() for s in streams._solvers)):
        state.zero_()
    for track in range(3):
        streams.reset(track)
    with torch.no_grad(), Captureable():
        streams._step(chunk, samples)
    torch.testing.assert_close(streams._weights, expected, atol=2e-5, rtol=0)
    assert float(expected.std()) > 0.01
    with pytest.raises(AssertionError), Captureable():
        streams._step([0, 2], samples[:2])  # type: ignore[arg-type]


@exported
def test_more_tracks_than_are_heard_at_once(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of each is that of a track among few, also while others begin."""
    bundle = read_bundle(EXPORTED / "diffusion")
    few = FaceStreams(bundle, 0, 5, device)
    monkeypatch.setattr("avatorch.face.engine.streams.MOST_WINDOWS", 2)
    many = FaceStreams(bundle, 0, 5, device, network=few.network)
    for at in range(5):
        if at == 3:
            few.reset(2)
            many.reset(2)
        samples = torch.randn(5, few.hop) * 0.1
        one, other = few.push(samples)[0], many.push(samples)[0]
        assert one.first == other.first
        torch.testing.assert_close(one.weights, other.weights, atol=2e-5, rtol=0)


@exported
def test_gradients(device: str) -> None:
    """Of everything that is heard, felt and looked like, in float64."""
    bundle = read_bundle(EXPORTED / "diffusion")
    weights = recognise(bundle.network, bundle.info)
    engine = Diffusion(weights, bundle.info, torch.device(device), precision_of("float64"))  # type: ignore[arg-type]
    embedded = engine.embed_noise(torch.randn(1, 3, 60, bundle.info.values, device=device))
    window = (torch.randn(1, 16000, device=device) * 0.1).double().requires_grad_()
    identity = torch.rand(1, 3, device=device).double().requires_grad_()
    emotion = torch.rand(1, 30, 10, device=device).double().requires_grad_()
    latents = torch.randn(2, 2, 1, bundle.info.gru_width, device=device).double().requires_grad_()

    def frames(window: torch.Tensor, identity: torch.Tensor, emotion: torch.Tensor, latents: torch.Tensor) -> object:
        result = engine(window, identity, emotion, latents, embedded)
        return engine.frames(result.features[:, ::7], identity), result.latents

    given = (window, identity, emotion, latents)
    assert torch.autograd.gradcheck(frames, given, fast_mode=True, eps=1e-5, atol=1e-5, nondet_tol=1e-9)
    bundle = read_bundle(EXPORTED / "regression")
    weights = recognise(bundle.network, bundle.info)
    other = Regression(weights, bundle.info, torch.device(device), precision_of("float64"))  # type: ignore[arg-type]
    window = (torch.randn(2, bundle.info.window, device=device) * 0.1).double().requires_grad_()
    emotion = torch.rand(2, 26, device=device).double().requires_grad_()
    assert torch.autograd.gradcheck(other, (window, emotion), fast_mode=True, eps=1e-5, atol=1e-5, nondet_tol=1e-9)


@exported
def test_gradients_through_a_clip(device: str) -> None:
    """Of blocks that follow one another, with noise of each or one for all: those of one call for each block."""
    bundle = read_bundle(EXPORTED / "diffusion")
    weights = recognise(bundle.network, bundle.info)
    engine = Diffusion(weights, bundle.info, torch.device(device), precision_of("float64"))  # type: ignore[arg-type]
    options: dict[str, Any] = {"dtype": torch.float64, "device": device}
    noise = torch.randn(6, 3, 60, bundle.info.values, **options)
    for embedded in (engine.embed_noise(noise), engine.embed_noise(noise[:1])):
        given = [
            torch.randn(6, 16_000, **options) * 0.1, torch.rand(2, 3, **options), torch.rand(6, 30, 10, **options),
            torch.randn(2, 2, 2, bundle.info.gru_width, **options), embedded,
        ]  # fmt: skip
        for tensor in given:
            tensor.requires_grad_()
        window, identity, emotion, latents, embedded = given
        whole, features = engine(*given, blocks=3), []
        for block in range(3):
            own = slice(block, None, 3)
            felt = embedded if len(embedded) == 1 else embedded[own]
            result = engine(window[own], identity, emotion[own], latents, felt)
            features.append(result.features)
            latents = result.latents
        expected = torch.stack(features, 1).flatten(0, 1), latents
        ways = [torch.randn_like(part) for part in expected]
        found, others = (torch.autograd.grad(results, given, ways) for results in (tuple(whole), expected))
        for one, other in zip((*whole, *found), (*expected, *others), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
            assert float(one.detach().std()) > 0


@exported
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_calls_as_the_runtime(kind: str, device: str) -> None:
    bundle, stored = read_bundle(EXPORTED / kind), np.load(EXPORTED / kind / "io_001.npz")
    network = choose_network(bundle, torch.device(device))
    assert isinstance(network, TorchNetwork) and network.why == ""
    names = ("result",) if kind == "regression" else ("prediction", "output_latents")
    inputs = {key: torch.from_numpy(stored[key]) for key in stored.files if key not in names}
    found = network.run(inputs, {key: stored[key].shape for key in names})
    for key in names:
        largest = np.abs(stored[key]).max()
        np.testing.assert_allclose(found[key].cpu(), stored[key], atol=1e-4 * largest)


@exported
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_differs_is_left_to_the_runtime(kind: str, tmp_path: Path) -> None:
    """Wherever one operation is another, the reason is said."""
    bundle = read_bundle(EXPORTED / kind)
    model = onnx.load(EXPORTED / kind / "network.simplified.onnx")
    changes = {"Erf": "Tanh", "Softmax": "Sigmoid", "Sqrt": "Abs", "InstanceNormalization": "Unknown", "Concat": "Sum"}
    changes |= {"GRU": "LSTM", "Relu": "Sigmoid"} if kind == "diffusion" else {"LeakyRelu": "Sigmoid"}
    for before, after in changes.items():
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        last = [node for node in changed.graph.node if node.op_type == before and "Shape" not in node.name][-1]
        last.op_type = after
        onnx.save(changed, tmp_path / "network.onnx")
        if before == "Concat" and not any(
            name in Flow(read_graph(tmp_path / "network.onnx"))._alive for name in last.input
        ):
            continue
        with pytest.raises(NotRecognised, match=r"\w"):
            recognise(tmp_path / "network.onnx", bundle.info)


def test_engines_by_choice(tmp_path: Path) -> None:
    bundle = read_bundle(bundles.make_regression(tmp_path))
    face = Audio2Face(bundle)
    assert "comes from MatMul, expected Concat" in face.why
    assert Audio2Face(bundle, engine="onnx").why == "ONNX Runtime was asked for"
    with pytest.raises(FaceError, match=r"network\.onnx: is no network that torch computes here: .* expected Concat"):
        Executor(bundle, engine="torch")
    with pytest.raises(FaceError, match="engine is 'tensor', expected one of auto, torch, onnx"):
        Executor(bundle, engine="tensor")
    with pytest.raises(FaceError, match="precision is 'half', expected one of float64, float32, tf32"):
        Executor(bundle, precision="half")
    with pytest.raises(FaceError, match=r"ONNX Runtime computes in float32, not in float16: .* expected Concat"):
        Executor(bundle, precision="float16")


@exported
def test_copies_in_a_file_are_merged_to_the_last_bit() -> None:
    import onnxruntime

    path = EXPORTED / "diffusion" / "network.onnx"
    merged = merged_copies(path)
    assert merged is not None
    onnx.checker.check_model(onnx.load_from_string(merged))
    stored = np.load(EXPORTED / "diffusion" / "io_000.npz")
    inputs = {key: stored[key] for key in ("window", "identity", "emotion", "input_latents", "noise")}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    before, after = (onnxruntime.InferenceSession(source, options) for source in (str(path), merged))
    for one, other in zip(before.run(None, inputs), after.run(None, inputs), strict=True):
        assert one.tobytes() == other.tobytes()
    assert merged_copies(EXPORTED / "diffusion" / "network.simplified.onnx") is None


def test_files_read_as_the_package_onnx_reads_them(tmp_path: Path) -> None:
    bundle = read_bundle(bundles.make_diffusion(tmp_path))
    graph, model = read_graph(bundle.network), onnx.load(bundle.network).graph
    assert [(node.kind, node.inputs, node.outputs) for node in graph.nodes] == [
        (node.op_type, list(node.input), list(node.output)) for node in model.node
    ]
    assert graph.inputs == [value.name for value in model.input]
    for tensor in model.initializer:
        assert np.array_equal(graph.tensors[tensor.name].load().numpy(), numpy_helper.to_array(tensor))


def test_damaged_files(tmp_path: Path) -> None:
    """Whatever is in a file, it is a network or one sentence."""
    whole = read_bundle(bundles.make_regression(tmp_path)).network.read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "bad.onnx"
    contents = [whole[:end] for end in (0, 1, 10, len(whole) // 2, len(whole) - 1)]
    for _ in range(150):
        changed = bytearray(whole)
        for at in random.integers(0, min(len(whole), 3000), 4):
            changed[at] = random.integers(0, 256)
        contents.append(bytes(changed))
    # A tensor of more values than the file has bytes, and one in a file elsewhere.
    tensor = b"\x08\xff\xff\xff\xff\x07\x10\x01\x42\x01w\x4a\x00"
    outside = b"\x08\x01\x10\x01\x42\x01w\x70\x01\x6a\x15" + b"\x0a\x08location\x12\x09../secret"
    for part in (tensor, outside):
        graph = b"\x2a" + bytes([len(part)]) + part
        contents.append(b"\x3a" + struct.pack("B", len(graph)) + graph)
    refused = 0
    for content in contents:
        path.write_bytes(content)
        try:
            read_graph(path)
        except FaceError as error:
            refused += "bad.onnx" in str(error)
        assert merged_copies(path) is None
    assert refused > 20
