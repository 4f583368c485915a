"""The weights of a regression network, found by their place in its flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.flow import Flow, NotRecognised
from avatorch.face.engine.pattern import Convolution, Linear, convolution, interval, linear, norm_relu, relu
from avatorch.face.engine.speech_weights import SpeechWeights, speech_weights


@dataclass
class RegressionWeights:
    """Of the whole network."""

    speech: SpeechWeights
    layer_weights: Tensor  # [blocks], of the mean of the blocks' results
    speech_map: Linear
    gain: float  # of samples, before their autocorrelation
    frames: Tensor  # [frames, samples], which samples each frame reads
    taper: Tensor  # [samples]
    lags: int
    pitch: list[Convolution]  # along lags
    time: list[Convolution]  # along frames
    explicit: Linear  # explicit emotions
    flat: Linear
    skin: tuple[Linear, Linear]  # skin, jaw and eyes
    tongue: tuple[Linear, Linear]


def regression_weights(flow: Flow, info: NetworkInfo) -> RegressionWeights:
    """Finds them all, or says why not."""
    skin_cut, tongue_part, rest_cut = _joined(flow, "result", 3)
    skin_node, rest_node = flow.expect(skin_cut, "Slice"), flow.expect(rest_cut, "Slice")
    if flow.source(skin_node.inputs[0]) != flow.source(rest_node.inputs[0]):
        raise NotRecognised("skin and jaw are not of one head")
    if interval(flow, skin_node)[1:] != (0, info.skin_values) or interval(flow, rest_node)[1] != info.skin_values:
        raise NotRecognised(f"the skin does not end at {info.skin_values}")
    shared, skin = _two(flow, skin_node.inputs[0])
    other, tongue = _two(flow, tongue_part)
    if flow.source(shared) != flow.source(other):
        raise NotRecognised("skin and tongue are not of one value")
    emotions = _Emotions(flow, info)
    trunk = emotions.joined(shared)
    given, flat = linear(flow, norm_relu(flow, trunk))
    value = emotions.joined(given)
    time: list[Convolution] = []
    while True:
        value, layer = convolution(flow, norm_relu(flow, value))
        time.insert(0, layer)
        if len(_pieces(flow, value)) == 2:
            break
        value = emotions.joined(value)
    heard, voiced = _joined(flow, value, 2)
    speech, layer_weights, speech_map = _speech(flow, heard)
    pitch: list[Convolution] = []
    while flow.split(flow.expect(voiced, "Mul")) and flow.maker(flow.split(flow.maker(voiced))[0]).kind in (
        "LeakyRelu",
        "Relu",
    ):
        voiced, layer = convolution(flow, norm_relu(flow, voiced))
        pitch.insert(0, layer)
    gain, frames, taper, lags = _autocorrelation(flow, voiced)
    assert emotions.explicit is not None
    return RegressionWeights(
        speech, layer_weights, speech_map, gain, frames, taper, lags, pitch, time, emotions.explicit, flat, skin, tongue
    )


def _joined(flow: Flow, value: str, parts: int) -> list[str]:
    found = _pieces(flow, value)
    if len(found) != parts:
        raise NotRecognised(f"{value!r} joins {len(found)} values, expected {parts}")
    return found


def _pieces(flow: Flow, value: str) -> list[str]:
    """Of values joined one after another, or all at once."""
    first, *others = flow.expect(value, "Concat").inputs
    return [*(_pieces(flow, first) if flow.maker(first).kind == "Concat" else [first]), *others]


def _two(flow: Flow, value: str) -> tuple[str, tuple[Linear, Linear]]:
    inner, second = linear(flow, value)
    given, first = linear(flow, inner)
    return given, (first, second)


class _Emotions:
    """The emotions, joined to values again and again: always the same."""

    def __init__(self, flow: Flow, info: NetworkInfo) -> None:
        self.flow, self.info = flow, info
        self.explicit: Linear | None = None

    def joined(self, value: str) -> str:
        """A value before implicit and explicit emotions were joined to it."""
        flow, info = self.flow, self.info
        before, implicit, explicit = _joined(flow, value, 3)
        given, layer = linear(flow, explicit)
        cuts = [flow.expect(name, "Slice") for name in (implicit, given)]
        if any(cut.inputs[0] != "emotion" for cut in cuts):
            raise NotRecognised(f"{value!r} is not joined with emotions")
        if interval(flow, cuts[0])[2] != info.implicit_emotions or interval(flow, cuts[1])[1] != info.implicit_emotions:
            raise NotRecognised(f"explicit emotions do not begin at {info.implicit_emotions}")
        if self.explicit is not None and not torch.equal(self.explicit.weight, layer.weight):
            raise NotRecognised("emotions are mapped in two ways")
        self.explicit = layer
        return before


def _speech(flow: Flow, value: str) -> tuple[SpeechWeights, Tensor, Linear]:
    mean, speech_map = linear(flow, relu(flow, value))
    division = flow.expect(mean, "Div")
    summed = flow.expect(division.inputs[0], "ReduceSum")
    product = flow.expect(summed.inputs[0], "Mul")
    stacked, name = flow.split(product)
    weights = flow.constant(name).flatten().double()
    divisor = division.inputs[1]
    if flow.is_constant(divisor):
        fits = torch.allclose(flow.constant(divisor).double(), weights.sum(), rtol=1e-5)
    else:
        node = flow.node(divisor)
        fits = node.kind == "ReduceSum" and torch.equal(flow.constant(node.inputs[0]).flatten().double(), weights)
    if not fits:
        raise NotRecognised("the mean of the blocks is not divided by the sum of their weights")
    node = flow.maker(stacked)
    layers = node.inputs if node.kind == "Concat" else [stacked]
    if len(layers) != len(weights):
        raise NotRecognised(f"{len(weights)} weights stand for {len(layers)} blocks")
    found = [speech_weights(flow, layer) for layer in layers]
    for number, (samples, speech) in enumerate(found):
        if flow.source(samples) != "input" or len(speech.blocks) != number + 1:
            raise NotRecognised("the blocks of the speech network do not follow one another")
    return found[-1][1], weights, speech_map


def _autocorrelation(flow: Flow, value: str) -> tuple[float, Tensor, Tensor, int]:
    scaled, factor = flow.split(flow.expect(value, "Mul"))
    sums = flow.expect(scaled, "Concat").inputs
    windows = None
    for lag, name in enumerate(sums):
        product = flow.expect(flow.expect(name, "ReduceSum").inputs[0], "Mul")
        late = flow.maker(product.inputs[1])
        early = flow.maker(product.inputs[0])
        start = interval(flow, late)[1] if late.kind == "Slice" else 0
        whole = {flow.source(node.inputs[0]) if node.kind == "Slice" else node.outputs[0] for node in (early, late)}
        if start != lag or len(whole) != 1 or (windows is not None and whole != windows):
            raise NotRecognised(f"lag {lag} of the autocorrelation is not where it is expected")
        windows = whole
    assert windows is not None
    centered, taper = flow.split(flow.expect(windows.pop(), "Mul"))
    difference = flow.expect(centered, "Sub")
    mean = flow.expect(difference.inputs[1], "ReduceMean")
    gather = flow.expect(difference.inputs[0], "Gather")
    if flow.maker(mean.inputs[0]) is not gather or gather.integer("axis") != 2:
        raise NotRecognised("the frames of the autocorrelation are not freed from their mean")
    samples, gain = flow.split(flow.expect(gather.inputs[0], "Mul"))
    frames = flow.constant(gather.inputs[1])
    size = frames.shape[-1]
    if flow.source(samples) != "input" or abs(flow.scalar(factor) * size - 1) > 1e-5:
        raise NotRecognised("the autocorrelation is not a mean over the frames of the window")
    hop = int(frames[1, 0] - frames[0, 0])
    if not torch.equal(frames, torch.arange(len(frames))[:, None] * hop + torch.arange(size)):
        raise NotRecognised("the frames of the autocorrelation are not evenly spaced")
    return flow.scalar(gain), frames, flow.constant(taper).flatten(), len(sums)
