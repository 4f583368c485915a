"""Each animator beside its reference in float64."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from avatorch.face import FaceError, Identity, read_bundle
from avatorch.face.animators import EyesAnimator, JawAnimator, SkinAnimator, TongueAnimator, rigid_fit
from avatorch.face.parameters import AnimatorParameters
from avatorch.face.products import run_of
from avatorch.face.smoothing import smooth_at_once, smooth_by_frame
from avatorch.reference import animators as reference
from face import bundles

SECONDS = Fraction(1, 60)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return read_bundle(bundles.make_regression(tmp_path_factory.mktemp("bundle"))).identities[0]


def random_parameters(seed: int) -> AnimatorParameters:
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for field in dataclasses.fields(AnimatorParameters):
        least, most = field.metadata["least"], field.metadata["most"]
        values[field.name] = least + (most - least) * float(torch.rand((), generator=generator))
    if seed % 3 == 2:
        values["upper_face_smoothing"] = 0.0
    return AnimatorParameters(**values)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.cpu().double(), expected, atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_skin(identity: Identity, device: str, cut: int) -> None:
    settings = [random_parameters(seed) for seed in range(3)]
    skin = SkinAnimator(identity, 3, float(SECONDS), torch.device(device))
    for track, parameters in enumerate(settings):
        skin.set_parameters(track, parameters)
    moves = torch.randn(3, 9, len(identity.neutral_skin), 3)
    flat = moves.flatten(2).to(device)
    found = torch.cat([skin.animate([0, 2], flat[[0, 2], :cut]), skin.animate([0, 2], flat[[0, 2], cut:])], 1)
    constants = [values.double() for values in (identity.neutral_skin, identity.eye_close, identity.lip_open)]
    for row, track in enumerate((0, 2)):
        expected = reference.skin(moves[track].double(), *constants, settings[track], float(SECONDS))
        close(found[row], expected.flatten(1))
    skin.reset(0)
    assert torch.equal(skin.animate([0], flat[:1, :1])[0, 0], found[0, 0])
    alone = skin.animate([1], flat[1:2], smooth=False)
    unsmoothed = settings[1].changed(upper_face_smoothing=0, lower_face_smoothing=0)
    close(alone[0], reference.skin(moves[1].double(), *constants, unsmoothed, float(SECONDS)).flatten(1))


@pytest.mark.parametrize("at_once", [1, 500, 1 << 20])
def test_skin_at_once_is_that_frame_by_frame(
    identity: Identity, device: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many frames go together; also when tracks begin again, and where nothing is smoothed."""
    monkeypatch.setattr("avatorch.face.animators.MOST_AT_ONCE", at_once)
    tracks = [0, 2]
    one, other = (SkinAnimator(identity, 3, float(SECONDS), torch.device(place)) for place in (device, "cpu"))
    for track in range(3):
        for skin in (one, other):
            skin.set_parameters(track, random_parameters(track + 3))
    for frames in (1, 7, 12):
        moves = torch.randn(2, frames, 3 * len(identity.neutral_skin))
        found = one._at_once(tracks, run_of(tracks, torch.device(device)), moves.to(device))
        expected = other._by_frame(tracks, torch.tensor(tracks), moves)
        torch.testing.assert_close(found.cpu(), expected, atol=3e-5, rtol=3e-5)
        for skin in (one, other):
            skin._first = [False, False, frames == 7]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smoothing_at_once_is_that_frame_by_frame(device: str, dtype: torch.dtype) -> None:
    """Of parts from little to all of the way, over more frames than one product takes."""
    wanted = torch.randn(3, 600, 2, 5, dtype=dtype, device=device)
    before = torch.randn(2, 3, 2, 5, dtype=dtype, device=device)
    alpha = torch.tensor([[0.05, 1.0], [0.5, 0.11], [0.999, 0.3]], dtype=dtype, device=device)[..., None]
    for frames in (1, 2, 31, 600):
        found = smooth_at_once(wanted[:, :frames], *before, alpha)
        for one, other in zip(found, smooth_by_frame(wanted[:, :frames], *before, alpha), strict=True):
            torch.testing.assert_close(one, other, **({"atol": 3e-6, "rtol": 1e-5} if dtype == torch.float32 else {}))


def test_skin_of_some_columns_is_that_of_all(identity: Identity) -> None:
    columns = torch.tensor([5, 0, 77, 110])
    moves = torch.randn(2, 6, 3 * len(identity.neutral_skin))
    cpu = torch.device("cpu")
    everything = SkinAnimator(identity, 2, 0.01, cpu).animate([0, 1], moves)
    some = SkinAnimator(identity, 2, 0.01, cpu, columns).animate([0, 1], moves[..., columns])
    assert torch.equal(everything[..., columns], some)


