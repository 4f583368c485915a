"""Samples to features: wav2vec 2.0 or HuBERT, for many windows at once.

Floors for one window of 16 000 samples through HuBERT-base, 13.1 GFLOP and in float16 189 MB of weights:

    block                 GFLOP    bytes moved, float16
    first convolution     0.03     3.3 MB written, read and written by GELU
    other convolutions    4.9      6.5 MB written, each value read by GELU, written, and read by the next
    position              0.18     177 MB of weights whatever the batch, 75 KB a window
    12 blocks             8.3      0.3 MB a pass of 49 frames, about 10 passes a block

Rows are frames, channels are contiguous. A convolution of width k and stride s is then a product: s rows that follow
one another are one row of a matrix, so that the first s taps need no copy, and the k - s taps that reach into the next
are a second product added to it. All windows make one matrix, for which each has a number of rows that halves evenly
through all strides; rows behind a window's last frame hold numbers that nothing reads.

The first convolution is normalised over time. Mean and variance of its channels follow from mean and covariance of the
samples under its kernel, 10 and 10 x 10 numbers, so that the normalisation becomes part of each window's kernel, and
its result is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from avatorch.face.engine.pattern import Convolution, Linear, Norm
from avatorch.face.engine.speech_weights import Block, SpeechWeights

ALIGNED = 8  # values, so that rows begin at multiples of 16 bytes in float16


@dataclass
class _Layer:
    """A block's weights as they are used. Matrices are [inputs, outputs], inputs contiguous."""

    heads: int
    mix: Tensor  # [width, 3 width], query, key, value
    mix_bias: Tensor
    out: Tensor  # [width, width]
    middle: tuple[Tensor, Tensor]
    wide: Tensor  # [width, inner]
    wide_bias: Tensor
    narrow: Tensor  # [inner, width]
    end: tuple[Tensor, Tensor]
    epsilons: tuple[float, float]


