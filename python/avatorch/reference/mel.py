"""Log-mel spectrograms in float64, written from the definitions of each convention."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# What differs from the defaults of `log_mel`.
WHISPER = dict(
    drop_last=True,
    mel_scale="slaney",
    mel_norm="slaney",
    n_mels=80,
    log="decimal",
    guard=("at_least", 1e-10),
    range_below=8.0,
    scale=0.25,
    offset=1.0,
)
LIBROSA = dict(
    sample_rate=22050,
    n_fft=2048,
    win_length=2048,
    hop_length=512,
    framing="center_zero",
    mel_scale="slaney",
    mel_norm="slaney",
)
TORCHAUDIO = dict(hop_length=200)
KALDI = dict(
    n_fft=512,
    window="povey",
    framing="inside",
    remove_dc=True,
    preemphasis=("frame", 0.97),
    mel_scale="kaldi",
    n_mels=23,
    f_min=20.0,
    log="natural",
    guard=("at_least", 2.0**-23),
    frame_major=True,
)
NEMO = dict(
    n_fft=512,
    window="hann_symmetric",
    framing="center_zero",
    drop_last=True,
    preemphasis=("clip", 0.97),
    mel_scale="slaney",
    mel_norm="slaney",
    n_mels=80,
    log="natural",
    guard=("plus", 2.0**-24),
    normalize_bands=True,
)
BIGVGAN = dict(
    sample_rate=24000,
    n_fft=1024,
    win_length=1024,
    hop_length=256,
    framing="same",
    magnitude_epsilon=1e-9,
    mel_scale="slaney",
    mel_norm="slaney",
    n_mels=100,
    log="natural",
    guard=("at_least", 1e-5),
)
HIFIGAN = BIGVGAN | dict(sample_rate=22050, n_mels=80, f_max=8000.0)
VOCOS = BIGVGAN | dict(
    framing="center_reflect", magnitude_epsilon=0.0, mel_scale="htk", mel_norm=None, guard=("at_least", 1e-7)
)
DIALECTS = dict(
    whisper=WHISPER,
    librosa=LIBROSA,
    torchaudio=TORCHAUDIO,
    kaldi=KALDI,
    nemo=NEMO,
    hifigan=HIFIGAN,
    bigvgan=BIGVGAN,
    vocos=VOCOS,
)


def log_mel(
    samples: Tensor,  # [..., n]
    *,
    dtype: torch.dtype = torch.float64,
    sample_rate: int = 16000,
    n_fft: int = 400,
    win_length: int = 400,
    hop_length: int = 160,
    window: str | Tensor = "hann",  # or [win_length]
    framing: str = "center_reflect",
    drop_last: bool = False,
    padding: tuple[str, int] | None = None,
    input_scale: float = 1.0,
    remove_dc: bool = False,
    preemphasis: tuple[str, float] | None = None,
    magnitude_epsilon: float | None = None,
    mel_scale: str = "htk",
    mel_norm: str | None = None,
    n_mels: int = 128,
    f_min: float = 0.0,
    f_max: float = 0.0,
    bank: Tensor | None = None,  # [n_mels, bins], in place of the filters
    log: str | None = None,
    guard: tuple[str, float] = ("at_least", 0.0),
    range_below: float | None = None,
    loudest: str | float = "clip",  # or "batch", "so_far", a number
    scale: float = 1.0,
    offset: float = 0.0,
    normalize_bands: bool = False,
    energy: str | None = None,
    energy_floor: float = 1.0,
    frame_major: bool = False,
) -> Tensor:  # [..., n_mels, frames], or [..., frames, n_mels] where frame_major
    x = samples.to(dtype) * input_scale
    if padding:
        x = x[..., : padding[1]] if padding[0] == "to" else x
        zeros = padding[1] - (x.shape[-1] if padding[0] == "to" else 0)
        x = torch.cat([x, x.new_zeros(*x.shape[:-1], zeros)], -1)
    if preemphasis and preemphasis[0] == "clip":
        x = torch.cat([x[..., :1], x[..., 1:] - preemphasis[1] * x[..., :-1]], -1)
    frames = cut(x, framing, n_fft, win_length, hop_length)  # [..., frames, frame sample]
    if drop_last:
        frames = frames[..., :-1, :]
    if remove_dc:
        frames = frames - frames.mean(-1, keepdim=True)
    raw_energy = frames.square().sum(-1)
    if preemphasis and preemphasis[0] == "frame":
        frames = frames - preemphasis[1] * torch.cat([frames[..., :1], frames[..., :-1]], -1)
    weights = window_weights(window, win_length) if isinstance(window, str) else window
    frames = frames * placed(weights, framing, frames.shape[-1]).to(x)
    spectrum = torch.fft.rfft(frames, n_fft)
    power = spectrum.real.square() + spectrum.imag.square()  # [..., frames, bins]
    if magnitude_epsilon is not None:
        power = (power + magnitude_epsilon).sqrt()
    if bank is None:
        bank = filters(mel_scale, mel_norm, n_mels, n_fft, sample_rate, f_min, f_max)
    mel: Tensor = power @ bank.to(x).T  # [..., frames, n_mels]
    if log:
        mel = mel.clamp(min=guard[1]) if guard[0] == "at_least" else mel + guard[1]
        mel = mel.log10() if log == "decimal" else mel.log()
    if range_below is not None:
        mel = torch.maximum(mel, loudest_of(mel, loudest) - range_below)
    if energy:
        value = raw_energy if energy == "raw" else frames.square().sum(-1)
        mel = torch.cat([value.clamp(min=max(energy_floor, 2.0**-23)).log()[..., None], mel], -1)
    mel = mel * scale + offset
    if normalize_bands:
        deviation = mel.std(-2, keepdim=True) if mel.shape[-2] > 1 else mel.new_zeros(())
        mel = (mel - mel.mean(-2, keepdim=True)) / (deviation + 1e-5)
    return mel if frame_major else mel.transpose(-2, -1)


def loudest_of(mel: Tensor, whose: str | float) -> Tensor:
    """What the floors hang on, to be broadcast over [..., frames, n_mels]."""
    if whose == "so_far":
        return mel.amax(-1, keepdim=True).cummax(-2).values
    if isinstance(whose, str):
        return mel.amax() if whose == "batch" else mel.amax((-2, -1), keepdim=True)
    return mel.new_tensor(whose)


def cut(x: Tensor, framing: str, n_fft: int, win_length: int, hop: int) -> Tensor:
    """Frames, [..., frames, frame sample]."""
    n = x.shape[-1]
    if framing in ("inside", "mirrored"):
        length, first, reach = win_length, 0, 0
    else:
        length = n_fft
        reach = (n_fft - hop) // 2 if framing == "same" else n_fft // 2
        first = -reach
    count = max(n + 2 * reach - length + hop, 0) // hop
    if framing == "mirrored":
        first, count = hop // 2 - win_length // 2, (n + hop // 2) // hop
    starts = first + hop * torch.arange(count, device=x.device)
    index = starts[:, None] + torch.arange(length, device=x.device)  # [frames, frame sample]
    if framing == "mirrored":
        index = index % (2 * n)
        return x[..., torch.where(index < n, index, 2 * n - 1 - index)]
    outside = (index < 0) | (index >= n)
    index = index.abs()
    index = torch.where(index >= n, 2 * (n - 1) - index, index).clamp(0, n - 1)
    return x[..., index].masked_fill(outside, 0.0) if framing == "center_zero" else x[..., index]


def window_weights(name: str, win_length: int) -> Tensor:
    """[win_length]."""
    angle = 2 * math.pi * torch.arange(win_length, dtype=torch.float64)
    angle = angle / (win_length if name == "hann" else win_length - 1)
    hann = 0.5 - 0.5 * angle.cos()
    return {
        "hann": hann,
        "hann_symmetric": hann,
        "povey": hann.clamp(min=0.0) ** 0.85,
        "hamming": 0.54 - 0.46 * angle.cos(),
        "blackman": 0.42 - 0.5 * angle.cos() + 0.08 * (2 * angle).cos(),
        "rectangular": torch.ones_like(angle),
    }[name]


def placed(weights: Tensor, framing: str, length: int) -> Tensor:
    """The window in the middle of `length` samples."""
    before = 0 if framing in ("inside", "mirrored") else (length - len(weights)) // 2
    return torch.nn.functional.pad(weights, (before, length - len(weights) - before))


def filters(
    scale: str,
    norm: str | None,
    n_mels: int,
    n_fft: int,
    sample_rate: int,
    f_min: float = 0.0,
    f_max: float = 0.0,
) -> Tensor:
    """Triangles, [n_mels, bins]."""
    f_max = f_max if f_max > 0 else sample_rate / 2 + f_max
    ends = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), scale)
    edges = ends[0] + (ends[1] - ends[0]) * torch.arange(n_mels + 2, dtype=torch.float64) / (n_mels + 1)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft
    if scale == "kaldi":
        bins = hz_to_mel(bins, scale)
    else:
        edges = mel_to_hz(edges, scale)
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    weights = torch.minimum((bins - left) / (center - left), (right - bins) / (right - center)).clamp(min=0.0)
    if scale == "kaldi":
        weights[:, -1] = 0.0
    return weights * 2 / (right - left) if norm == "slaney" else weights


LOG_STEP = math.log(6.4) / 27


def hz_to_mel(hz: Tensor, scale: str) -> Tensor:
    if scale == "slaney":
        return torch.where(hz < 1000, hz * 3 / 200, 15 + (hz.clamp(min=1.0) / 1000).log() / LOG_STEP)
    return 2595 * (1 + hz / 700).log10() if scale == "htk" else 1127 * (1 + hz / 700).log()


def mel_to_hz(mel: Tensor, scale: str) -> Tensor:
    if scale == "slaney":
        return torch.where(mel < 15, mel * 200 / 3, 1000 * ((mel - 15) * LOG_STEP).exp())
    return 700 * (torch.pow(10.0, mel / 2595) - 1)


def normalize_waveform(samples: Tensor) -> Tensor:
    """wav2vec 2.0's samples, [..., n]: zero mean, unit deviation."""
    rest = samples - samples.mean(-1, keepdim=True)
    return rest / (rest.square().mean(-1, keepdim=True) + 1e-7).sqrt()