def test_tongue_and_jaw(identity: Identity, device: str) -> None:
    settings = [random_parameters(seed) for seed in range(2)]
    tongue, jaw = (kind(identity, 2, torch.device(device)) for kind in (TongueAnimator, JawAnimator))
    moves, points = torch.randn(2, 4, 11, 3), torch.randn(2, 4, 4, 3) * 0.3
    for track, parameters in enumerate(settings):
        tongue.set_parameters(track, parameters)
        jaw.set_parameters(track, parameters)
    tongues = tongue.animate([1, 0], moves.flatten(2).to(device))
    jaws = jaw.animate([1, 0], points.flatten(2).to(device))
    for row, track in enumerate((1, 0)):
        expected = reference.tongue(moves[row].double(), identity.neutral_tongue.double(), settings[track])
        close(tongues[row], expected.flatten(1))
        close(jaws[row], reference.jaw(points[row].double(), identity.neutral_jaw.double(), settings[track]))


@pytest.mark.parametrize("shape", ["cloud", "plane", "line", "point", "mirrored"])
def test_a_jaw_is_never_reflected(shape: str, device: str) -> None:
    points = torch.randn(5, 3, dtype=torch.float64)
    points[:, {"plane": 2, "line": slice(1, 3), "point": slice(0, 3)}.get(shape, slice(0, 0))] = 0
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.3, 0.1], [0.3, 0, -0.2], [-0.1, 0.2, 0]], dtype=torch.float64))
    shift = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    targets = points @ turn.T + shift
    if shape == "mirrored":
        targets = points * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    fit = rigid_fit(points.to(device), targets.to(device)).cpu().double()
    rotation = fit[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation) > 0.999999
    if shape != "mirrored":
        torch.testing.assert_close(points @ rotation.T + fit[:3, 3], targets, atol=1e-5, rtol=0)
    if shape == "point":
        torch.testing.assert_close(rotation, torch.eye(3, dtype=torch.float64))
    if shape == "line":  # no further than the line itself turns
        along = turn[:, 0] @ torch.tensor([1.0, 0, 0], dtype=torch.float64)
        angle = math.acos((float(rotation.trace()) - 1) / 2)
        assert abs(angle - math.acos(float(along))) < 1e-4


def test_a_jaw_at_rest_does_not_move(identity: Identity) -> None:
    still = JawAnimator(dataclasses.replace(identity, parameters=AnimatorParameters()), 1, torch.device("cpu"))
    torch.testing.assert_close(still.animate([0], torch.zeros(1, 1, 12))[0, 0], torch.eye(4))


@pytest.mark.parametrize("rate", [24, 30, 60, Fraction(30000, 1001)])
def test_eyes(identity: Identity, device: str, rate: Fraction | int) -> None:
    seconds = 1 / Fraction(rate)
    parameters = [random_parameters(seed) for seed in range(2)]
    eyes = EyesAnimator(identity, 2, seconds, torch.device(device))
    for track in range(2):
        eyes.set_parameters(track, parameters[track])
    angles = torch.randn(2, 130, 4)  # longer than the table
    found = torch.cat([eyes.animate([0, 1], part.to(device)) for part in angles.split(37, 1)], 1)
    for track in range(2):
        expected = reference.eyes(angles[track].double(), identity.saccades.double(), parameters[track], float(seconds))
        close(found[track], expected)
    eyes.set_live_time(0, Fraction(50, 30))
    eyes.reset(1)
    assert torch.equal(eyes.animate([1], angles[1:, :5].to(device))[0], found[1, :5])


def test_settings_have_ranges() -> None:
    settings = AnimatorParameters()
    assert settings.changed(blink_offset=1.0).blink_offset == 1.0
    for name, value in (("skin_strength", 2.1), ("face_mask_softness", 0.0), ("eye_saccade_seed", 5000.0)):
        with pytest.raises(FaceError, match=f"{name} is {value:g}, expected") as caught:
            settings.changed(**{name: value})
        assert caught.value.code == "eOutOfRange"
    with pytest.raises(FaceError, match="blink_offset is not a number") as caught:
        settings.changed(blink_offset=math.nan)
    assert caught.value.code == "eNotANumber"
    with pytest.raises(FaceError, match="there is no setting 'speed'"):
        settings.changed(speed=1.0)
