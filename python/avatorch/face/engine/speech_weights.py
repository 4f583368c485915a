"""The speech network, wav2vec 2.0 or HuBERT, found in a network's flow: convolutions, a transformer, its weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from avatorch.face.engine.flow import Flow, NotRecognised
from avatorch.face.engine.pattern import (
    Attention,
    Convolution,
    Linear,
    Norm,
    added,
    attention,
    convolution,
    gelu,
    interval,
    layer_norm,
    linear,
)


@dataclass
class Block:
    """A layer of the transformer, normalised behind each sum."""

    attention: Attention
    out: Linear
    middle_norm: Norm
    wide: Linear
    narrow: Linear
    end_norm: Norm


@dataclass
class SpeechWeights:
    """Of samples to features."""

    convolutions: list[Convolution]  # the first one's channels are normalised over time
    channel_norm: Norm
    feature_norm: Norm
    projection: Linear
    position: Convolution  # in groups; its last frame is dropped
    position_norm: Norm
    blocks: list[Block]


def speech_weights(flow: Flow, value: str) -> tuple[str, SpeechWeights]:
    """From the result of a stack of blocks back to the samples."""
    blocks: list[Block] = []
    while (found := _block(flow, value)) is not None:
        value, block = found
        blocks.insert(0, block)
    summed, position_norm = layer_norm(flow, value)
    features, position = _position(flow, summed)
    normed, projection = linear(flow, features)
    heard, feature_norm = layer_norm(flow, normed)
    convolutions: list[Convolution] = []
    while flow.expect(gelu(flow, heard), "Conv", "Add").kind == "Conv":
        heard, layer = convolution(flow, gelu(flow, heard))
        convolutions.insert(0, layer)
    samples, first, channel_norm = _first(flow, gelu(flow, heard))
    convolutions.insert(0, first)
    weights = SpeechWeights(convolutions, channel_norm, feature_norm, projection, position, position_norm, blocks)
    _check(weights)
    return samples, weights


def _block(flow: Flow, value: str) -> tuple[str, Block] | None:
    """None where the stack begins: the sum there is with a convolution, not with a linear map."""
    summed, end_norm = layer_norm(flow, value)
    for kept, moved in added(flow, summed):
        if flow.maker(moved).kind not in ("Add", "Gemm"):
            continue
        try:
            activated, narrow = linear(flow, moved)
            before, wide = linear(flow, gelu(flow, activated))
        except NotRecognised:
            continue
        if flow.source(before) != flow.source(kept):
            raise NotRecognised(f"{value!r}: the sum is not with what the layer was given")
        inner, middle_norm = layer_norm(flow, kept)
        return _attended(flow, inner, middle_norm, wide, narrow, end_norm)
    return None


def _attended(
    flow: Flow, summed: str, middle_norm: Norm, wide: Linear, narrow: Linear, end_norm: Norm
) -> tuple[str, Block]:
    for kept, moved in added(flow, summed):
        try:
            mixed, out = linear(flow, moved)
        except NotRecognised:
            continue
        before, heads = attention(flow, mixed)
        if flow.source(before) == flow.source(kept):
            return kept, Block(heads, out, middle_norm, wide, narrow, end_norm)
    raise NotRecognised(f"{summed!r} is no sum of a value and attention to it")


def _position(flow: Flow, summed: str) -> tuple[str, Convolution]:
    """x + GELU(grouped convolution of x), its last frame dropped."""
    for kept, moved in added(flow, summed):
        if flow.maker(moved).kind not in ("Mul", "Gelu"):
            continue
        cut = flow.expect(gelu(flow, moved), "Slice")
        before, layer = convolution(flow, cut.inputs[0])
        if interval(flow, cut)[1:] != (0, -1) or layer.weight.shape[2] != 2 * layer.padding or layer.stride != 1:
            raise NotRecognised("the positional convolution is not of an even width with its last frame dropped")
        if flow.source(before) == flow.source(kept):
            return kept, layer
    raise NotRecognised(f"{summed!r} has no positional convolution")


def _first(flow: Flow, value: str) -> tuple[str, Convolution, Norm]:
    """The first convolution, each of its channels normalised over time."""
    scaled, shift = flow.split(flow.expect(value, "Add"))
    normed, gain = flow.split(flow.expect(scaled, "Mul"))
    node = flow.expect(normed, "InstanceNormalization")
    ones, zeros = (flow.constant(name) for name in node.inputs[1:3])
    if bool((ones != 1).any()) or bool(zeros.any()):
        raise NotRecognised("the normalisation of the first convolution has a gain of its own")
    samples, layer = convolution(flow, node.inputs[0])
    epsilon = node.number("epsilon", 1e-5)
    return samples, layer, Norm(flow.constant(gain).flatten(), flow.constant(shift).flatten(), epsilon)


def _check(weights: SpeechWeights) -> None:
    first, *others = weights.convolutions
    if first.weight.shape[1] != 1 or any(layer.groups != 1 or layer.padding for layer in weights.convolutions):
        raise NotRecognised("the convolutions of the samples are padded or in groups")
    channels = first.weight.shape[0]
    for layer in others:
        if layer.weight.shape[1] != channels or layer.bias is not None:
            raise NotRecognised(f"a convolution has weights {list(layer.weight.shape)}, expected {channels} inputs")
        channels = layer.weight.shape[0]
    width = weights.projection.weight.shape[1]
    sizes: list[tuple[Tensor, tuple[int, ...]]] = [(weights.projection.weight, (channels, width))]
    for block in weights.blocks:
        inner = block.wide.weight.shape[1]
        sizes += [(block.out.weight, (width, width)), (block.wide.weight, (width, inner))]
        sizes += [(block.narrow.weight, (inner, width))]
        sizes += [(part.weight, (width, width)) for part in (block.attention.query, block.attention.key)]
    for weight, shape in sizes:
        if weight.shape != shape:
            raise NotRecognised(f"a layer has weights {list(weight.shape)}, expected {list(shape)}")
