"""mel::normalize_waveform: the contract of every operator, with and without lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avatorch.audio import normalize_waveform
from avatorch.reference import mel as reference
from contract import OperatorTests
from transforms import assert_equal

double = torch.double


class TestNormalizeWaveform(OperatorTests):
    namespace = "mel"
    name = "normalize_waveform"

    def inputs(self, batch: int) -> list[Any]:
        return [torch.randn(batch, 43, dtype=double) + 0.2]

    def reference(self, waveform: Any) -> Tensor:
        return reference.normalize_waveform(waveform)


class TestWithLengths(OperatorTests):
    namespace = "mel"
    name = "normalize_waveform"
    batched = (0, 1)

    def inputs(self, batch: int) -> list[Any]:
        return [torch.randn(batch, 43, dtype=double) + 0.2, torch.arange(batch) * 7 % 43 + 1]

    def reference(self, waveform: Any, lengths: Any) -> Tensor:
        used = torch.arange(43, device=lengths.device) < lengths[:, None]
        count = lengths[:, None]
        rest = torch.where(used, waveform - (waveform * used).sum(-1, keepdim=True) / count, 0.0)
        return rest / (rest.square().sum(-1, keepdim=True) / count + 1e-7).sqrt()


def test_lengths_and_wrong_dtypes(device: str) -> None:
    clips = torch.randn(3, 500, dtype=double, device=device)
    lengths = torch.tensor([500, 0, 300], device=device)
    clips[2, 300:] = torch.nan
    clips.requires_grad_()
    ragged = normalize_waveform(clips, lengths)
    assert_equal(ragged[2, :300], reference.normalize_waveform(clips[2, :300]), 1e-12)
    assert not ragged[1].any() and not ragged[2, 300:].any()
    (gradient,) = torch.autograd.grad(ragged.sin().sum(), clips)
    assert gradient.isfinite().all() and not gradient[2, 300:].any()
    with pytest.raises(TypeError, match="mel::normalize_waveform: waveform is int16, expected float32 or float64"):
        normalize_waveform(torch.zeros(5, dtype=torch.int16))
    with pytest.raises(ValueError, match=r"lengths has shape \[2\], expected \[3\]"):
        normalize_waveform(clips, lengths[:2])
