"""Counts and moments of windows and frames, beside counting one by one."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from pathlib import Path

import pytest

from avatorch.face import FaceError, read_bundle
from avatorch.face.progress import Clock, Windows
from face import bundles


def test_counts_are_those_of_counting() -> None:
    random.seed(5)
    for _ in range(300):
        stride = Fraction(random.randint(1, 400), random.randint(1, 40))
        windows = Windows(random.randint(1, 60), random.randint(-80, 20), random.randint(0, 60), stride)
        samples = random.randint(0, 300)
        far = range(math.ceil(400 / stride) + 2)
        assert windows.count_described(samples) == sum(windows.target(i) < samples for i in far)
        assert windows.count_complete(samples) == sum(windows.end(i) <= samples for i in far)
        for i in range(20):
            assert windows.start(i) == math.floor(i * stride) + windows.start_offset
        assert windows.targets(range(3, 9)) == [windows.target(i) for i in range(3, 9)]


def test_a_regression_network_at_any_rate(tmp_path: Path) -> None:
    info = read_bundle(bundles.make_regression(tmp_path)).info
    for rate in (Fraction(30), Fraction(60), Fraction(30000, 1001), Fraction(2000), Fraction(1, 3)):
        clock = Clock.of(info, rate)
        for samples in (0, 1, 66, 67, 1999, 2000, 12345):
            assert clock.total_frames(samples) == math.ceil(samples * rate / info.sample_rate)
        assert [clock.timestamp(frame) for frame in range(9)] == [math.floor(f * 2000 / rate) for f in range(9)]
    with pytest.raises(FaceError, match="expected at most 2000") as caught:
        Clock.of(info, Fraction(2001))
    assert caught.value.code == "eSampleRateTooLow"
    with pytest.raises(FaceError, match="frame_rate is 0"):
        Clock.of(info, Fraction(0))


def test_a_diffusion_network_has_its_own_rate(tmp_path: Path) -> None:
    info = read_bundle(bundles.make_diffusion(tmp_path)).info
    clock = Clock.of(info)
    assert clock.frame_rate == Fraction(12 * 2000, 1200)
    for samples in (0, 1, 99, 100, 101, 12345):
        assert clock.total_frames(samples) == math.ceil(samples * clock.frame_rate / info.sample_rate)
    assert [clock.timestamp(frame) for frame in range(4)] == [0, 100, 200, 300]
    assert clock.timestamps(range(1, 3)) == (100, 200, 300) and clock.timestamps(range(2, 2)) == (200,)
    assert clock.first_frame == 10  # (1200 - 1200 * 2 / 12) / 100 frames before the audio
    with pytest.raises(FaceError, match="this network has its own"):
        Clock.of(info, Fraction(30))


def test_the_released_sizes() -> None:
    """16 kHz, 60 frames a second in blocks of 30: frames 0 to 44 are before the audio."""
    inferences = Windows(16000, -16000, 4000, Fraction(8000))
    frames = Windows(16000, -16000, 4000, Fraction(8000, 30))
    assert frames.count_described(0) == 45 and frames.target(45) == 0
    assert [inferences.count_complete(samples) for samples in (0, 7999, 8000, 16000)] == [1, 1, 2, 3]
    assert frames.count_described(16001) - 45 == 61
