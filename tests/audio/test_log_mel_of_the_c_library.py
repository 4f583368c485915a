"""mel::log_mel on the CPU is the C library, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import avatorch  # noqa: F401
from audio.mel_library import FRAMINGS, RANGES, Mel
from audio.signals import signals
from avatorch.reference import mel as reference
from transforms import assert_equal

mel = torch.ops.mel


def tables(convention: str) -> list[Tensor]:
    return list(mel.tables(convention))


@pytest.mark.parametrize("name", ["speech", "noise", "chirp", "tone", "impulse", "silence", "constant", "faint"])
@pytest.mark.parametrize("n_mels", [80, 128])
def test_float32_is_the_c_librarys_bit_for_bit(name: str, n_mels: int) -> None:
    samples = signals(5 * 16000 + 77)[name]
    convention = f"whisper n_mels={n_mels}"
    found = mel.log_mel(torch.from_numpy(samples), *tables(convention), None, convention)
    assert np.array_equal(found.numpy(), Mel(n_mels=n_mels)(samples))


@pytest.mark.parametrize("dialect", reference.DIALECTS)
def test_every_dialect_is_the_c_librarys(dialect: str) -> None:
    clips = np.stack([signals(30011)[name] for name in ("speech", "noise", "impulse")])
    found = mel.log_mel(torch.from_numpy(clips), *tables(dialect), None, dialect)
    for values, clip in zip(found.numpy(), clips, strict=True):
        assert np.array_equal(values, Mel(dialect)(clip))
    options = reference.DIALECTS[dialect]
    exact = mel.log_mel(torch.from_numpy(clips).double(), *tables(dialect), None, dialect)
    assert_equal(exact, reference.log_mel(torch.from_numpy(clips), **options), 1e-9)


@pytest.mark.parametrize("energy", ["raw", "windowed"])
@pytest.mark.parametrize("framing", ["inside", "mirrored"])
def test_energy_is_the_c_librarys_and_exact(energy: str, framing: str) -> None:
    clips = np.stack([signals(30011)[name] for name in ("speech", "noise", "silence")])
    convention = f"kaldi framing={framing} energy={energy} energy_floor=0.01"
    found = mel.log_mel(torch.from_numpy(clips), *tables(convention), None, convention)
    config = {"framing": FRAMINGS.index(framing), "energy": ["none", "raw", "windowed"].index(energy)}
    for values, clip in zip(found.numpy(), clips, strict=True):
        assert np.array_equal(values, Mel("kaldi", energy_floor=0.01, **config)(clip))
    options = reference.KALDI | {"framing": framing, "energy": energy, "energy_floor": 0.01}
    truth = reference.log_mel(torch.from_numpy(clips), **options)
    assert_equal(mel.log_mel(torch.from_numpy(clips).double(), *tables(convention), None, convention), truth, 1e-9)
    # One unit in the last place of the largest energy, -4.6 to 5.
    assert (found[..., 0] - truth[..., 0]).abs().max() <= 5e-7


@pytest.mark.parametrize("scope", ["clip", "batch", "so_far", "constant"])
def test_whose_loudest(scope: str) -> None:
    clips = [signals(4000)["noise"], 0.01 * signals(4000)["chirp"], signals(4000)["faint"]]
    convention = f"whisper loudest={1.5 if scope == 'constant' else scope}"
    found = mel.log_mel(torch.from_numpy(np.stack(clips)), *tables(convention), None, convention)
    expected = Mel(range=RANGES.index(scope), range_loudest=1.5).batch(clips)
    assert np.array_equal(found.numpy(), np.stack(expected))


def test_framing_of_the_c_library() -> None:
    noise = signals(4001)["noise"]
    for framing in FRAMINGS:
        convention = f"kaldi framing={framing} n_fft=400 padding=append:700"
        found = mel.log_mel(torch.from_numpy(noise), *tables(convention), None, convention)
        config = {"framing": FRAMINGS.index(framing), "n_fft": 400, "padding": 2, "padding_length": 700}
        assert np.array_equal(found.numpy(), Mel("kaldi", **config)(noise)), framing
