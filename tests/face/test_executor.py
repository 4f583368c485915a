"""Tracks: whatever the chunks and whoever else is there, the same frames; and the rules of the SDK."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatorch.face import Bundle, Executor, FaceError, Frames, Part, read_bundle
from face import bundles

PARTS = ("skin", "tongue", "jaw", "eyes", "weights")
SAMPLES = 4321


@pytest.fixture(scope="module", params=["regression", "diffusion"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    make = bundles.make_regression if request.param == "regression" else bundles.make_diffusion
    return read_bundle(make(tmp_path_factory.mktemp(request.param)))


def executor(bundle: Bundle, tracks: int = 1, device: str = "cpu", **options: object) -> Executor:
    rate = Fraction(40000, 1001) if bundle.info.kind == "regression" else None
    return Executor(bundle, 0, tracks, device, **{"geometry": Part.ALL, "frame_rate": rate, **options})  # type: ignore[arg-type]


def clip(number: int, samples: int = SAMPLES) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(number)) * 0.05


def feel(face: Executor, track: int, number: int = 0) -> None:
    generator = torch.Generator().manual_seed(number)
    for key in (-300, 500, 2500, 4000):
        face.emotions[track].accumulate(key, torch.rand(4, generator=generator))
    face.emotions[track].close()


def joined(found: list[Frames], track: int = 0) -> dict[str, Tensor]:
    own = [frames for frames in found if frames.track == track]
    first = 0
    for frames in own:
        assert frames.first == first
        first += len(frames)
    return {name: torch.cat([getattr(frames, name) for frames in own]) for name in PARTS}


def whole(bundle: Bundle, number: int = 0, **options: object) -> dict[str, Tensor]:
    face = executor(bundle, **options)
    feel(face, 0, number)
    face.audio[0].accumulate(clip(number))
    face.audio[0].close()
    return joined(list(face.run()))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], device: str = "cpu") -> None:
    for name in PARTS:
        if device == "cpu":
            assert torch.equal(found[name], expected[name]), name
        else:
            torch.testing.assert_close(found[name].cpu(), expected[name], atol=2e-3, rtol=1e-3)


def test_counts_shapes_and_moments(bundle: Bundle, device: str) -> None:
    found = whole(bundle, device=device)
    rate = executor(bundle).frame_rate
    frames = -(-SAMPLES * rate.numerator // (2000 * rate.denominator))
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    assert shapes == {
        "skin": (frames, 37, 3), "tongue": (frames, 11, 3), "jaw": (frames, 4, 4), "eyes": (frames, 2, 3),
        "weights": (frames, 59),
    }  # fmt: skip
    assert all(tensor.isfinite().all() and tensor.device.type == device for tensor in found.values())
    assert_same(found, whole(bundle), device)


def test_any_chunks_give_the_same_bits(bundle: Bundle) -> None:
    expected = whole(bundle)
    random.seed(1)
    for most in (1500, 300, 40):
        face, found, at = executor(bundle), [], 0
        feel(face, 0)
        while at < SAMPLES:
            size = random.randint(1, most)
            face.audio[0].accumulate(clip(0)[at : at + size])
            at += size
            found += face.run()
            face.audio[0].drop_before(face.next_audio_sample(0))
            face.emotions[0].drop_before(face.next_emotion_timestamp(0))
        face.audio[0].close()
        found += face.run()
        assert_same(joined(found), expected)


def test_tracks_do_not_disturb_each_other(bundle: Bundle, device: str) -> None:
    """Five tracks that start, pause, end and begin again at different times."""
    face, found = executor(bundle, 5, device), []
    at = [0] * 5
    random.seed(2)
    for track in range(5):
        feel(face, track, track)
    for step in range(60):
        for track in range(step % 2, 5, 2) if step < 40 else range(5):
            if at[track] < SAMPLES and random.random() < 0.8:
                part = clip(track)[at[track] : at[track] + random.randint(1, 400)]
                face.audio[track].accumulate(part)
                at[track] += len(part)
                if at[track] >= SAMPLES:
                    face.audio[track].close()
        if step == 20:  # track 3 was somebody else until now
            face.reset(3)
            found = [frames for frames in found if frames.track != 3]
        if face.ready_tracks():
            found += face.execute()
    for track in range(5):
        while at[track] < SAMPLES:
            part = clip(track)[at[track] : at[track] + 999]
            face.audio[track].accumulate(part)
            at[track] += len(part)
        if not face.audio[track].is_closed:
            face.audio[track].close()
    found += face.run()
    for track in range(5):
        assert_same(joined(found, track), whole(bundle, track), device)


def test_settings_of_one_track(bundle: Bundle) -> None:
    face = executor(bundle, 2)
    for track in range(2):
        feel(face, track)
        face.audio[track].accumulate(clip(0))
        face.audio[track].close()
    face.set_parameters(1, tongue_strength=0.0, tongue_height_offset=0.0, tongue_depth_offset=0.0, skin_strength=0.5)
    found = list(face.run())
    assert_same(joined(found, 0), whole(bundle))
    assert torch.equal(joined(found, 1)["tongue"][3], bundle.identities[0].neutral_tongue)
    assert not torch.equal(joined(found, 1)["skin"], joined(found, 0)["skin"])
    assert face.parameters(1).skin_strength == 0.5


def test_poses_of_one_track_while_it_runs(bundle: Bundle, device: str) -> None:
    """The middle track loses and gains poses, weights are multiplied and raised; the others do not notice."""
    face, found = executor(bundle, 3, device), []
    poses = bundle.identities[0].skin.poses
    for track in range(3):
        feel(face, track)
    assert face.skin_solver is not None and face.tongue_solver is not None
    fewer = [on and pose % 3 > 0 for pose, on in enumerate(poses.active)]
    halves = torch.linspace(0.5, 1.5, 52)
    for begin in range(0, SAMPLES, 1500):
        if begin == 1500:
            face.skin_solver.set_poses(1, active=fewer, multipliers=halves, offsets=[0.25] * 52)
            face.tongue_solver.set_poses(1, active=[0] * 7, offsets=[0.0] * 7)
        if begin == 3000:
            face.skin_solver.set_poses(1, active=poses.active, cancel=range(52), multipliers=[1.0] * 52)
        for track in range(3):
            face.audio[track].accumulate(clip(0)[begin : begin + 1500])
        found += face.run()
        changed = next(frames for frames in reversed(found) if frames.track == 1)
        assert changed.weights is not None
        if begin == 1500:
            inactive = torch.tensor(fewer).logical_not()
            assert (changed.weights[:, :52][:, inactive] == 0.25).all() and (changed.weights[:, 52:] == 0).all()
            assert (changed.weights[:, :52] <= halves.to(device) + 0.25).all()
    for track in range(3):
        face.audio[track].close()
    found += face.run()
    for track in (0, 2):
        assert_same(joined(found, track), whole(bundle), device)
    assert face.skin_solver.poses(0) == poses and face.skin_solver.poses(1).offsets == (0.25,) * 52


def test_the_emotions_that_were_used(bundle: Bundle) -> None:
    face = executor(bundle)
    feel(face, 0)
    face.audio[0].accumulate(clip(0))
    face.audio[0].close()
    seen = []
    while face.ready_tracks():
        face.execute(lambda frame: seen.append((frame.timestamps[0], frame.emotions)))  # type: ignore[func-returns-value]
    assert len(seen) == face.total_frames(0)
    for moment, emotions in seen:
        assert emotions is not None and torch.equal(emotions[0], face.emotions[0].read(moment))


def test_only_weights_are_the_same_weights(bundle: Bundle) -> None:
    """What the solver does not look at is then not computed."""
    rate = executor(bundle).frame_rate if bundle.info.kind == "regression" else None
    face = Executor(bundle, frame_rate=rate)
    feel(face, 0)
    face.audio[0].accumulate(clip(0))
    face.audio[0].close()
    found = list(face.run())
    assert all(frames.skin is None and frames.jaw is None for frames in found)
    weights = torch.cat([frames.weights for frames in found if frames.weights is not None])
    torch.testing.assert_close(weights, whole(bundle)["weights"], atol=2e-5, rtol=0)


def test_windows_at_once(tmp_path: Path, device: str) -> None:
    bundle = read_bundle(bundles.make_regression(tmp_path))
    assert_same(whole(bundle, windows_per_execution=7, device=device), whole(bundle), device)


def test_noise_and_seeds(tmp_path: Path) -> None:
    bundle = read_bundle(bundles.make_diffusion(tmp_path))
    constant = whole(bundle)["skin"]
    fresh = whole(bundle, constant_noise=False)["skin"]
    assert torch.equal(fresh, whole(bundle, constant_noise=False)["skin"])
    assert not torch.equal(constant, whole(bundle, seed=1)["skin"]) and not torch.equal(constant, fresh)
    given = torch.randn(3, 12, bundle.info.values, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole(bundle, noise=given)["skin"], constant)
    with pytest.raises(FaceError, match=r"noise has shape \[3, 12\], expected \[3, 12, "):
        executor(bundle, noise=given[..., 0])


def test_the_strength_of_the_input(bundle: Bundle) -> None:
    """A diffusion bundle's own is not used, as in the SDK."""
    stored = 1.0 if bundle.info.kind == "diffusion" else bundle.identities[0].input_strength
    assert executor(bundle).input_strength == stored
    face = executor(bundle)
    face.input_strength = 2.0
    feel(face, 0)
    face.audio[0].accumulate(clip(0) / 2)
    face.audio[0].close()
    assert_same(joined(list(face.run())), whole(bundle))
    with pytest.raises(FaceError) as caught:
        face.input_strength = 1.0
    assert caught.value.code == "eExecutionAlreadyStarted"


