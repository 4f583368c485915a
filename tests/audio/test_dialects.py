"""Every dialect against the program it is named after, and both against float64.

NeMo, HiFi-GAN and BigVGAN are too heavy to install for a test: their formulas are written here a second
time, in float32 torch, from their documentation. The others are called.
"""

from __future__ import annotations

import kaldi_native_fbank as knf
import librosa
import numpy as np
import pytest
import torch
import torchaudio

from audio.mel_library import FRAMINGS, WINDOWS, Mel, available_levels
from audio.signals import signals, speech
from avatorch.audio import MelSpectrogram
from avatorch.reference import mel as reference

N = 3 * 16000 + 77
SPEECH = speech(N)
NOISE = signals(N)["noise"]


def of_reference(dialect: str, samples: np.ndarray, **options: object) -> np.ndarray:
    options = reference.DIALECTS[dialect] | options
    return reference.log_mel(torch.from_numpy(samples), **options).numpy()


def check(ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, in_float32: np.ndarray | None = None) -> None:
    """At most twice as far from float64 as the program, or as `in_float32` where that computes in float64.

    Root mean squares: the largest error of a logarithm is that of one frame's deepest null, and a lottery.
    """
    assert ours.shape == theirs.shape == truth.shape
    scale = np.abs(truth).max()
    assert np.abs(theirs - truth).max() <= 1e-3 * scale, "the reference does not describe the program"
    assert np.abs(ours - truth).max() <= 1e-3 * scale
    bound = rms(theirs - truth) if in_float32 is None else rms(in_float32 - truth)
    assert rms(ours - truth) <= max(2 * bound, 6e-8 * scale)


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.square(difference, dtype=np.float64).mean()))


SAMPLES = pytest.mark.parametrize("samples", [SPEECH, NOISE], ids=["speech", "noise"])


@SAMPLES
def test_librosa(samples: np.ndarray) -> None:
    theirs = librosa.feature.melspectrogram(y=samples, sr=22050)
    check(Mel("librosa")(samples), theirs, of_reference("librosa", samples))


@SAMPLES
def test_librosa_in_decibels(samples: np.ndarray) -> None:
    theirs = librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=22050))
    ours = Mel("librosa", log=2, guard_value=1e-10, range=1, range_below=8.0, scale=10.0)(samples)
    db = {"log": "decimal", "guard": ("at_least", 1e-10), "range_below": 8.0, "scale": 10.0}
    program = torchaudio.transforms.MelSpectrogram(
        22050, 2048, hop_length=512, n_mels=128, mel_scale="slaney", norm="slaney", pad_mode="constant"
    )
    in_float32 = torchaudio.transforms.AmplitudeToDB("power", 80.0)(program(torch.from_numpy(samples))).numpy()
    check(ours, theirs, of_reference("librosa", samples, **db), in_float32)


@pytest.mark.parametrize(("n_mels", "htk"), [(128, False), (80, False), (100, True)])
def test_filters_are_librosas(n_mels: int, htk: bool) -> None:
    theirs = librosa.filters.mel(sr=16000, n_fft=400, n_mels=n_mels, htk=htk, norm=None if htk else "slaney")
    truth = reference.filters("htk" if htk else "slaney", None if htk else "slaney", n_mels, 400, 16000).numpy()
    assert np.abs(theirs - truth).max() <= 1e-7 * truth.max()


@SAMPLES
@pytest.mark.parametrize("n_fft", [400, 512, 2048, 1000])
def test_torchaudio(samples: np.ndarray, n_fft: int) -> None:
    n_mels = 64
    program = torchaudio.transforms.MelSpectrogram(16000, n_fft=n_fft, n_mels=n_mels)
    theirs = program(torch.from_numpy(samples)).numpy()
    sizes = {"n_fft": n_fft, "win_length": n_fft, "hop_length": n_fft // 2, "n_mels": n_mels}
    check(Mel("torchaudio", **sizes)(samples), theirs, of_reference("torchaudio", samples, **sizes))


def test_torchaudio_with_a_short_window() -> None:
    program = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=600, win_length=401, hop_length=123, n_mels=40, f_min=50
    )
    sizes = {"n_fft": 600, "win_length": 401, "hop_length": 123, "n_mels": 40, "f_min": 50.0}
    theirs = program(torch.from_numpy(SPEECH)).numpy()
    check(Mel("torchaudio", **sizes)(SPEECH), theirs, of_reference("torchaudio", SPEECH, **sizes))


KALDI_WINDOWS = {"povey": "povey", "hanning": "hann_symmetric", "hamming": "hamming", "blackman": "blackman",
                 "rectangular": "rectangular"}  # fmt: skip