class Speech:
    """The speech network in one type, on one device, for windows of one length."""

    def __init__(
        self,
        weights: SpeechWeights,
        samples: int,
        device: torch.device,
        dtype: torch.dtype,
        *,
        dense_position: bool | None = None,
    ) -> None:
        """`dense_position` writes the positional convolution as one matrix for each group: 16 matrices that need 39 %
        of its operations, and are large. That is fastest on a GPU, and taken there.
        """
        self.device, self.dtype, self.samples = device, dtype, samples
        self._convolutions = weights.convolutions
        frames = samples
        self._frames = []  # of each convolution
        for layer in weights.convolutions:
            frames = (frames - layer.weight.shape[2]) // layer.stride + 1
            self._frames.append(frames)
        self.frames = frames
        first, *others = weights.convolutions
        whole = prod(layer.stride for layer in others)
        least = max(self._frames[0], -(-samples // first.stride))
        self._rows = -(-least // whole) * whole  # of a window behind the first convolution
        self._first = first.weight[:, 0].to(device, torch.float64)  # [channels, taps]
        self._channel_norm = _norm(weights.channel_norm, device, torch.float64)
        self._channel_epsilon = weights.channel_norm.epsilon
        self._taps = [self._taps_of(layer) for layer in others]
        self._feature_norm = _norm(weights.feature_norm, device, dtype)
        self._feature_epsilon = weights.feature_norm.epsilon
        self._projection = self._matrix(weights.projection.weight)
        self._projection_bias = weights.projection.bias.to(device, dtype)
        self.width = self._projection.shape[1]
        self._dense = device.type == "cuda" if dense_position is None else dense_position
        self._groups, self._padding = weights.position.groups, weights.position.padding
        self._position = self._position_matrix(weights.position) if self._dense else self._cast(weights.position.weight)
        bias = weights.position.bias
        self._position_bias = torch.zeros(self.width, device=device, dtype=dtype) if bias is None else self._cast(bias)
        self._make_blocks(weights)

    def _cast(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.dtype).contiguous()

    def _matrix(self, values: Tensor) -> Tensor:
        """[inputs, outputs] with inputs contiguous, as tensor cores want TF32."""
        return self._cast(values.to(self.device).mT).mT

    def _taps_of(self, layer: Convolution) -> list[Tensor]:
        """[taps x inputs, outputs] for the taps within a stride, and those that reach beyond it."""
        width, stride = layer.weight.shape[2], layer.stride
        by_tap = layer.weight.permute(2, 1, 0)  # [taps, inputs, outputs]
        return [self._matrix(by_tap[at : at + stride].flatten(0, 1)) for at in range(0, width, stride)]

    def _position_matrix(self, layer: Convolution) -> Tensor:
        """[groups, frames x inputs, frames x outputs], inputs contiguous."""
        frames, width = self.frames, layer.weight.shape[2]
        weight = layer.weight.to(self.device, self.dtype)
        each = weight.unflatten(0, (layer.groups, -1))  # [groups, outputs, inputs, taps]
        source, target = torch.arange(frames, device=self.device)[None], torch.arange(frames, device=self.device)
        tap = source - target[:, None] + layer.padding  # [target, source]
        reached = (tap >= 0) & (tap < width)
        spread = each[..., tap.clamp(0, width - 1)] * reached  # [groups, outputs, inputs, target, source]
        return spread.permute(0, 3, 1, 4, 2).flatten(3, 4).flatten(1, 2).contiguous().mT

    def _make_blocks(self, weights: SpeechWeights) -> None:
        """The bias behind a sum is added to what is summed with it: to the shift of the normalisation before. What else
        reads that value, a linear map, has it taken off in its own bias. So sums need no pass of their own.
        """
        blocks = weights.blocks
        starts = [block.out.bias for block in blocks] + [torch.zeros(self.width)]  # what is added to the results before
        self._position_norm = _norm(_shifted(weights.position_norm, starts[0]), self.device, self.dtype)
        self._position_epsilon = weights.position_norm.epsilon
        self._moved = torch.stack(starts[1:]).to(self.device, self.dtype)  # [blocks, width], added to their results
        self._layers = [
            self._layer(block, before, behind)
            for block, before, behind in zip(blocks, starts, starts[1:], strict=False)
        ]

    def _layer(self, block: Block, before: Tensor, behind: Tensor) -> _Layer:
        heads = block.attention
        parts = (heads.query, heads.key, heads.value)
        mix = Linear(torch.cat([part.weight for part in parts], 1), torch.cat([part.bias for part in parts]))
        cast = self._cast
        return _Layer(
            heads.heads,
            self._matrix(mix.weight), cast(_without(mix, before)),
            self._matrix(block.out.weight),
            _norm(_shifted(block.middle_norm, block.narrow.bias), self.device, self.dtype),
            self._matrix(block.wide.weight), cast(_without(block.wide, block.narrow.bias)),
            self._matrix(block.narrow.weight),
            _norm(_shifted(block.end_norm, behind), self.device, self.dtype),
            (block.middle_norm.epsilon, block.end_norm.epsilon),
        )  # fmt: skip

    def __call__(self, windows: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """windows [B, samples] -> features [B, end - begin, width], of those frames alone."""
        x = self.embed(windows)
        for layer in self._layers[:-1]:
            x = self._block(layer, x)
        return self._block(self._layers[-1], x, begin, self.frames if end is None else end)

    def mean_of_blocks(self, windows: Tensor, shares: list[float]) -> Tensor:
        """The features of all blocks times their shares, [B, frames, width]."""
        x = self.embed(windows)
        total = torch.zeros_like(x)
        for layer, share, moved in zip(self._layers, shares, self._moved, strict=True):
            x = self._block(layer, x)
            total = torch.add(total, x - moved, alpha=share)
        return total

    def embed(self, windows: Tensor) -> Tensor:
        """What the blocks are given, [B, frames, width]."""
        x = self._listen(windows)
        norm = functional.layer_norm(x, x.shape[-1:], *self._feature_norm, self._feature_epsilon)
        x = torch.addmm(self._projection_bias, norm.flatten(0, 1), self._projection).view(len(x), self.frames, -1)
        x = x + _gelu(self._placed(x))
        return functional.layer_norm(x, x.shape[-1:], *self._position_norm, self._position_epsilon)

    def _listen(self, windows: Tensor) -> Tensor:
        """All convolutions: [B, frames, channels]"""
        x = _gelu(self._first_convolution(windows))
        rows = x.flatten(0, 1)  # [B x rows, channels]
        for layer, taps in zip(self._convolutions[1:], self._taps, strict=True):
            merged = rows.view(len(rows) // layer.stride, -1)
            rows = merged[:, : taps[0].shape[0]] @ taps[0]
            for reach, tap in enumerate(taps[1:], 1):
                rows[:-reach].addmm_(merged[reach:, : tap.shape[0]], tap)
            rows = _gelu(rows)
        return rows.view(len(windows), -1, rows.shape[-1])[:, : self.frames]

    def _first_convolution(self, windows: Tensor) -> Tensor:
        """Normalised over time, [B, rows, channels]."""
        width, stride = self._first.shape[1], self._convolutions[0].stride
        high = functional.pad(windows.double(), (0, self._rows * stride - self.samples))
        under = functional.pad(high.flatten(), (0, width)).unfold(0, width, stride)[: len(windows) * self._rows]
        under = under.unflatten(0, (len(windows), self._rows))  # [B, rows, taps]
        known = under[:, : self._frames[0]]
        mean = known.mean(1, keepdim=True)  # [B, 1, taps]
        apart = known - mean
        covariance = apart.mT @ apart / self._frames[0]  # [B, taps, taps]
        variance = ((self._first @ covariance) * self._first).sum(-1)  # [B, channels]
        gain, shift = self._channel_norm
        scale = gain / (variance + self._channel_epsilon).sqrt()
        kernels = self._first * scale[..., None]  # [B, channels, taps]
        shifts = shift - (kernels @ mean.mT)[..., 0]
        # Loudness goes into the kernels, where float16 has room for it; its gradient cancels.
        loud = windows.detach().abs().amax(1).double().clamp(min=1e-30)[:, None, None]
        room = -(-(width + 1) // ALIGNED) * ALIGNED - width - 1
        ones = torch.ones_like(under[..., :1])
        left = torch.cat([under / loud, ones, ones.new_zeros(1, 1, 1).expand(*under.shape[:2], room)], -1)
        right = functional.pad(torch.cat([kernels * loud, shifts[..., None]], -1), (0, room))  # [B, channels, taps]
        return left.to(self.dtype) @ right.to(self.dtype).mT

    def _placed(self, x: Tensor) -> Tensor:
        """The positional convolution of [B, frames, width]."""
        if not self._dense:
            moved = functional.conv1d(
                x.mT, self._position, self._position_bias, padding=self._padding, groups=self._groups
            )
            return moved[..., :-1].mT
        grouped = x.unflatten(-1, (self._groups, -1)).permute(2, 0, 1, 3).flatten(2)  # [groups, B, frames x inputs]
        placed = (grouped @ self._position).unflatten(-1, (self.frames, -1))  # [groups, B, frames, outputs]
        return placed.permute(1, 2, 0, 3).flatten(2) + self._position_bias

    def _block(self, layer: _Layer, x: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
        """[B, frames, width] -> [B, end - begin, width]; x is no longer what it was."""
        count, frames, width = x.shape
        mixed = torch.addmm(layer.mix_bias, x.view(-1, width), layer.mix)
        query, key, value = mixed.view(count, frames, 3, layer.heads, -1).permute(2, 0, 3, 1, 4)
        if end is not None:
            query, x = query[:, :, begin:end], x[:, begin:end].contiguous()
        heard = functional.scaled_dot_product_attention(query, key, value)  # [B, heads, frames, width / heads]
        x = x.view(-1, width).addmm_(heard.transpose(1, 2).reshape(-1, width), layer.out)
        x = functional.layer_norm(x, (width,), *layer.middle, layer.epsilons[0])
        inner = _gelu(torch.addmm(layer.wide_bias, x, layer.wide))
        x = functional.layer_norm(x.addmm_(inner, layer.narrow), (width,), *layer.end, layer.epsilons[1])
        return x.view(count, -1, width)


def _norm(norm: Norm, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return norm.weight.to(device, dtype), norm.bias.to(device, dtype)


def _shifted(norm: Norm, by: Tensor) -> Norm:
    return Norm(norm.weight, norm.bias.double() + by.double(), norm.epsilon)


def _without(layer: Linear, added: Tensor) -> Tensor:
    """The bias of a linear map of a value to which something was added."""
    return layer.bias.double() - added.double() @ layer.weight.double()


def _gelu(x: Tensor) -> Tensor:
    """In place where no gradient needs what was there."""
    if torch.is_grad_enabled() and x.requires_grad:
        return functional.gelu(x)
    return torch._C._nn.gelu_(x)  # type: ignore[attr-defined,no-any-return]
