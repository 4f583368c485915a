"""The regression network: a window and its emotions to one frame.

Two branches hear the window: the speech network, and the autocorrelation of 25 overlapping frames, taken as the
spectrum of its power. Floor for one frame at the published size: 2.9 GFLOP, of which the convolutions of the speech
network are 2.5. Windows overlap by 94 %, but each normalises its channels over all of itself: nothing can be shared.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.pattern import Convolution, Linear
from avatorch.face.engine.precision import Precision, computing
from avatorch.face.engine.regression_weights import RegressionWeights
from avatorch.face.engine.speech import Speech
from avatorch.face.errors import check_floats

ROOT = math.sqrt(2)  # every max(x, 0) of the network is followed by this factor, which goes into the weights before it


class Regression:
    """The network in one precision, on one device."""

    def __init__(
        self,
        weights: RegressionWeights,
        info: NetworkInfo,
        device: torch.device,
        precision: Precision,
        *,
        dense_position: bool | None = None,
    ) -> None:
        self.info, self.device, self.precision = info, device, precision
        self.speech = Speech(weights.speech, info.window, device, precision.speech, dense_position=dense_position)
        self._shares = (weights.layer_weights / weights.layer_weights.sum()).tolist()
        self._speech_map = self._linear(weights.speech_map)
        frames = weights.frames
        self._size, self._hop = frames.shape[1], int(frames[1, 0] - frames[0, 0])
        self._begin, self._windows, self._lags = int(frames[0, 0]), len(frames), weights.lags
        self._taper = self._rest(weights.taper.double() * weights.gain / math.sqrt(self._size))
        self._padded = 1 << (self._size + self._lags - 1).bit_length()
        self._pitch = [self._convolution(layer) for layer in weights.pitch]
        self._time = [self._convolution(layer) for layer in weights.time]
        self._explicit = self._linear(weights.explicit)
        self._flat = self._linear(weights.flat, ROOT)
        self._skin, self._tongue = _folded(weights.skin), _folded(weights.tongue)
        skin, tongue = self._skin, self._tongue
        # One map for all: skin, tongue, then jaw and eyes.
        at = info.skin_values
        matrix = torch.cat([skin.weight[:, :at], tongue.weight, skin.weight[:, at:]], 1)
        bias = torch.cat([skin.bias[:at], tongue.bias, skin.bias[at:]])
        self._head = self._linear(Linear(matrix, bias))

    def _rest(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.precision.rest).contiguous()

    def _linear(self, layer: Linear, factor: float = 1.0) -> tuple[Tensor, Tensor]:
        return self._rest(layer.weight.double().mT * factor).mT, self._rest(layer.bias.double() * factor)

    def _convolution(self, layer: Convolution) -> tuple[Tensor, Tensor, int, int]:
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        return self._rest(layer.weight.double() * ROOT), self._rest(bias.double() * ROOT), layer.stride, layer.padding

    def __call__(self, windows: Tensor, emotion: Tensor) -> Tensor:
        """windows [B, samples], emotion [B, implicit + explicit] -> [B, values]"""
        check_floats("windows", windows, "B", self.info.window)
        check_floats("emotion", emotion, len(windows), self.info.implicit_emotions + len(self.info.emotions))
        with computing(self.precision):
            return self._frames(windows, emotion.to(self.precision.rest))

    def _frames(self, windows: Tensor, emotion: Tensor) -> Tensor:
        heard = self.speech(windows) if len(self._shares) == 1 else self.speech.mean_of_blocks(windows, self._shares)
        heard = functional.relu(_affine(heard.to(self.precision.rest), *self._speech_map))  # [B, frames, channels]
        x = torch.cat([heard.mT, self._pitches(windows.to(self.precision.rest))], 1)  # [B, channels, frames]
        implicit, explicit = emotion[:, : self.info.implicit_emotions], emotion[:, self.info.implicit_emotions :]
        feeling = torch.cat([implicit, torch.addmm(self._explicit[1], explicit, self._explicit[0])], 1)
        for number, layer in enumerate(self._time):
            if number:
                x = torch.cat([x, feeling[..., None].expand(-1, -1, x.shape[-1])], 1)
            x = functional.relu(_convolved(x, layer))
        x = torch.cat([x, feeling[..., None].expand(-1, -1, x.shape[-1])], 1).flatten(1)
        x = functional.relu(torch.addmm(self._flat[1], x, self._flat[0]))
        return torch.addmm(self._head[1], torch.cat([x, feeling], 1), self._head[0])

    def _pitches(self, windows: Tensor) -> Tensor:
        """[B, samples] -> [B, channels, frames]"""
        end = self._begin + self._hop * (self._windows - 1) + self._size
        frames = windows[:, self._begin : end].unfold(1, self._size, self._hop)  # [B, frames, samples]
        frames = (frames - frames.mean(-1, keepdim=True)) * self._taper
        spectrum = torch.fft.rfft(frames, self._padded)
        power = spectrum.real.square() + spectrum.imag.square()
        x = torch.fft.irfft(power, self._padded)[..., : self._lags].flatten(0, 1)[:, None]  # [B x frames, 1, lags]
        for layer in self._pitch:
            x = functional.relu(_convolved(x, layer))
        return x[..., 0].unflatten(0, (len(windows), -1)).mT


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[..., inputs] -> [..., outputs]"""
    return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)


def _convolved(x: Tensor, layer: tuple[Tensor, Tensor, int, int]) -> Tensor:
    weight, bias, stride, padding = layer
    return functional.conv1d(x, weight, bias, stride=stride, padding=padding)


def _folded(layers: tuple[Linear, Linear]) -> Linear:
    """Two linear maps as one."""
    first, second = layers
    weight = second.weight.double()
    return Linear(first.weight.double() @ weight, first.bias.double() @ weight + second.bias.double())
