"""Arguments that cannot be, the modes of torch, threads, and what is interrupted: a sentence, or the same numbers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from avatorch.face import (
    Audio2Face,
    Audio2FaceSDK,
    Bundle,
    EmotionAccumulator,
    Executor,
    FaceError,
    InteractiveExecutor,
    Layer,
    Part,
    SolverParameters,
    read_bundle,
    save,
)
from avatorch.face.network import open_network
from face import bundles

EXPORTED = Path(os.environ.get("AVATORCH_FACE_BUNDLES", Path(__file__).parents[3] / "shared/data/a2f-dev"))
NAN = float("nan")


@pytest.fixture(scope="module", params=["regression", "diffusion"])
def exported(request: pytest.FixtureRequest) -> Bundle:
    """A network of the published structure, which torch runs."""
    if not EXPORTED.is_dir():
        pytest.skip("needs the exported networks, AVATORCH_FACE_BUNDLES")
    return read_bundle(EXPORTED / request.param)


@pytest.fixture(scope="module", params=["regression", "diffusion"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    make = bundles.make_regression if request.param == "regression" else bundles.make_diffusion
    return read_bundle(make(tmp_path_factory.mktemp(request.param)))


def clip(samples: int = 3000, number: int = 0) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(number), dtype=torch.float32, device="cpu") / 20


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda face: face(torch.tensor([0.0, NAN])), "samples hold values that are not finite"),
        (lambda face: face(torch.tensor(1.0)), r"audio has a clip of torch.float32 \[\], expected floats"),
        (lambda face: face(torch.zeros(2, 2, 2)), r"audio has a clip of torch.float32 \[2, 2\]"),
        (lambda face: face(clip(), 0), "sample_rate is 0 Hz, expected 1000 to 768000"),
        (lambda face: face(clip(), 1500.5), "sample_rate is 1500.5 Hz"),
        (lambda face: face(clip(), "fast"), "sample_rate is 'fast' Hz"),
        (lambda face: face.stream(0), "sample_rate is 0 Hz"),
        (lambda face: face(clip(), emotion=[]), r"emotion is \[\], expected a vector, names with strengths, or a list"),
        (lambda face: face(clip(), emotion="anger"), "emotion is 'anger', expected a vector"),
        (lambda face: face(clip(), emotion=[1]), "emotion has the key 1, expected"),
        (lambda face: face(clip(), emotion=[(NAN, {})]), r"emotion has the key \(nan, {}\)"),
        (lambda face: face(clip(), emotion=[(0.0, 3)]), "emotion is 3, expected a vector or names"),
        (lambda face: face(clip(), emotion={"anger": NAN}), "expected finite strengths"),
        (lambda face: face(clip(), emotion={"anger": "much"}), "emotion anger is 'much', expected a number"),
        (lambda face: face.stream().push(torch.zeros(5, dtype=torch.int16)), "samples is torch.int16"),
        (lambda face: face.stream(3000).push(torch.full((5,), NAN)), "samples hold values that are not finite"),
        (lambda face: face.stream().push(torch.zeros(2, 5)), r"samples is torch.float32 of shape \[2, 5\]"),
        (lambda face: Audio2Face(face.bundle, frame_rate=NAN), "frame_rate is nan, expected a positive number"),
        (lambda face: Audio2Face(face.bundle, True), "identity is True, expected a name or a number"),
        (lambda face: Audio2Face(face.bundle, None), "identity is None"),
        (lambda face: Audio2Face(face.bundle, device="meta")(clip()), "device is meta, expected cpu or cuda"),
        (lambda face: Audio2Face(face.bundle, settings={"skin_strength": "1"})(clip()), "skin_strength is '1'"),
        (lambda face: Audio2Face(face.bundle, input_strength=NAN)(clip()), "input_strength is nan"),
        (lambda face: Executor(face.bundle, windows_per_execution=0), "windows_per_execution is 0, expected at"),
        (lambda face: Executor(face.bundle, seed=1 << 70), "seed is 1180591620717411303424"),
        (lambda face: Executor(face.bundle, tracks=10**12), "tracks is 1000000000000, expected 1 to 65536"),
        (lambda face: Executor(face.bundle, tracks=1.5), "tracks is 1.5, expected 1 to"),
        (lambda face: EmotionAccumulator(4).accumulate(NAN, torch.zeros(4)), "timestamp is nan, expected"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_sentence(bundle: Bundle, call: Any, sentence: str) -> None:
    with pytest.raises(FaceError, match=sentence):
        call(Audio2Face(bundle))


def test_a_state_that_would_fill_the_memory(tmp_path: Path) -> None:
    bundle = read_bundle(bundles.make_diffusion(tmp_path))
    info = replace(bundle.info, steps=1000, gru_layers=64, gru_width=65536)
    with pytest.raises(FaceError, match="are too many"):
        open_network(bundle.network, info, torch.device("cpu"))


@pytest.mark.parametrize("track", [-1, 2, True, 1.0])
def test_a_track_that_is_not_there(bundle: Bundle, track: Any) -> None:
    face = Executor(bundle, tracks=2)
    solver = face.skin_solver
    assert solver is not None
    for call in (
        lambda: face.set_parameters(track, skin_strength=1.0),
        lambda: face.parameters(track),
        lambda: face.reset(track),
        lambda: solver.set_parameters(track, SolverParameters()),
        lambda: solver.set_poses(track, offsets=[0.0] * 52),
        lambda: solver.parameters(track),
        lambda: solver.poses(track),
    ):
        with pytest.raises(FaceError, match=f"track is {track!r}, expected 0 to 1") as caught:
            call()
        assert caught.value.code == "eOutOfRange"


def test_numbers_of_other_kinds_are_settings(bundle: Bundle) -> None:
    expected = Audio2Face(bundle, settings={"skin_strength": 0.5})(clip()).weights
    assert torch.equal(Audio2Face(bundle, settings={"skin_strength": np.float32(0.5)})(clip()).weights, expected)
    whole = Audio2Face(bundle, settings={"skin_strength": 1})(clip()).weights
    assert torch.equal(whole, Audio2Face(bundle)(clip()).weights)


def test_arrays_and_lists_of_them_are_audio(bundle: Bundle) -> None:
    face, samples = Audio2Face(bundle), clip()
    expected = face(samples).weights
    assert torch.equal(face(samples.numpy()).weights, expected)
    assert torch.equal(face([samples.numpy(), samples.double()]).weights[1], expected)
    stream = face.stream()
    assert torch.equal(torch.cat([stream.push(samples.numpy()), stream.close()]), expected)
    with pytest.raises(FaceError, match=r"audio has shape \[2, 100\], expected one clip"):
        Audio2FaceSDK(bundle, device="cpu").process_audio(np.zeros((2, 100), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [(0, 0, 1), (1,) * 60, (7,) * 100, (997, 991), (0, 13, 0, 13)])
@pytest.mark.parametrize("rate", [None, 1000, 44100])
def test_chunks_of_any_size(bundle: Bundle, sizes: tuple[int, ...], rate: int | None) -> None:
    face, samples = Audio2Face(bundle), clip(1500)
    stream, at, parts = face.stream(rate), 0, []
    for size in sizes:
        parts.append(stream.push(samples[at : at + size]))
        at += size
    parts += [stream.push(samples[at:]), stream.close()]
    assert torch.equal(torch.cat(parts), face(samples, rate).weights)
    with pytest.raises(FaceError, match="pushed into a stream that is closed"):
        stream.push(samples)


def spoken(face: Audio2Face) -> tuple[Tensor, Tensor, Tensor]:
    """A clip, a stream at another rate, and one frame alone."""
    samples, stream = clip(), face.stream(3000)
    streamed = torch.cat([stream.push(samples[:1001]), stream.push(samples[1001:]), stream.close()])
    edited = InteractiveExecutor(face.bundle)
    edited.audio.accumulate(samples)
    edited.audio.close()
    edited.emotions.accumulate(0, face.bundle.info.default_emotion)
    edited.emotions.close()
    alone = edited.compute_frame(1).weights
    assert alone is not None
    return face(samples).weights, streamed, alone


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> tuple[Tensor, Tensor, Tensor]:
    return spoken(Audio2Face(bundle))


@pytest.fixture(params=["float64", "autocast", "inference mode", "default device"])
def mode(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "float64":
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)
        return
    modes = {
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
        "inference mode": torch.inference_mode(),
        "default device": torch.device("meta"),
    }
    with modes[request.param]:
        yield


def test_the_modes_of_torch_change_nothing(bundle: Bundle, expected: tuple[Tensor, ...], mode: None) -> None:
    again = read_bundle(bundle.folder)
    for found, wanted in zip(spoken(Audio2Face(again)), expected, strict=True):
        assert found.dtype == torch.float32 and torch.equal(found, wanted)


@pytest.fixture(scope="module")
def said(exported: Bundle) -> Tensor:
    return Audio2Face(exported)(clip()).weights


def test_nor_do_they_where_torch_runs_the_network(exported: Bundle, said: Tensor, mode: None) -> None:
    face = Audio2Face(exported)
    assert torch.equal(face(clip()).weights, said) and not face.why


def test_what_inference_mode_made_works_outside(bundle: Bundle, expected: tuple[Tensor, ...]) -> None:
    with torch.inference_mode():
        face, stream = Audio2Face(bundle), Audio2Face(bundle).stream(3000)
        face(clip(100))
        parts = [stream.push(clip()[:1001])]
    assert torch.equal(face(clip()).weights, expected[0])
    parts += [stream.push(clip()[1001:]), stream.close()]
    assert torch.equal(torch.cat(parts), expected[1])
    face.stream().push(clip().requires_grad_())


def test_threads_that_share_a_face(bundle: Bundle) -> None:
    """Clips and streams at once, of one network."""
    face, clips = Audio2Face(bundle), [clip(800 + 300 * number, number) for number in range(6)]
    wanted = [Audio2Face(bundle)(samples).weights for samples in clips]
    found: dict[int, list[Tensor]] = {}

    def speak(number: int) -> None:
        stream = face.stream()
        parts = [stream.push(part) for part in clips[number].split(97)]
        found[number] = [face(clips[number]).weights, torch.cat([*parts, stream.close()])]

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, weights in enumerate(wanted):
        assert all(torch.equal(values, weights) for values in found[number])


def test_a_call_within_a_call_and_one_that_was_interrupted(bundle: Bundle, expected: tuple[Tensor, ...]) -> None:
    face, nested = Audio2Face(bundle), []

    def again(done: int, total: int) -> None:
        if not nested:
            nested.append(face(clip()).weights)

    assert torch.equal(face(clip(), progress=again).weights, expected[0]) and torch.equal(nested[0], expected[0])

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        face(clip(2000, 1), progress=stop)
    assert torch.equal(face(clip()).weights, expected[0])


def edited(bundle: Bundle) -> InteractiveExecutor:
    face = InteractiveExecutor(bundle, geometry=Part.ALL)
    face.audio.accumulate(clip())
    face.audio.close()
    face.emotions.accumulate(0, torch.zeros(4))
    face.emotions.close()
    return face


def test_a_frame_while_all_frames_are_computed(bundle: Bundle) -> None:
    wanted = list(edited(bundle).compute_all_frames())
    face, found = edited(bundle), []
    for frames in face.compute_all_frames():
        found.append(frames)
        face.compute_frame(len(found) - 1)
    for one, other in zip(found, wanted, strict=True):
        assert one.eyes is not None and other.eyes is not None and torch.equal(one.eyes, other.eyes)
        assert one.weights is not None and other.weights is not None and torch.equal(one.weights, other.weights)


def test_a_second_computation_ends_the_first_and_changes_stay_invalid(bundle: Bundle) -> None:
    face = edited(bundle)
    first = face.compute_all_frames()
    next(first)
    second = list(face.compute_all_frames())
    with pytest.raises(FaceError) as caught:
        next(first)
    assert caught.value.code == "eInterrupted" and face.is_valid(Layer.ALL)
    assert len(second) == len(list(edited(bundle).compute_all_frames()))
    third = face.compute_all_frames()
    next(third)
    face.set_parameters(skin_strength=0.5)
    list(third)
    assert not face.is_valid(Layer.SKIN)
    for frame in (True, 1.0, -1):
        with pytest.raises(FaceError, match=f"frame is {frame!r}, expected 0 to"):
            face.compute_frame(frame)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["csv", "json", "npz"])
def test_weights_that_no_file_can_hold(tmp_path: Path, ending: str) -> None:
    path, names = tmp_path / f"weights.{ending}", ("jawOpen", "mouthClose")
    for weights, fps, sentence in (
        (torch.zeros(2, 3, 2), 60.0, r"weights has shape \[2, 3, 2\], expected one clip \[frames, 2\]"),
        (torch.zeros(3, 1), 60.0, r"weights has shape \[3, 1\]"),
        (torch.full((3, 2), NAN), 60.0, "weights hold values that are not finite"),
        (torch.zeros(3, 2), 0.0, "fps is 0.0, expected more than 0"),
        (torch.zeros(3, 2), NAN, "fps is nan"),
    ):
        with pytest.raises(ValueError, match=sentence):
            save(path, weights, names, fps)
    assert not path.exists()
    save(path, np.zeros((3, 2)), names, 29.97)
    assert path.stat().st_size > 0