@SAMPLES
@pytest.mark.parametrize("window", KALDI_WINDOWS)
@pytest.mark.parametrize("snip_edges", [True, False])
def test_kaldi(samples: np.ndarray, window: str, snip_edges: bool) -> None:
    theirs = torchaudio.compliance.kaldi.fbank(
        torch.from_numpy(samples)[None] * 32768, window_type=window, snip_edges=snip_edges, num_mel_bins=80
    ).numpy()
    ours = KALDI_WINDOWS[window]
    framing = "inside" if snip_edges else "mirrored"
    mel = Mel("kaldi", n_mels=80, window=WINDOWS.index(ours), framing=FRAMINGS.index(framing), input_scale=32768.0)
    truth = of_reference("kaldi", samples * 32768, n_mels=80, window=ours, framing=framing)
    check(mel(samples), theirs, truth)


ENERGIES = ["none", "raw", "windowed"]


@pytest.mark.parametrize("energy", ENERGIES[1:])
@pytest.mark.parametrize("floor", [0.0, 1.0, 1e9])
@pytest.mark.parametrize("snip_edges", [True, False])
def test_kaldi_with_energy(energy: str, floor: float, snip_edges: bool) -> None:
    samples = torch.from_numpy(SPEECH)[None] * 32768
    options = {"use_energy": True, "raw_energy": energy == "raw", "energy_floor": floor, "snip_edges": snip_edges}
    theirs = torchaudio.compliance.kaldi.fbank(samples, **options).numpy()
    framing = "inside" if snip_edges else "mirrored"
    config = {"framing": FRAMINGS.index(framing), "energy": ENERGIES.index(energy), "energy_floor": floor}
    ours = Mel("kaldi", input_scale=32768.0, **config)(SPEECH)
    truth = of_reference("kaldi", SPEECH * 32768, framing=framing, energy=energy, energy_floor=floor)
    check(ours, theirs, truth)
    assert np.abs(ours[:, 0] - theirs[:, 0]).max() <= 2e-6 * np.abs(theirs[:, 0]).max()
    # With htk_compat the energy comes last.
    of_htk = torchaudio.compliance.kaldi.fbank(samples, htk_compat=True, **options).numpy()
    check(np.roll(ours, -1, 1), of_htk, np.roll(truth, -1, 1))


@pytest.mark.parametrize("energy", ENERGIES[1:])
def test_kaldi_native_fbank_with_energy(energy: str) -> None:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.use_energy, options.raw_energy, options.energy_floor = True, energy == "raw", 1.0
    theirs = of_kaldi_native_fbank(options)
    ours = Mel("kaldi", energy=ENERGIES.index(energy), input_scale=32768.0)(SPEECH)
    check(ours, theirs, of_reference("kaldi", SPEECH * 32768, energy=energy))


def of_kaldi_native_fbank(options: knf.FbankOptions) -> np.ndarray:
    program = knf.OnlineFbank(options)
    program.accept_waveform(16000, (SPEECH * 32768).tolist())
    program.input_finished()
    return np.stack([program.get_frame(i) for i in range(program.num_frames_ready)])


@pytest.mark.parametrize("snip_edges", [True, False])
def test_kaldi_native_fbank(snip_edges: bool) -> None:
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = snip_edges
    options.mel_opts.num_bins = 40
    theirs = of_kaldi_native_fbank(options)
    framing = "inside" if snip_edges else "mirrored"
    ours = Mel("kaldi", n_mels=40, framing=FRAMINGS.index(framing), input_scale=32768.0)(SPEECH)
    check(ours, theirs, of_reference("kaldi", SPEECH * 32768, n_mels=40, framing=framing))


def test_kaldi_clips_shorter_than_a_window() -> None:
    assert Mel("kaldi")(SPEECH[:399]).shape == (0, 23)
    assert Mel("kaldi")(SPEECH[:400]).shape == (1, 23)
    mirrored = Mel("kaldi", framing=FRAMINGS.index("mirrored"))
    for n in (80, 100, 239, 240):
        truth = of_reference("kaldi", SPEECH[20000 : 20000 + n], framing="mirrored")
        assert np.abs(mirrored(SPEECH[20000 : 20000 + n]) - truth).max() <= 1e-4