def test_emotions_limit_what_is_ready(bundle: Bundle) -> None:
    face = executor(bundle)
    face.audio[0].accumulate(clip(0))
    assert face.available_executions(0) > 0 and face.ready_tracks() == 0
    with pytest.raises(FaceError) as caught:
        face.execute()
    assert caught.value.code == "eEmotionNotAvailable"
    face.emotions[0].accumulate(1000, torch.zeros(4))
    found = list(face.run())
    assert found and all(frames.timestamps[0] <= 1000 for frames in found)
    face.emotions[0].accumulate(3000, torch.zeros(4))
    assert face.ready_tracks() == 1


def test_callbacks_and_errors(bundle: Bundle) -> None:
    face = executor(bundle)
    assert not face.has_started(0)
    feel(face, 0)
    list(face.run())  # a window of silence before the audio, if the network has that
    with pytest.raises(FaceError) as caught:
        face.execute()
    assert caught.value.code == "eNoTracksToExecute"
    face.audio[0].accumulate(clip(0))
    face.audio[0].close()
    seen: list[int] = []
    see: Callable[[Frames], bool] = lambda frame: seen.append(frame.first) is None and len(frame) == 1
    while face.ready_tracks():
        face.execute(see)
    assert seen == list(range(face.total_frames(0)))
    face.reset(0)
    seen.clear()
    executions = 0
    while face.ready_tracks():
        executions += bool(face.execute(lambda frame: not see(frame)))
    assert len(seen) == executions
    for wrong in ({"tracks": 0}, {"weights": Part.JAW}, {"geometry": Part.NONE, "weights": Part.NONE}, {"method": "x"}):
        with pytest.raises(FaceError):
            executor(bundle, **wrong)  # type: ignore[arg-type]


def test_no_audio_is_no_frames(bundle: Bundle) -> None:
    face = executor(bundle)
    feel(face, 0)
    face.audio[0].close()
    assert list(face.run()) == [] and face.total_frames(0) == 0
