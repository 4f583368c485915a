"""Audio2Emotion: windows, post-processing, and its way into a face."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avatorch.face import Audio2Emotion, AudioAccumulator, EmotionAccumulator, FaceError
from face import bundles


def by_hand(levels: np.ndarray) -> np.ndarray:
    """The post-processing of the test bundle, in float64. [frames] -> [frames, 5]"""
    blended = last = np.zeros(5)
    frames = []
    for number, level in enumerate(levels):
        logits = 1.5 * level * np.array([4.0, 3.0, -2.0, -9.0])
        likely = np.exp(logits) / np.exp(logits).sum()
        likely[2] = 0
        likely[np.argsort(-likely, kind="stable")[2:]] = 0
        emotion = last.copy()
        emotion[[1, 3, 4]] = likely[[0, 1, 3]]
        blended = 0.3 * emotion + 0.7 * blended
        emotion = 0.75 * blended + 0.25 * np.array([0, 0, 0.5, 0, 0])
        if number:
            emotion = 0.33 * emotion + 0.67 * last
        last = emotion
        frames.append(0.6 * emotion)
    return np.array(frames)


@pytest.mark.parametrize("skip", [0, 3])
@pytest.mark.parametrize("chunk", [2000, 37])
def test_emotions_beside_arithmetic(tmp_path: Path, skip: int, chunk: int) -> None:
    model = Audio2Emotion(bundles.make_emotion(tmp_path), buffer_length=500, inferences_to_skip=skip)
    clip = torch.randn(2000) * torch.linspace(0, 1, 2000)
    audio, emotions = AudioAccumulator(), EmotionAccumulator(5)
    made = 0
    for part in clip.split(chunk):
        audio.accumulate(part)
        made += model.run(audio, emotions)
    audio.close()
    made += model.run(audio, emotions)
    assert made == 30 and emotions.is_closed and emotions.last_timestamp == 29 * 2000 // 30
    padded = torch.cat([torch.zeros(250), clip, torch.zeros(250)]).abs().double().numpy()
    starts = [(frame - frame % (skip + 1)) * 2000 // 30 for frame in range(30)]
    expected = by_hand(np.array([padded[start : start + 500].mean() for start in starts]))
    found = torch.stack([emotions.read(frame * 2000 // 30) for frame in range(30)])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_again_after_a_reset(tmp_path: Path) -> None:
    model = Audio2Emotion(bundles.make_emotion(tmp_path), buffer_length=500, emotion_strength=1.0)
    results = []
    for _ in range(2):
        audio, emotions = AudioAccumulator(), EmotionAccumulator(5)
        audio.accumulate(torch.linspace(0, 1, 900))
        audio.close()
        model.run(audio, emotions)
        results.append(emotions.read(800))
        model.reset()
    assert torch.equal(*results)


def test_a_run_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, clip = bundles.make_emotion(tmp_path), torch.linspace(0, 1, 900)
    found = []
    for interrupted in (False, True):
        model, audio, emotions = Audio2Emotion(folder, buffer_length=500), AudioAccumulator(), EmotionAccumulator(5)
        audio.accumulate(clip)
        audio.close()
        if interrupted:
            step, calls = model.post_process.step, iter(range(100))

            def stopping(logits: torch.Tensor) -> torch.Tensor:
                if next(calls) == 5:  # noqa: B023
                    raise KeyboardInterrupt
                return step(logits)  # noqa: B023

            monkeypatch.setattr(model.post_process, "step", stopping)
            with pytest.raises(KeyboardInterrupt):
                model.run(audio, emotions)
            assert model.run(audio, emotions) == 14 - 5
        else:
            assert model.run(audio, emotions) == 14
        found.append(torch.stack([emotions.read(moment) for moment in range(0, 900, 10)]))
    assert torch.equal(*found)


def test_a_track_that_another_thread_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the emotions of what was there are made: the rest comes with the next call."""
    model = Audio2Emotion(bundles.make_emotion(tmp_path), buffer_length=500)
    audio, emotions = AudioAccumulator(), EmotionAccumulator(5)
    audio.accumulate(torch.linspace(0, 1, 900))
    step = model.post_process.step

    def closing(logits: torch.Tensor) -> torch.Tensor:
        if not audio.is_closed:
            audio.close()
        return step(logits)

    monkeypatch.setattr(model.post_process, "step", closing)
    first = model.run(audio, emotions)
    assert 0 < first < 14 and not emotions.is_closed
    assert first + model.run(audio, emotions) == 14 and emotions.is_closed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"live_blend_coef": 2.0}, "Audio2Emotion: live_blend_coef is 2, expected 0 to 1"),
        ({"max_emotions": float("nan")}, "Audio2Emotion: max_emotions"),
        ({"bogus": 1}, "there is no setting 'bogus', expected one of output_emotion_length"),
        ({"buffer_length": 10**12}, "buffer_length is 1000000000000, expected 1 to"),
        ({"device": "meta"}, "device is meta, expected cpu or cuda"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FaceError, match=sentence):
        Audio2Emotion(bundles.make_emotion(tmp_path), **options)


def test_broken_bundles(tmp_path: Path) -> None:
    folder = bundles.make_emotion(tmp_path)
    good = (folder / "model_config.json").read_text()
    for key, wrong, sentence in (
        ("live_blend_coef", 1.5, "live_blend_coef is 1.5, expected 0 to 1"),
        ("enable_preferred_emotion", "yes", "is 'yes', expected true or false"),
        ("preferred_emotion", [0.0], "has 1 values, expected 5"),
        ("emotion_correspondence", {"angry": 9}, "emotion_correspondence.angry is 9, expected -1 to 4"),
        ("emotion_correspondence", {}, "emotion_correspondence.angry is missing"),
    ):
        content = json.loads(good)
        content["post_processing_config"][key] = wrong
        (folder / "model_config.json").write_text(json.dumps(content))
        with pytest.raises(FaceError, match=sentence):
            Audio2Emotion(folder)
    (folder / "model_config.json").write_text(good)
    with pytest.raises(FaceError, match="expected windows that overlap"):
        Audio2Emotion(folder, buffer_length=100, inferences_to_skip=2)
