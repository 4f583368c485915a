"""Beside the feature extractors that models are published with: transformers (Whisper, wav2vec 2.0) and Vocos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from vocos.feature_extractors import MelSpectrogramFeatures

from audio.signals import signals, speech
from avatorch.audio import MelSpectrogram, normalize_waveform

CLIPS = [speech(30011), signals(16000)["noise"] + np.float32(0.05), signals(5000)["chirp"]]


@pytest.mark.parametrize("n_mels", [80, 128])
def test_whisper(n_mels: int) -> None:
    theirs = WhisperFeatureExtractor(feature_size=n_mels)(
        CLIPS, sampling_rate=16000, return_tensors="pt"
    ).input_features
    mel = MelSpectrogram("whisper", n_mels=n_mels, padding="to:480000")
    found = torch.stack([mel(torch.from_numpy(clip)) for clip in CLIPS])
    assert found.shape == theirs.shape == (3, n_mels, 3000)
    assert (found - theirs).abs().max() <= 1e-4


def test_wav2vec2() -> None:
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    theirs = extractor(CLIPS, sampling_rate=16000, padding=True, return_tensors="pt")
    lengths = torch.tensor([len(clip) for clip in CLIPS])
    clips = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(clip) for clip in CLIPS], batch_first=True)
    found = normalize_waveform(clips, lengths)
    assert torch.equal(theirs.attention_mask.sum(1), lengths)
    assert (found - theirs.input_values).abs().max() <= 2e-6 * found.abs().max()


def test_vocos() -> None:
    samples = torch.from_numpy(speech(30011))
    theirs = MelSpectrogramFeatures()(samples)
    found = MelSpectrogram("vocos")(samples)
    assert found.shape == theirs.shape
    assert (found - theirs).abs().max() <= 1e-3
