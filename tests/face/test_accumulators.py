"""What tracks are given, in any order of adding, reading and dropping."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from avatorch.face import AudioAccumulator, EmotionAccumulator, FaceError


def test_any_chunks_and_drops_read_alike() -> None:
    random.seed(3)
    clip = torch.randn(1000)
    for _ in range(30):
        audio = AudioAccumulator(buffer_size=random.choice((1, 7, 64, 5000)))
        at = 0
        while at < len(clip):
            size = random.choice((1, 3, 50, 400))
            audio.accumulate(clip[at : at + size])
            at = min(at + size, len(clip))
            start = random.randint(-60, at - 10) if at > 10 else -5
            first = max(0, start)
            if first >= audio.dropped_samples:
                length = at - start
                expected = torch.cat([torch.zeros(max(0, -start)), clip[first : start + length] * 0.5])
                assert torch.equal(audio.read(start, length, 0.5), expected)
                audio.drop_before(start)
                assert audio.dropped_samples <= first
        assert audio.count == 1000


@pytest.mark.parametrize("starts", [[-7, 0, 5, 10], [90, 3, 40], [20], [0, 200]])
def test_windows_at_once_are_those_one_by_one(starts: list[int]) -> None:
    """In any order, overlapping or far apart, with silence on both sides."""
    audio = AudioAccumulator(buffer_size=16)
    audio.accumulate(torch.randn(100))
    audio.close()
    for length, strength in ((1, 1.0), (25, 0.5)):
        expected = torch.stack([audio.read(start, length, strength) for start in starts])
        assert torch.equal(audio.read_each(starts, length, strength), expected)


def test_windows_are_read_of_what_is_there() -> None:
    audio = AudioAccumulator(buffer_size=10)
    audio.accumulate(torch.arange(35.0))
    with pytest.raises(FaceError, match="samples to 36 were read, expected at most the 35"):
        audio.read_each([0, 31], 5)
    audio.drop_before(29)
    with pytest.raises(FaceError, match="sample 19 was read, 20 were dropped"):
        audio.read_each([21, 19], 5)


def test_silence_follows_only_the_end() -> None:
    audio = AudioAccumulator()
    audio.accumulate(torch.ones(5))
    with pytest.raises(FaceError, match="samples to 6 were read, expected at most the 5"):
        audio.read(0, 6)
    audio.close()
    assert audio.read(3, 4).tolist() == [1, 1, 0, 0] and audio.read(-9, 3).tolist() == [0, 0, 0]
    for wrong in (lambda: audio.accumulate(torch.ones(1)), audio.close):
        with pytest.raises(FaceError) as caught:
            wrong()
        assert caught.value.code == "eInvalidValue"
    audio.reset()
    assert (audio.count, audio.is_closed) == (0, False)


@pytest.mark.parametrize("samples", [torch.zeros(0), torch.zeros(2, 3), torch.zeros(4, dtype=torch.int16)])
def test_chunks_that_are_none(samples: torch.Tensor) -> None:
    with pytest.raises(FaceError, match="samples is"):
        AudioAccumulator().accumulate(samples)


def test_dropped_samples_cannot_be_read() -> None:
    audio = AudioAccumulator(buffer_size=10)
    audio.accumulate(torch.arange(35.0))
    audio.drop_before(29)
    assert audio.dropped_samples == 20 and audio.read(20, 3).tolist() == [20, 21, 22]
    with pytest.raises(FaceError, match="sample 19 was read, 20 were dropped"):
        audio.read(19, 3)


def test_emotions_move_between_keys() -> None:
    emotions = EmotionAccumulator(2)
    assert not emotions.can_read(0)
    emotions.accumulate(100, torch.tensor([0.0, 1.0]))
    emotions.accumulate(300, torch.tensor([1.0, 0.0]))
    assert emotions.read(-5000).tolist() == [0, 1] and emotions.read(100).tolist() == [0, 1]
    assert emotions.read(150).tolist() == [0.25, 0.75] and emotions.read(300).tolist() == [1, 0]
    assert not emotions.can_read(301)
    with pytest.raises(FaceError, match="the emotion of sample 301 was read, the last known is 300"):
        emotions.read(301)
    with pytest.raises(FaceError, match="timestamp is 300, expected more than 300"):
        emotions.accumulate(300, torch.zeros(2))
    with pytest.raises(FaceError, match=r"emotion has shape \[3\], expected \[2\]"):
        emotions.accumulate(400, torch.zeros(3))
    emotions.close()
    assert emotions.read(10**12).tolist() == [1, 0]
    with pytest.raises(FaceError, match="closed without an emotion"):
        EmotionAccumulator(2).close()


def test_emotions_at_once_are_those_between_keys() -> None:
    """Of a few of many keys, before the first, at keys and behind the last; what is read is nobody else's."""
    emotions = EmotionAccumulator(2)
    keys = {100: (0.0, 1.0), 300: (1.0, 0.0), 310: (0.25, 0.5), 1000: (0.0, 0.0)}
    for moment, values in keys.items():
        emotions.accumulate(moment, torch.tensor(values))
    emotions.close()
    moments = [-3, 100, 150, 299, 300, 305, 310, 655, 1000, 5000]
    times, values = list(keys), np.array(list(keys.values()))
    expected = np.stack([np.interp(moments, times, column) for column in values.T], 1)
    np.testing.assert_allclose(emotions.read_each(moments), expected, atol=1e-7)
    assert torch.equal(emotions.read_each(moments), torch.stack([emotions.read(moment) for moment in moments]))
    for alike in ([-5, 3], [1000, 2000]):
        emotions.read_each(alike).fill_(7)
    assert emotions.read(0).tolist() == [0, 1] and emotions.read(1000).tolist() == [0, 0]
    with pytest.raises(FaceError, match="the emotion of sample 0 was read, the last known is none"):
        EmotionAccumulator(2).read_each([0, 1])


def test_emotions_are_dropped_but_for_what_is_needed() -> None:
    emotions = EmotionAccumulator(1)
    for key in range(1000):
        emotions.accumulate(10 * key, torch.tensor([float(key)]))
    emotions.drop_before(6505)
    assert emotions.read(6505).tolist() == [650.5] and emotions.last_timestamp == 9990
    with pytest.raises(FaceError, match="it was dropped"):
        emotions.read(0)
