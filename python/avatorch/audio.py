"""Speech for models: log-mel spectrograms as a module, normalised waveforms, and sound from files."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from avatorch import _native


class MelSpectrogram(nn.Module):
    """Waveforms to log-mel spectrograms as one program makes them: whisper, librosa, torchaudio, kaldi, nemo, hifigan,
    bigvgan or vocos, or any change of one.

        mel = MelSpectrogram("whisper", n_mels=128)
        features = mel(waveform)  # [..., samples] -> [..., n_mels, frames]

    `options` are those of docs/mel.md: `n_mels=128`, `padding="append:480000"`, `loudest="batch"`, ... The window and
    the filters are float64 buffers, rounded where they are used. To learn them, make them parameters:
    `mel.filters = nn.Parameter(mel.filters)`.

    With `dither` every call adds new noise from torch's generator; `dither=0` for results that repeat.
    """

    window: Tensor  # [win_length]
    filters: Tensor  # [n_mels, n_fft / 2 + 1]
    bands: Tensor  # [n_mels, 2], the bins, first and end, that each filter touches

    def __init__(self, dialect: str = "whisper", **options: str | float | bool) -> None:
        super().__init__()
        words = [f"{name}={str(value).lower()}" for name, value in options.items()]
        self.convention: str = " ".join([dialect, *words])
        known = _native.mel_options(self.convention)
        self.sample_rate: int = known["sample_rate"]
        self.n_mels: int = known["n_mels"]
        self.n_features: int = known["n_features"]  # the bands, and the energy
        self.hop_length: int = known["hop_length"]
        self.frame_major: bool = known["frame_major"]
        self.dither: float = known["dither"]
        self.input_scale: float = known["input_scale"]
        if known["dither_seed"]:
            raise ValueError(
                f"dither_seed is {known['dither_seed']}, expected none: the noise comes from torch's generator, which "
                "torch.manual_seed seeds"
            )
        # What is left for the operator: noise is added to the scaled samples before it.
        self._after_noise: str = f"{self.convention} input_scale=1 dither=0" if self.dither else self.convention
        for name, table in zip(("window", "filters", "bands"), self._tables(), strict=True):
            self.register_buffer(name, table, persistent=False)

    def forward(
        self, waveform: Tensor, lengths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """`waveform` is [..., samples]: floats, or integers, which are scaled to [-1, 1).

        With `lengths` [...], int64, clips have their own numbers of samples; what follows is not read, and frames that
        a clip does not have are zero. The result is [..., n_features, frames], or [..., frames, n_features] for kaldi.
        `generator` draws the noise of `dither` in place of torch's own.
        """
        if not waveform.is_floating_point():
            waveform = waveform.to(torch.get_default_dtype()) / -torch.iinfo(waveform.dtype).min
        if self.dither:
            noise = torch.normal(
                0.0, self.dither, waveform.shape, generator=generator, dtype=waveform.dtype, device=waveform.device
            )
            waveform = self.input_scale * waveform + noise
        result: Tensor = torch.ops.mel.log_mel(
            waveform, self.window, self.filters, self.bands, lengths, self._after_noise
        )
        return result

    def count_frames(self, samples: int) -> int:
        """Frames of a clip of so many samples."""
        clip = torch.empty(samples, device="meta")
        tables = (table.to("meta") for table in self._tables())
        shape = torch.ops.mel.log_mel(clip, *tables, None, self._after_noise).shape
        return int(shape[0] if self.frame_major else shape[1])

    def extra_repr(self) -> str:
        """The convention."""
        return self.convention

    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        tables: tuple[Tensor, Tensor, Tensor] = torch.ops.mel.tables(self._after_noise)
        return tables

    def _apply(self, fn: Any, recurse: bool = True) -> MelSpectrogram:
        # A module that becomes float32 keeps its tables whole: what narrowing took from them is put back.
        super()._apply(fn, recurse)
        for name, table in zip(("window", "filters", "bands"), self._tables(), strict=True):
            own = getattr(self, name)
            if name in self._buffers and own.dtype != table.dtype:
                setattr(self, name, table.to(own.device))
        return self


def normalize_waveform(waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Zero mean and unit deviation over [..., samples], as wav2vec 2.0, HuBERT and WavLM take their samples.

    With `lengths` [...] only so many samples of each clip count, and the others become zero.
    """
    result: Tensor = torch.ops.mel.normalize_waveform(waveform, lengths)
    return result


class Sound(NamedTuple):
    """What a file holds."""

    samples: Tensor  # [channel, sample], float32, in [-1, 1) where the file has integers
    sample_rate: int  # Hz


def load_wav(path: str | os.PathLike[str], sample_rate: int | None = None) -> Sound:
    """Reads a WAV file of 8 to 32-bit integers or 32-bit floats, and resamples it if `sample_rate` asks for that.

    A broken file is refused in a sentence, and costs no more memory than its size, four times over.
    """
    samples, rate = _native.load_wav(path, sample_rate)
    return Sound(torch.from_dlpack(samples), rate)
