"""The `whisper` dialect against the real openai-whisper, and both against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import whisper

from audio.mel_library import RANGES, Mel, MelError, available_levels
from audio.signals import signals, speech
from avatorch.reference import mel as reference

LEVELS = available_levels()
SIGNALS = signals(5 * 16000)
# Half a unit in the last place of an output near 1.5, the largest there is.
ROUNDING = 6e-8


def of_whisper(samples: np.ndarray, n_mels: int = 80, padding: int = 0) -> np.ndarray:
    return whisper.log_mel_spectrogram(torch.from_numpy(samples), n_mels=n_mels, padding=padding).numpy()


def of_reference(samples: np.ndarray, n_mels: int = 80, **options: object) -> np.ndarray:
    return reference.log_mel(torch.from_numpy(samples), **(reference.WHISPER | {"n_mels": n_mels} | options)).numpy()


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.square(difference, dtype=np.float64).mean()))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", SIGNALS)
def test_equals_whisper_and_is_no_farther_from_float64(name: str, n_mels: int, level: str) -> None:
    samples = SIGNALS[name]
    ours, theirs = Mel(n_mels=n_mels, simd=level)(samples), of_whisper(samples, n_mels)
    truth = of_reference(samples, n_mels)
    assert ours.shape == theirs.shape == (n_mels, 500)
    assert np.abs(ours - theirs).max() <= 1e-4
    assert rms(ours - truth) <= rms(theirs - truth) + ROUNDING


@pytest.mark.parametrize("n_mels", [80, 128])
def test_thirty_seconds_are_three_thousand_frames(n_mels: int) -> None:
    samples = speech(30 * 16000)
    ours = Mel(n_mels=n_mels)(samples)
    assert ours.shape == (n_mels, 3000)
    assert np.abs(ours - of_whisper(samples, n_mels)).max() <= 1e-4


@pytest.mark.parametrize("name", SIGNALS)
def test_every_length_from_the_shortest(name: str) -> None:
    """Each within 1e-4 of Whisper's; all lengths together no farther from float64. A frame alone is a lottery."""
    begin = {"speech": 20000, "impulse": 80000 // 3 - 150}.get(name, 0)  # where there is something to hear
    mel, ours, theirs, truth = Mel(), [], [], []
    for n in [*range(201, 820), 1599, 1600, 1601, 2559, 2560, 2561, 2719, 2720, 16159, 16160]:
        samples = SIGNALS[name][begin : begin + n]
        for found, program in ((ours, mel), (theirs, of_whisper), (truth, of_reference)):
            found.append(program(samples))
        assert ours[-1].shape == theirs[-1].shape == truth[-1].shape == (80, n // 160), n
        assert np.abs(ours[-1] - theirs[-1]).max() <= 1e-4, n
    joined = [np.concatenate([values.ravel() for values in found]) for found in (ours, theirs, truth)]
    assert rms(joined[0] - joined[2]) <= rms(joined[1] - joined[2]) + ROUNDING


@pytest.mark.parametrize("n", [0, 1, 200])
def test_too_short_a_clip_is_a_sentence(n: int) -> None:
    with pytest.raises(MelError, match=f"the clip has {n} samples, expected at least 201"):
        Mel()(SIGNALS["noise"][:n])


@pytest.mark.parametrize("n", [100, 16000, 80000])
def test_padding_to_thirty_seconds(n: int) -> None:
    samples = SIGNALS["speech"][:n]
    ours = Mel(padding=1, padding_length=480000)(samples)
    theirs = of_whisper(whisper.pad_or_trim(samples))
    assert ours.shape == theirs.shape == (80, 3000)
    assert np.abs(ours - theirs).max() <= 1e-4
    assert Mel(padding=1, padding_length=8000)(samples).shape == (80, 50)


@pytest.mark.parametrize("n", [201, 16000, 79999])
def test_thirty_seconds_appended(n: int) -> None:
    samples = SIGNALS["speech"][:n]
    ours = Mel(padding=2, padding_length=480000)(samples)
    theirs = of_whisper(samples, padding=480000)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-4


def test_loudest_of_batch_is_whispers_batched_call() -> None:
    clips = [SIGNALS["noise"][:16000], 0.01 * SIGNALS["speech"][20000:36000], SIGNALS["tone"][:16000]]
    theirs = whisper.log_mel_spectrogram(torch.from_numpy(np.stack(clips))).numpy()
    ours = Mel(range=RANGES.index("batch")).batch(clips)
    assert np.abs(np.stack(ours) - theirs).max() <= 1e-4
    alone = Mel().batch(clips)
    assert np.abs(alone[1] - theirs[1]).max() > 0.1
    for clip, values in zip(clips, alone, strict=True):
        assert np.array_equal(values, Mel()(clip))


def test_loudest_so_far_and_constant() -> None:
    samples = SIGNALS["speech"]
    raw = of_reference(samples, range_below=None, scale=1.0, offset=0.0)
    so_far = np.maximum(raw, np.maximum.accumulate(raw.max(0)) - 8) / 4 + 1
    assert np.abs(Mel(range=RANGES.index("so_far"))(samples) - so_far).max() <= 1e-4
    constant = of_reference(samples, loudest=1.5)
    assert np.abs(Mel(range=RANGES.index("constant"), range_loudest=1.5)(samples) - constant).max() <= 1e-4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("level", LEVELS)
def test_a_bad_sample_makes_its_own_clip_nan_as_whispers(bad: float, level: str) -> None:
    clips = [SIGNALS["noise"][:4000].copy() for _ in range(3)]
    clips[1][777] = bad
    assert np.isnan(of_whisper(clips[1])).all()
    for scope in ("clip", "batch"):
        values = Mel(simd=level, range=RANGES.index(scope)).batch(clips)
        assert np.isnan(values[1]).all()
        assert np.array_equal(values[0], Mel(simd=level)(clips[0]))
        assert np.array_equal(values[2], values[0])


def test_without_a_range_a_bad_sample_stays_in_its_frames() -> None:
    samples = SIGNALS["noise"][:4000].copy()
    samples[800] = np.nan
    bad = np.isnan(Mel(range=0)(samples))
    frames = [t for t in range(25) if 160 * t - 200 <= 800 < 160 * t + 200]
    assert np.array_equal(np.flatnonzero(bad.any(0)), frames)
    assert bad[:, frames].all()


@pytest.mark.parametrize("dtype", ["int16", "int32", "float64"])
def test_other_sample_types(dtype: str) -> None:
    whole = np.round(SIGNALS["speech"] * 32768).astype(np.int16)
    given = {"int16": whole, "int32": whole.astype(np.int32) << 16, "float64": whole / 32768.0}[dtype]
    assert np.array_equal(Mel()(given), Mel()((whole / 32768.0).astype(np.float32)))


def test_levels_differ_only_by_rounding() -> None:
    samples = SIGNALS["speech"]
    values = [Mel(simd=level)(samples) for level in LEVELS]
    assert all(np.abs(value - values[0]).max() <= 1e-4 for value in values)
    assert Mel().simd == LEVELS[-1]
