"""Resampling, silence, and normalised waveforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audio.mel_library import MelError, normalize, resample, trim_silence
from audio.signals import speech
from avatorch.reference import mel as reference


def tone(frequency: float, rate: int, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate).astype(np.float32)


RATES = [
    (48000, 16000),
    (44100, 16000),
    (22050, 16000),
    (8000, 16000),
    (16000, 24000),
    (11025, 16000),
    (96000, 16000),
]


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("part", [0.01, 0.3, 0.8, 0.93])
def test_a_tone_stays_that_tone(source: int, target: int, part: float) -> None:
    frequency = part * min(source, target) / 2
    ours = resample(tone(frequency, source, 1.0), source, target)
    assert len(ours) == target
    inner = slice(target // 10, -target // 10)
    error = (ours - tone(frequency, target, 1.0))[inner]
    assert 10 * np.log10(np.mean(error**2) / 0.5) < -100


def test_rates_without_a_common_divisor() -> None:
    for frequency in (80.0, 2400.0, 6400.0, 7440.0):
        error = (resample(tone(frequency, 44099, 1.0), 44099, 16000) - tone(frequency, 16000, 1.0))[1600:-1600]
        assert 10 * np.log10(np.mean(error**2) / 0.5) < -75


@pytest.mark.parametrize(("source", "target"), [(48000, 16000), (44100, 16000), (96000, 16000)])
@pytest.mark.parametrize("part", [1.03, 1.5, 1.9])
def test_what_the_new_rate_cannot_hold_is_removed(source: int, target: int, part: float) -> None:
    ours = resample(tone(part * target / 2, source, 1.0), source, target)
    assert 10 * np.log10(np.mean(ours[target // 10 : -target // 10] ** 2) / 0.5) < -100


@pytest.mark.parametrize("n", [0, 1, 2, 100, 441, 44101])
def test_lengths(n: int) -> None:
    assert len(resample(np.ones(n, np.float32), 44100, 16000)) == -(-n * 16000 // 44100)
    assert np.array_equal(resample(np.arange(n, dtype=np.float32), 16000, 16000), np.arange(n))


def test_an_impulse_is_not_delayed() -> None:
    samples = np.zeros(48000, np.float32)
    samples[24000] = 1.0
    assert np.argmax(np.abs(resample(samples, 48000, 16000))) == 8000


@pytest.mark.parametrize("rate", [0, 999, 768001, 2**32 - 1])
def test_rates_out_of_range_are_a_sentence(rate: int) -> None:
    with pytest.raises(MelError, match=f"is {rate} Hz, expected 1000 to 768000"):
        resample(np.zeros(10, np.float32), rate, 16000)
    with pytest.raises(MelError, match=f"is {rate} Hz, expected 1000 to 768000"):
        resample(np.zeros(10, np.float32), 16000, rate)


def test_silence_is_trimmed() -> None:
    loud = speech(16000)[4000:9000]
    samples = np.concatenate([np.zeros(5000, np.float32), loud, np.zeros(7000, np.float32)])
    first, end = trim_silence(samples)
    assert 5000 - 400 <= first <= 5000 + 160
    assert 10000 - 160 <= end <= 10000 + 400
    assert trim_silence(np.zeros(1000, np.float32)) == (0, 0)
    assert trim_silence(np.zeros(0, np.float32)) == (0, 0)
    assert trim_silence(np.ones(1000, np.int16)) == (0, 1000)
    for bad in ({"frame_length": 0}, {"hop_length": 0}, {"below_db": -1.0}, {"below_db": np.nan}):
        with pytest.raises(MelError, match="expected positive lengths"):
            trim_silence(samples, **bad)


def test_normalized_waveform_is_wav2vec2s() -> None:
    samples = speech(16000) + np.float32(0.1)
    truth = reference.normalize_waveform(torch.from_numpy(samples).double()).numpy()
    assert np.abs(normalize(samples) - truth).max() <= 1e-6 * np.abs(truth).max()
    assert np.array_equal(normalize(np.full(100, 3.0, np.float32)), np.zeros(100))
    assert len(normalize(np.zeros(0, np.float32))) == 0
