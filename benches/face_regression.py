"""Weights of the regression network at its published size, random: no file of it is at hand, and none is needed."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.pattern import Attention, Convolution, Linear, Norm
from avatorch.face.engine.regression_weights import RegressionWeights
from avatorch.face.engine.speech_weights import Block, SpeechWeights

WIDTH, INNER, CHANNELS, HEADS = 768, 3072, 512, 12
SHAPES, TONGUE, EMOTIONS, IMPLICIT, EXPLICIT = 272, 10, 10, 16, 8


def information() -> NetworkInfo:
    """Of a bundle of that size."""
    names = tuple(f"emotion{number}" for number in range(EMOTIONS))
    return NetworkInfo(
        "regression", "Nobody", "1", names, torch.zeros(EMOTIONS), ("Nobody",), 16000, 8320,
        skin_values=SHAPES, tongue_values=TONGUE, jaw_values=15, eye_values=4, implicit_emotions=IMPLICIT,
        target_offset=4160, skin_vertices=61520, tongue_vertices=5602,
    )  # fmt: skip


def weights(blocks: int = 1) -> RegressionWeights:
    """Scaled so that what flows through stays of the order of 1."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=random) * scale

    def linear(inputs: int, outputs: int) -> Linear:
        return Linear(normal(inputs, outputs, scale=inputs**-0.5), normal(outputs, scale=0.1))

    def norm(size: int) -> Norm:
        return Norm(1 + normal(size, scale=0.1), normal(size, scale=0.1), 1e-5)

    def convolution(
        inputs: int, outputs: int, width: int, stride: int, padding: int = 0, groups: int = 1
    ) -> Convolution:
        weight = normal(outputs, inputs // groups, width, scale=(inputs // groups * width) ** -0.5)
        return Convolution(weight, normal(outputs, scale=0.1), stride, padding, groups)

    layers = [(1, 10, 5), *[(CHANNELS, 3, 2)] * 4, *[(CHANNELS, 2, 2)] * 2]
    listening = [convolution(inputs, CHANNELS, width, stride) for inputs, width, stride in layers]
    for layer in listening:
        layer.bias = None
    speech = SpeechWeights(
        listening, norm(CHANNELS), norm(CHANNELS), linear(CHANNELS, WIDTH),
        convolution(WIDTH, WIDTH, 128, 1, 64, 16), norm(WIDTH),
        [
            Block(
                Attention(linear(WIDTH, WIDTH), linear(WIDTH, WIDTH), linear(WIDTH, WIDTH), HEADS),
                linear(WIDTH, WIDTH), norm(WIDTH), linear(WIDTH, INNER), linear(INNER, WIDTH), norm(WIDTH),
            )
            for _ in range(blocks)
        ],
    )  # fmt: skip
    sizes = (1, 72, 108, 162, 243)
    pitch = [convolution(a, b, 3, 2, 1) for a, b in pairwise(sizes)] + [convolution(243, 256, 2, 1)]
    feelings = IMPLICIT + EXPLICIT
    time = [convolution(512, 256, 3, 2, 1)] + [convolution(256 + feelings, 256, 3, 2, 1) for _ in range(3)]
    frames = torch.arange(25)[:, None] * 320 + torch.arange(640)
    return RegressionWeights(
        speech, torch.ones(blocks, dtype=torch.float64), linear(WIDTH, 256), 8.912028, frames,
        torch.hann_window(640, periodic=False), 32, pitch, time, linear(EMOTIONS, EXPLICIT),
        linear(2 * (256 + feelings), 256), (linear(256 + feelings, SHAPES + 19), linear(SHAPES + 19, SHAPES + 19)),
        (linear(256 + feelings, TONGUE), linear(TONGUE, TONGUE)),
    )  # fmt: skip
