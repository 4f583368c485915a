"""avatorch.audio.MelSpectrogram; what needs no other program, so that it runs anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audio.signals import signals, speech
from avatorch.audio import MelSpectrogram
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


@pytest.mark.parametrize(("dialect", "options"), [("whisper", {}), ("torchaudio", {"energy": "raw"})])
def test_a_clip_too_short_is_a_sentence_and_on_a_gpu_not_a_number(
    dialect: str, options: dict[str, str], device: str
) -> None:
    mel = MelSpectrogram(dialect, **options).to(device)
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


@pytest.mark.parametrize(("dialect", "option"), [("whisper", {"loudest": "batch"}), ("kaldi", {"energy": "raw"})])
def test_results_repeat_bit_for_bit(dialect: str, option: dict[str, str], device: str) -> None:
    mel = MelSpectrogram(dialect, **option).to(device)
    clips = torch.randn(4, 9000, device=device, requires_grad=True)
    runs = [[values, *torch.autograd.grad(values.sin().sum(), clips)] for values in (mel(clips) for _ in range(3))]
    assert all(torch.equal(one, other) for run in runs[1:] for one, other in zip(run, runs[0], strict=True))


def test_one_bad_sample_spoils_its_own_clip_alone(device: str) -> None:
    for dialect, options in (
        ("whisper", {}),
        ("whisper", {"loudest": "batch"}),
        ("kaldi", {}),
        ("kaldi", {"energy": "raw"}),
        ("kaldi", {"energy": "windowed"}),
    ):
        mel = MelSpectrogram(dialect, **options).to(device)
        clips = torch.randn(3, 4000, device=device)
        clean = mel(clips)
        clips[1, 2000] = torch.inf
        spoiled = mel(clips)
        assert torch.equal(spoiled[0], clean[0]) and torch.equal(spoiled[2], clean[2])
        bad = spoiled[1].isnan()
        features = 1 if mel.frame_major else 0
        over = 25 if dialect == "whisper" else 2  # frames that hang on the sample
        assert bad.all(features).sum() == bad.any(features).sum() == over


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


KALDI = {"dither": 0.5, "energy": "raw", "energy_floor": 0, "input_scale": 32768}


def test_dither_is_new_noise_that_torchs_generator_draws(device: str) -> None:
    mel = MelSpectrogram("kaldi", **KALDI).to(device)
    clips = torch.from_numpy(np.stack([speech(16000), 0.1 * speech(16000)])).to(device)
    torch.manual_seed(3)
    first, second = mel(clips), mel(clips)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(mel(clips), first)
    generators = [torch.Generator(device).manual_seed(4) for _ in range(2)]
    before = torch.get_rng_state()
    assert torch.equal(*(mel(clips, generator=generator) for generator in generators))
    assert torch.equal(torch.get_rng_state(), before)
    # Noise in the units of the scaled samples, and nothing else.
    plain = MelSpectrogram("kaldi", energy="raw", energy_floor=0).to(device)
    noise = torch.randn(2, 16000, generator=torch.Generator(device).manual_seed(4), device=device)
    expected = plain(32768 * clips + 0.5 * noise)
    assert torch.equal(mel(clips, generator=torch.Generator(device).manual_seed(4)), expected)


def test_dither_is_gaussian_of_the_asked_deviation(device: str) -> None:
    # The energy of an undisturbed frame of 400 samples is chi-squared: 400 on average, of variance 800.
    plain = {"preemphasis": "none", "remove_dc": False, "window": "rectangular", "hop_length": 400, "log": "none"}
    mel = MelSpectrogram("kaldi", **(KALDI | {"dither": 0.25}), **plain).to(device)
    power = mel(torch.zeros(400 * 20000, dtype=torch.double, device=device))[:, 0].exp() / 0.25**2
    assert abs(power.mean() - 400) <= 6 * (800 / 20000) ** 0.5
    assert abs(power.var() / 800 - 1) <= 6 * (2 / 20000) ** 0.5


def test_no_dither_repeats_and_is_the_plain_dialect(device: str) -> None:
    clip = torch.from_numpy(speech(16000)).to(device)
    mel = MelSpectrogram("kaldi", dither=0.0).to(device)
    before = torch.get_rng_state()
    assert torch.equal(mel(clip), MelSpectrogram("kaldi").to(device)(clip))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_gradient_is_that_of_the_dithered_samples(device: str) -> None:
    mel = MelSpectrogram("kaldi", **KALDI).to(device)
    plain = MelSpectrogram("kaldi", energy="raw", energy_floor=0).to(device)
    clip = torch.from_numpy(0.1 * speech(4000)).double().to(device).requires_grad_()
    torch.manual_seed(5)
    found = mel(clip)
    torch.manual_seed(5)
    noise = torch.randn_like(clip)
    expected = plain(32768 * clip + 0.5 * noise)
    gradients = [torch.autograd.grad(values.sin().sum(), clip)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)

    def same_noise(x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return mel(x)

    short = (0.01 * clip.detach()[1000:1600]).requires_grad_()
    nondeterministic = 1e-6 if device == "cuda" else 0.0  # torch's own scatter_add
    assert torch.autograd.gradcheck(same_noise, short, check_forward_ad=True, fast_mode=True, eps=1e-9)
    assert torch.autograd.gradgradcheck(
        same_noise, short, check_fwd_over_rev=True, fast_mode=True, eps=1e-9, nondet_tol=nondeterministic
    )


def test_dither_under_vmap_is_torchs_to_decide(device: str) -> None:
    mel = MelSpectrogram("kaldi", **KALDI).to(device)
    clips = torch.zeros(3, 4000, device=device)
    same = torch.func.vmap(mel, randomness="same")(clips)
    different = torch.func.vmap(mel, randomness="different")(clips)
    assert same.shape == different.shape == (3, 23, 24)
    assert torch.equal(same[0], same[1]) and not torch.equal(different[0], different[1])


@pytest.mark.parametrize(
    ("dialect", "options"),
    [("whisper", {}), ("kaldi", {"energy": "raw"}), ("kaldi", KALDI), ("nemo", {"dither": 1e-5})],
)
def test_the_module_compiles_and_exports_whole(dialect: str, options: dict[str, float], device: str) -> None:
    mel = MelSpectrogram(dialect, **options).to(device)
    clips = torch.randn(2, 4000, device=device, requires_grad=True)
    compiled = torch.compile(mel, fullgraph=True, backend="aot_eager")
    dims = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=800, max=1 << 24)},)
    exported = torch.export.export(mel, (clips.detach(),), dynamic_shapes=dims).module()
    results = []
    for program in (mel, compiled, exported):
        torch.manual_seed(6)
        values = program(clips)
        results.append([values, *torch.autograd.grad(values.sin().sum(), clips)])
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.manual_seed(7)
        other = exported(torch.zeros(5, 4321, device=device))
        torch.manual_seed(7)
        assert torch.equal(other, mel(torch.zeros(5, 4321, device=device)))


def test_energy_comes_first_and_counts_as_a_feature(device: str) -> None:
    clip = torch.from_numpy(speech(16000)).to(device)
    for dialect, axis in (("kaldi", 1), ("nemo", 0)):
        mel = MelSpectrogram(dialect, energy="windowed", energy_floor=1e-3).to(device)
        plain = MelSpectrogram(dialect).to(device)
        assert (mel.n_mels, mel.n_features) == (plain.n_mels, plain.n_mels + 1)
        assert torch.equal(mel(clip).narrow(axis, 1, plain.n_mels), plain(clip))
        with torch.inference_mode():
            torch.testing.assert_close(mel(clip), mel(clip.double()).float(), rtol=1e-4, atol=1e-3)


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
        ({"dither": -1}, "dither is -1, expected zero or more"),
        ({"dither": 1, "dither_seed": 3}, "dither_seed is 3, expected none: the noise comes from torch's generator"),
        ({"energy": "raw"}, "there is an energy and a dynamic_range of 8, expected one of them: no program has both"),
        ({"padding": 480000}, 'padding is "480000", expected none, to:<samples>'),
    ],
)
def test_wrong_options_are_sentences(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MelSpectrogram("whisper", **options)
