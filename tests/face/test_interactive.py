"""Frames of a clip in any order, beside the executor that gives them in theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatorch.face import (
    Bundle,
    Executor,
    FaceError,
    Frames,
    InteractiveExecutor,
    Layer,
    Part,
    SolverParameters,
    read_bundle,
)
from face import bundles

CLIP = torch.randn(1500, generator=torch.Generator().manual_seed(4)) * 0.05
NAMES = ("skin", "tongue", "jaw", "eyes", "weights", "emotions")


@pytest.fixture(scope="module", params=["regression", "diffusion"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    make = bundles.make_regression if request.param == "regression" else bundles.make_diffusion
    return read_bundle(make(tmp_path_factory.mktemp(request.param)))


def filled(face: InteractiveExecutor) -> InteractiveExecutor:
    face.audio.accumulate(CLIP)
    face.audio.close()
    face.emotions.accumulate(0, torch.tensor([0.0, 0.5, 0.0, 1.0]))
    face.emotions.accumulate(900, torch.zeros(4))
    face.emotions.close()
    return face


def joined(found: list[Frames]) -> dict[str, Tensor]:
    return {name: torch.cat([getattr(frames, name) for frames in found]) for name in NAMES}


def test_all_frames_are_those_of_the_executor(bundle: Bundle) -> None:
    face = filled(InteractiveExecutor(bundle, geometry=Part.ALL))
    ordinary = Executor(bundle, geometry=Part.ALL)
    ordinary.audio[0], ordinary.emotions[0] = face.audio, face.emotions
    expected = joined(list(ordinary.run()))
    face.compute_frame(3)
    for _ in range(2):
        found = list(face.compute_all_frames())
        assert all(torch.equal(joined(found)[name], expected[name]) for name in NAMES)
        assert [time for frames in found for time in frames.timestamps[:-1]] == [
            face.timestamp(frame) for frame in range(face.total_frames)
        ]


def test_a_frame_alone_has_no_memory(bundle: Bundle) -> None:
    """It is what all frames give where nothing is smoothed."""
    face = filled(InteractiveExecutor(bundle, geometry=Part.ALL))
    before = [face.compute_frame(frame) for frame in (7, 0, 4)]
    face.set_parameters(lower_face_smoothing=0.0, upper_face_smoothing=0.0)
    for part, rig in (("skin", bundle.identities[0].skin), ("tongue", bundle.identities[0].tongue)):
        p = rig.parameters
        face.set_solver_parameters(part, SolverParameters(p.l1_regularization, p.l2_regularization, 0, p.symmetry, 30))
    everything = joined(list(face.compute_all_frames()))
    for frame, alone in zip((7, 0, 4), before, strict=True):
        assert alone.first == frame
        for name in NAMES:
            torch.testing.assert_close(getattr(alone, name)[0], everything[name][frame], atol=1e-5, rtol=1e-5)


def test_layers(bundle: Bundle) -> None:
    face = filled(InteractiveExecutor(bundle))
    assert face.is_valid(Layer.NONE) and not face.is_valid(Layer.ALL) and not face.is_valid(Layer.INFERENCE)
    list(face.compute_all_frames())
    assert face.is_valid(Layer.ALL)
    face.set_parameters(lower_teeth_strength=0.5)
    assert not face.is_valid(Layer.TEETH) and face.is_valid(Layer.BLENDSHAPE_WEIGHTS) and face.is_valid(Layer.SKIN)
    face.set_parameters(skin_strength=0.5)
    assert not face.is_valid(Layer.SKIN) and not face.is_valid(Layer.BLENDSHAPE_WEIGHTS)
    assert face.is_valid(Layer.INFERENCE) and face.is_valid(Layer.TONGUE)
    list(face.compute_all_frames())
    face.set_solver_poses("tongue", offsets=[0.5] * 7)
    assert face.is_valid(Layer.TONGUE_SOLVER_PREPARE) and not face.is_valid(Layer.BLENDSHAPE_WEIGHTS)
    face.set_solver_poses("tongue", active=[False] * 7)
    assert not face.is_valid(Layer.TONGUE_SOLVER_PREPARE)
    weights = face.compute_frame(2).weights
    assert weights is not None and (weights[:, 52:] == 0.5).all() and not (weights[:, :52] == 0.5).all()
    list(face.compute_all_frames())
    face.invalidate(Layer.INFERENCE)
    valid = [layer for layer in Layer if face.is_valid(layer)]
    assert valid == [Layer.NONE, Layer.SKIN_SOLVER_PREPARE, Layer.TONGUE_SOLVER_PREPARE]


def test_interrupting(bundle: Bundle) -> None:
    face = filled(InteractiveExecutor(bundle))
    frames = face.compute_all_frames()
    next(frames)
    face.interrupt()
    with pytest.raises(FaceError) as caught:
        list(frames)
    assert caught.value.code == "eInterrupted" and not face.is_valid(Layer.ALL)
    assert list(face.compute_all_frames())


def test_what_is_asked_too_early_or_beyond(bundle: Bundle) -> None:
    face = InteractiveExecutor(bundle)
    face.audio.accumulate(CLIP)
    with pytest.raises(FaceError, match="must be closed"):
        face.compute_frame(0)
    face = filled(InteractiveExecutor(bundle))
    for frame in (-1, face.total_frames):
        with pytest.raises(FaceError, match=f"frame is {frame}, expected 0 to"):
            face.compute_frame(frame)
    with pytest.raises(FaceError, match="there is no solver of 'jaw'"):
        face.set_solver_parameters("jaw", SolverParameters())


def test_a_preview_begins_shortly_before(tmp_path: Path) -> None:
    """The state of the test network is halved with every inference: what was long before hardly matters."""
    bundle = read_bundle(bundles.make_diffusion(tmp_path))
    exact, near = filled(InteractiveExecutor(bundle)), filled(InteractiveExecutor(bundle, preview_inferences=2))
    last = exact.total_frames - 1
    found, expected = near.compute_frame(last).weights, exact.compute_frame(last).weights
    assert found is not None and expected is not None and not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.5, rtol=0)
    many = filled(InteractiveExecutor(bundle, preview_inferences=1000)).compute_frame(last).weights
    assert many is not None and torch.equal(many, expected)
