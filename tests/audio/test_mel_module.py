"""avatorch.audio.MelSpectrogram and normalize_waveform; what needs no other program, so that it runs anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audio.signals import signals, speech
from avatorch.audio import MelSpectrogram, normalize_waveform
from avatorch.reference import mel as reference


def steps_of_whisper(samples: Tensor, n_mels: int = 80) -> Tensor:
    """Whisper's function, step by step, in the precision of the samples; test_audio.py calls the program itself."""
    window = torch.hann_window(400, dtype=samples.dtype, device=samples.device)
    spectrum = torch.stft(samples, 400, 160, window=window, return_complex=True)[..., :-1]
    filters = reference.filters("slaney", "slaney", n_mels, 400, 16000).to(samples)
    log = (filters @ spectrum.abs() ** 2).clamp(min=1e-10).log10()
    return (torch.maximum(log, log.max() - 8.0) + 4.0) / 4.0


@pytest.mark.parametrize("name", list(signals(1000)))
@pytest.mark.parametrize("n_mels", [80, 128])
def test_no_farther_from_float64_than_whisper(name: str, n_mels: int, device: str) -> None:
    samples = torch.from_numpy(signals(5 * 16000)[name])
    truth = reference.log_mel(samples, **(reference.WHISPER | {"n_mels": n_mels}))
    theirs = steps_of_whisper(samples, n_mels)
    found = MelSpectrogram("whisper", n_mels=n_mels).to(device)(samples.to(device)).cpu()
    assert (found - theirs).abs().max() <= 1e-4
    # Half a unit in the last place of the largest output stands for rounding at the end.
    assert (found - truth).square().mean().sqrt() <= (theirs - truth).square().mean().sqrt() + 6e-8


def test_every_length_has_whispers_shape_and_values(device: str) -> None:
    noise = torch.from_numpy(signals(16161)["noise"])
    mel = MelSpectrogram("whisper").to(device)
    for n in [*range(201, 420), 799, 800, 801, 1600, 2719, 16159, 16160]:
        found, theirs = mel(noise[:n].to(device)).cpu(), steps_of_whisper(noise[:n])
        assert found.shape == theirs.shape == (80, mel.count_frames(n)), n
        assert (found - theirs).abs().max() <= 1e-4, n


@pytest.mark.parametrize("dialect", reference.DIALECTS)
def test_every_dialect_in_both_precisions(dialect: str, device: str) -> None:
    clips = torch.from_numpy(np.stack([signals(30011)[name] for name in ("speech", "noise", "chirp")]))
    exact = reference.log_mel(clips, **reference.DIALECTS[dialect])
    in_float32 = reference.log_mel(clips, dtype=torch.float32, **reference.DIALECTS[dialect])
    mel = MelSpectrogram(dialect).to(device)
    # A null of a magnitude is the small difference of large numbers, and its logarithm shows that.
    torch.testing.assert_close(mel(clips.double().to(device)).cpu(), exact, rtol=1e-7, atol=1e-7)
    ours = mel(clips.to(device)).cpu()
    error, allowed = ((values - exact).square().mean().sqrt() for values in (ours, in_float32))
    assert error <= 2 * allowed


def test_a_clip_too_short_is_a_sentence_and_on_a_gpu_not_a_number(device: str) -> None:
    mel = MelSpectrogram("whisper").to(device)
    clips, lengths = torch.randn(3, 1000, device=device), torch.tensor([1000, 150, 300], device=device)
    if device == "cpu":
        with pytest.raises(ValueError, match="clip 1: the clip has 150 samples, expected at least 201"):
            mel(clips, lengths)
        return
    values = mel(clips, lengths)
    assert torch.equal(values[0], mel(clips[0]))
    assert values[1].isnan().all() and values[2].isfinite().all()
    wrong = mel(clips, torch.tensor([1000, 1001, -1], device=device))
    assert wrong.isnan().flatten(1).all(1).tolist() == [False, True, True]


def test_a_clip_without_samples_is_what_pads_it(device: str) -> None:
    mel = MelSpectrogram("whisper", padding="to:1600").to(device)
    nothing = torch.zeros(2, 0, device=device, requires_grad=True)
    values = mel(nothing)
    assert values.shape == (2, 80, 10) and (values == -1.5).all()
    assert torch.autograd.grad(values.sum(), nothing)[0].shape == (2, 0)
    assert MelSpectrogram("kaldi").to(device)(torch.zeros(3, 399, device=device)).shape == (3, 0, 23)