@SAMPLES
def test_nemo(samples: np.ndarray) -> None:
    # Emphasis over the clip, zeros beyond the ends, a symmetric window in the middle of 512 points.
    x = torch.from_numpy(samples)
    x = torch.cat([x[:1], x[1:] - 0.97 * x[:-1]])
    window = torch.hann_window(400, periodic=False)
    spectrum = torch.stft(x, 512, 160, 400, window, center=True, pad_mode="constant", return_complex=True)
    power = torch.view_as_real(spectrum).pow(2).sum(-1)
    mel = torch.from_numpy(librosa.filters.mel(sr=16000, n_fft=512, n_mels=80)) @ power
    features = torch.log(mel + 2**-24)[:, : len(samples) // 160]
    deviation = features.std(1, keepdim=True) + 1e-5
    theirs = ((features - features.mean(1, keepdim=True)) / deviation).numpy()
    check(Mel("nemo")(samples), theirs, of_reference("nemo", samples))


@SAMPLES
@pytest.mark.parametrize(
    ("dialect", "rate", "n_mels", "f_max"), [("hifigan", 22050, 80, 8000), ("bigvgan", 24000, 100, None)]
)
def test_hifigan_and_bigvgan(samples: np.ndarray, dialect: str, rate: int, n_mels: int, f_max: int | None) -> None:
    # (n_fft - hop) / 2 reflected samples, magnitudes with 1e-9 under the root, ln of at least 1e-5.
    x = torch.nn.functional.pad(torch.from_numpy(samples)[None], (384, 384), mode="reflect")[0]
    spectrum = torch.stft(x, 1024, 256, 1024, torch.hann_window(1024), center=False, return_complex=True)
    magnitude = torch.sqrt(torch.view_as_real(spectrum).pow(2).sum(-1) + 1e-9)
    mel = torch.from_numpy(librosa.filters.mel(sr=rate, n_fft=1024, n_mels=n_mels, fmax=f_max)) @ magnitude
    theirs = torch.log(mel.clamp(min=1e-5)).numpy()
    check(Mel(dialect)(samples), theirs, of_reference(dialect, samples))


@SAMPLES
def test_vocos(samples: np.ndarray) -> None:
    program = torchaudio.transforms.MelSpectrogram(24000, n_fft=1024, hop_length=256, n_mels=100, center=True, power=1)
    theirs = torch.log(program(torch.from_numpy(samples)).clamp(min=1e-7)).numpy()
    check(Mel("vocos")(samples), theirs, of_reference("vocos", samples))


@pytest.mark.parametrize("level", available_levels())
@pytest.mark.parametrize("dialect", reference.DIALECTS)
def test_every_dialect_at_every_level(dialect: str, level: str) -> None:
    truth = of_reference(dialect, NOISE)
    values = Mel(dialect, simd=level)(NOISE)
    assert values.shape == truth.shape
    assert np.abs(values - truth).max() <= 3e-5 * np.abs(truth).max()


def test_dither_is_noise_of_the_asked_deviation_and_repeats() -> None:
    silence = np.zeros(160000, np.float32)
    options = {
        "preemphasis": 0,
        "remove_dc": 0,
        "energy": 2,
        "window": WINDOWS.index("rectangular"),
        "energy_floor": 0.0,
    }
    noisy = Mel("kaldi", dither=0.25, dither_seed=3, **options)(silence)
    power = np.exp(noisy[:, 0]).mean() / 400
    assert abs(power - 0.25**2) < 0.002
    assert np.array_equal(noisy, Mel("kaldi", dither=0.25, dither_seed=3, **options)(silence))
    assert not np.array_equal(noisy, Mel("kaldi", dither=0.25, dither_seed=4, **options)(silence))


def test_dithered_silence_is_like_kaldis() -> None:
    """Of the program, the C library and torch alike: the mean and the deviation of every band and of the energy.

    Kaldi draws new noise in every frame, we draw it once a sample: one frame alone has the same distribution.
    """
    silence = torch.zeros(16000 * 40)
    config = {"energy": 1, "energy_floor": 0.0}
    found = {
        "torchaudio": torchaudio.compliance.kaldi.fbank(silence[None], dither=0.5, use_energy=True, energy_floor=0.0),
        "the C library": torch.from_numpy(Mel("kaldi", dither=0.5, dither_seed=1, **config)(silence.numpy())),
        "torch": MelSpectrogram("kaldi", dither=0.5, energy="raw", energy_floor=0)(silence),
    }
    options = reference.KALDI | {"energy": "raw", "energy_floor": 0.0}
    truth = reference.log_mel(0.5 * torch.randn(16000 * 400), **options)
    for name, values in found.items():
        frames = len(values) / 2.5  # a frame shares three fifths of its samples with the next
        spread = truth.std(0) / frames**0.5
        assert ((values.mean(0) - truth.mean(0)).abs() <= 6 * spread).all(), name
        assert ((values.std(0) / truth.std(0) - 1).abs() <= 0.2).all(), name
