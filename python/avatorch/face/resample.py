"""Samples at one rate to another, in chunks of any size: the result does not depend on the chunks."""

from __future__ import annotations

import math
import numbers

import torch
from torch import Tensor

from avatorch.face.errors import FaceError

CROSSINGS = 32  # zero crossings of the filter on each side
ROLLOFF = 0.95  # of the lower Nyquist frequency: where the filter is down to a half
LEAST_RATE, MOST_RATE = 1_000, 768_000
MOST_TABLE = 1 << 22  # taps that are kept
MOST_AT_ONCE = 1 << 18  # products of samples and taps: larger pieces of memory are not used again


class Resampler:
    """A windowed sinc, in float64, for one mono stream. The stream is not delayed: what lies before it is silence."""

    def __init__(self, source: int, target: int) -> None:
        for name, rate in (("sample_rate", source), ("target", target)):
            if not isinstance(rate, numbers.Integral) or not LEAST_RATE <= rate <= MOST_RATE:
                raise FaceError("eOutOfRange", f"{name} is {rate!r} Hz, expected {LEAST_RATE} to {MOST_RATE}")
        common = math.gcd(source, target)
        self._up, self._down = target // common, source // common  # result i is at i * down / up
        self._cutoff = ROLLOFF * min(1.0, target / source)
        self._half = math.ceil(CROSSINGS / self._cutoff)  # samples on each side
        # Rates without a common factor have a phase for each result: taps of those are computed as they are needed.
        few = self._up * (2 * self._half + 1) <= MOST_TABLE
        self._table = self._make_taps(torch.arange(self._up, device="cpu")) if few else None  # [up, taps]
        self._held = torch.zeros(self._half, dtype=torch.float64, device="cpu")  # from the first sample still needed on
        self._first = -self._half  # its number
        self._given = 0  # results
        self._taken = 0  # samples

    def push(self, samples: Tensor) -> Tensor:
        """The results that samples [n] on the CPU, float, complete. float32"""
        self._taken += len(samples)
        self._held = torch.cat([self._held, samples.double()])
        # A result needs every sample up to half a filter behind it.
        return self._results(-(-(self._taken - self._half) * self._up // self._down))

    def flush(self) -> Tensor:
        """The rest, as silence follows. float32"""
        self._held = torch.cat([self._held, torch.zeros(2 * self._half + 1, dtype=torch.float64, device="cpu")])
        return self._results(-(-self._taken * self._up // self._down))

    def _results(self, end: int) -> Tensor:
        start = self._given
        # One piece for all: small ones between the large ones of the loop would keep those from being used again.
        results = torch.empty(max(0, end - start), dtype=torch.float64, device="cpu")
        at_once = max(1, MOST_AT_ONCE // (2 * self._half + 1))
        while self._given < end:
            number = torch.arange(self._given, min(end, self._given + at_once), device="cpu")
            middle = number * self._down // self._up
            # index_select copies whole rows, an index in brackets value by value.
            windows = self._held.unfold(0, 2 * self._half + 1, 1).index_select(0, middle - self._half - self._first)
            phases = number * self._down % self._up
            taps = self._make_taps(phases) if self._table is None else self._table.index_select(0, phases)
            results[self._given - start : self._given - start + len(number)] = windows.mul_(taps).sum(1)
            self._given += len(number)
        needed = self._given * self._down // self._up - self._half
        self._held, self._first = self._held[max(0, needed - self._first) :], max(needed, self._first)
        return results.float()

    def _make_taps(self, phases: Tensor) -> Tensor:
        """[n], in parts of a sample over `up` -> [n, taps]"""
        places = torch.arange(-self._half, self._half + 1, dtype=torch.float64, device="cpu")
        distance = places - phases.double()[:, None] / self._up
        window = torch.cos(math.pi / 2 * distance / (self._half + 1)).square()
        taps = self._cutoff * torch.sinc(self._cutoff * distance) * window
        return taps / taps.sum(1, keepdim=True)


def resample(samples: Tensor, source: int, target: int) -> Tensor:
    """A whole clip [n]."""
    if source == target:
        return samples.float()
    resampler = Resampler(source, target)
    return torch.cat([resampler.push(samples.cpu()), resampler.flush()]).to(samples.device)