def test_results_repeat_bit_for_bit(device: str) -> None:
    mel = MelSpectrogram("whisper", loudest="batch").to(device)
    clips = torch.randn(4, 9000, device=device, requires_grad=True)
    runs = [[values, *torch.autograd.grad(values.sin().sum(), clips)] for values in (mel(clips) for _ in range(3))]
    assert all(torch.equal(one, other) for run in runs[1:] for one, other in zip(run, runs[0], strict=True))


def test_one_bad_sample_spoils_its_own_clip_alone(device: str) -> None:
    for dialect, options in (("whisper", {}), ("whisper", {"loudest": "batch"}), ("kaldi", {})):
        mel = MelSpectrogram(dialect, **options).to(device)
        clips = torch.randn(3, 4000, device=device)
        clean = mel(clips)
        clips[1, 2000] = torch.inf
        spoiled = mel(clips)
        assert torch.equal(spoiled[0], clean[0]) and torch.equal(spoiled[2], clean[2])
        bad = spoiled[1].isnan()
        assert bad.all() if dialect == "whisper" else bad.any(1).sum() == 2  # frames over it


def test_float32_keeps_the_tables_whole(device: str) -> None:
    samples = torch.from_numpy(speech(8000)).to(device)
    mel = MelSpectrogram("whisper")
    expected = mel.to(device)(samples)
    for narrowed in (mel.to(torch.float32), mel.half(), mel.double()):
        assert narrowed.filters.dtype == torch.float64
        assert torch.equal(narrowed(samples), expected)
    assert not mel.state_dict()


def test_filters_can_be_learned(device: str) -> None:
    mel = MelSpectrogram("whisper", n_mels=20).to(device)
    mel.filters = nn.Parameter(1.5 * mel.filters)
    clip, goal = torch.randn(4000, device=device), MelSpectrogram("whisper", n_mels=20).to(device)
    optimiser = torch.optim.Adam(mel.parameters(), lr=2e-4)
    losses = []
    for _ in range(40):
        loss = (mel(clip) - goal(clip)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


def test_integers_and_lengths() -> None:
    mel = MelSpectrogram("whisper")
    whole = (speech(9000) * 32767).astype(np.int16)
    expected = mel(torch.from_numpy(whole / np.float32(32768)))
    assert torch.equal(mel(torch.from_numpy(whole)), expected)
    assert torch.equal(mel(torch.from_numpy(whole.astype(np.int32) << 16)), expected)
    clips = torch.from_numpy(np.stack([whole, whole]))
    ragged = mel(clips, torch.tensor([9000, 5000]))
    assert torch.equal(ragged[0], expected)
    assert torch.equal(ragged[1, :, :31], mel(clips[1, :5000])) and not ragged[1, :, 31:].any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_mel": 80}, 'there is no option "n_mel", expected one of sample_rate'),
        ({"n_mels": 0}, "n_mels is 0, expected 1 to 4096"),
        ({"padding": 480000}, 'padding is "480000", expected none, to:<samples>'),
    ],
)
def test_wrong_options_are_sentences(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MelSpectrogram("whisper", **options)


def test_normalized_waveforms(device: str) -> None:
    clips = torch.randn(3, 500, dtype=torch.double, device=device, requires_grad=True)
    expected = reference.normalize_waveform(clips)
    torch.testing.assert_close(normalize_waveform(clips), expected, rtol=1e-12, atol=1e-12)
    lengths = torch.tensor([500, 0, 300], device=device)
    ragged = normalize_waveform(clips, lengths)
    torch.testing.assert_close(ragged[2, :300], reference.normalize_waveform(clips[2, :300]), rtol=1e-12, atol=1e-12)
    assert not ragged[1].any() and not ragged[2, 300:].any()
    assert torch.autograd.gradcheck(lambda x: normalize_waveform(x, lengths), clips, fast_mode=True)
    with pytest.raises(TypeError, match="mel::normalize_waveform: waveform is int16, expected float32 or float64"):
        normalize_waveform(torch.zeros(5, dtype=torch.int16))
