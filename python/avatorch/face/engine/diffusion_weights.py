"""The weights of a diffusion network, found by their place in its flow.

Every step of the sampler is written out in the file: each must have the same weights. What is checked is how values
flow from the inputs to the results; where that differs from what is computed here, NotRecognised says where.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.flow import GLUE, Flow, NotRecognised
from avatorch.face.engine.graph import Node
from avatorch.face.engine.pattern import Convolution, Linear, added, convolution, interval, linear, relu
from avatorch.face.engine.speech_weights import SpeechWeights, speech_weights


@dataclass
class Embedding:
    """One part of a frame's geometry to a few numbers, each map followed by max(x, 0)."""

    first: Linear
    smooth: Convolution | None  # along the numbers, before max(x, 0)
    second: Linear | None


@dataclass
class Recurrence:
    """A layer of the GRU; gates stand in the order reset, update, new."""

    weight_in: Tensor  # [3 width, inputs]
    weight_state: Tensor  # [3 width, width]
    bias_in: Tensor  # [3 width]
    bias_state: Tensor  # [3 width]


@dataclass
class Denoiser:
    """What one step of the sampler computes."""

    speech: SpeechWeights
    speech_map: Linear
    parts: list[Embedding]  # skin, tongue, jaw, eyes
    final: tuple[Linear, Linear]
    actor: Tensor  # [identities, values]
    emotion: Linear
    recurrence: list[Recurrence]
    heads: list[tuple[Linear, Linear]]  # skin, tongue, jaw, eyes
    mean: Tensor  # [identities, values of a frame]


@dataclass
class DiffusionWeights:
    """Of the whole network. S steps, counted as in the file: the last is made first."""

    denoiser: Denoiser
    time: Tensor  # [S, values]
    scales: Tensor  # [identities, 4]
    means: list[bool]  # of each part, whether the prediction contains the mean
    from_clean: Tensor  # [S] float64, the factor of the denoised frame
    from_noisy: Tensor  # [S], of the frame before
    deviation: Tensor  # [S], of the noise that is added; none in step 0


def diffusion_weights(flow: Flow, info: NetworkInfo) -> DiffusionWeights:
    """Finds them all, or says why not."""
    layers = info.gru_layers
    recurrences = [node for node in flow.graph.nodes if node.kind == "GRU"]
    if len(recurrences) != info.steps * layers:
        raise NotRecognised(f"it has {len(recurrences)} GRU nodes, expected {info.steps * layers}")
    groups = [recurrences[at : at + layers] for at in range(0, len(recurrences), layers)]
    sampled, scales, means = _scales(flow, info)
    sampler = _Sampler(flow, info)
    denoisers, times = [], []
    for group in reversed(groups):  # from the last in time, step 0, backwards
        clean, before = sampler.undo(sampled)
        denoiser, time = _denoiser(flow, info, group, clean, before)
        denoisers.append(denoiser)
        times.append(time)
        sampled = before
    sampler.check_start(sampled)
    if not all(_equal(denoisers[0], other) for other in denoisers[1:]):
        raise NotRecognised("its steps have different weights")
    last = len(groups) - 1
    logarithm = sampler.tables["deviation"]
    deviation = (0.5 * logarithm).exp()
    deviation[0] = 0.0
    if any(len(table) != last + 1 for table in sampler.tables.values()):
        raise NotRecognised("the sampler's tables are not of its steps")
    return DiffusionWeights(
        denoisers[0], torch.stack(times), scales, means, sampler.tables["clean"], sampler.tables["noisy"], deviation
    )


def _scales(flow: Flow, info: NetworkInfo) -> tuple[str, Tensor, list[bool]]:
    """The sampler's result, the factors of the four parts of the prediction, and whether their mean is left in."""
    value = "prediction"
    scales: list[Tensor] = []
    means: list[bool] = []
    starts = _starts(info)
    for part in (3, 2, 1, 0):
        scatter = flow.expect(value, "ScatterND")
        value = scatter.inputs[0]
        product = flow.expect(scatter.inputs[2], "Mul")
        table = flow.expect(product.inputs[1], "MatMul")
        if flow.source(table.inputs[0]) != "identity":
            raise NotRecognised(f"the scale of part {part} is not the identity's")
        scales.append(flow.constant(table.inputs[1]).flatten())
        cut = flow.maker(product.inputs[0])
        means.insert(0, cut.kind != "Sub")
        if cut.kind == "Sub":
            cut = flow.expect(cut.inputs[0], "Slice")
        if cut.kind != "Slice" or interval(flow, cut)[1] % info.values != starts[part]:
            raise NotRecognised(f"part {part} of the prediction does not start at {starts[part]}")
    return value, torch.stack(scales[::-1], 1), means


def _starts(info: NetworkInfo) -> list[int]:
    sizes = [info.skin_values, info.tongue_values, info.jaw_values, info.eye_values]
    return [sum(sizes[:part]) for part in range(4)]


class _Sampler:
    """The steps x <- a x0 + b x + c noise, read backwards."""

    def __init__(self, flow: Flow, info: NetworkInfo) -> None:
        self.flow, self.info = flow, info
        self.tables: dict[str, Tensor] = {}
        self._step = 0

    def undo(self, value: str) -> tuple[str, str]:
        """One step: the values x0 and x before it."""
        flow = self.flow
        for mixed, noisy in added(flow, value):
            if flow.maker(mixed).kind == "Add" and flow.maker(noisy).kind == "Mul":
                break
        else:
            raise NotRecognised(f"{value!r} is no step of a sampler")
        noise = self._product(noisy, "deviation")
        if noise != ("noise", self._step):
            raise NotRecognised(f"step {self._step} adds {noise}")
        (first, second), *_ = added(flow, mixed)
        clean, before = self._product(first, "clean"), self._product(second, "noisy")
        self._step += 1
        assert isinstance(clean, str) and isinstance(before, str)
        return clean, before

    def check_start(self, value: str) -> None:
        """The first step begins with the last of the noise."""
        if self._noise(value) != ("noise", self.info.steps):
            raise NotRecognised("the sampler does not start from the last of the noise")

    def _noise(self, value: str) -> tuple[str, int] | None:
        node = self.flow.node(self.flow.source(value)) if self.flow.alive(value) else None
        if node is None or node.kind != "Gather" or node.inputs[0] != "noise" or node.integer("axis") != 1:
            return None
        return "noise", int(self.flow.scalar(node.inputs[1])) % (self.info.steps + 1)

    def _product(self, value: str, name: str) -> str | tuple[str, int]:
        """The live factor of a product; the table that the other comes from is kept by name."""
        flow = self.flow
        node = flow.expect(value, "Mul")
        live = [factor for factor in node.inputs if flow.alive(factor)]
        dead = [factor for factor in node.inputs if not flow.alive(factor)]
        if len(live) != 1 or len(dead) != 1:
            raise NotRecognised(f"{value!r} is no multiple of a value")
        table = self._table(dead[0])
        if name in self.tables and not torch.equal(self.tables[name], table):
            raise NotRecognised(f"the sampler's steps take {name!r} from different tables")
        self.tables[name] = table
        found = self._noise(live[0]) if name == "deviation" else None
        return found or live[0]

    def _table(self, value: str) -> Tensor:
        """The one table of float64 that a factor is gathered from."""
        seen, open_ = set(), [value]
        while open_:
            name = open_.pop()
            if name in seen or not name or name in self.flow.graph.inputs or self.flow.is_constant(name):
                continue
            seen.add(name)
            node = self.flow.node(name)
            if node.kind == "Gather" and self.flow.is_constant(node.inputs[0]):
                table = self.flow.constant(node.inputs[0])
                if table.dtype == torch.float64:
                    return table.flatten()
            open_ += node.inputs[:1] if node.kind in GLUE else node.inputs
        raise NotRecognised(f"{value!r} comes from no table of the sampler")


def _denoiser(flow: Flow, info: NetworkInfo, group: list[Node], clean: str, before: str) -> tuple[Denoiser, Tensor]:
    tokens = flow.expect(group[0].inputs[0], "Concat").inputs
    if len(tokens) != 5 or info.frames <= info.center_frames:
        raise NotRecognised(f"the GRU is given {len(tokens)} parts, expected 5")
    heard, geometry, actor, time, emotion = (_center(flow, info, token) for token in tokens)
    features, speech_map = linear(flow, heard)
    samples, speech = speech_weights(flow, _resampled(flow, _center(flow, info, features)))
    if flow.source(samples) != "window":
        raise NotRecognised("the speech network does not read the window")
    parts, final = _geometry(flow, info, geometry, before)
    face = flow.expect(actor, "MatMul")
    feeling, emotion_map = linear(flow, emotion)
    if flow.source(face.inputs[0]) != "identity" or flow.source(feeling) != "emotion":
        raise NotRecognised("identity and emotion are not where they are expected")
    recurrence, given = [], group[0].inputs[0]
    for node in group:
        if flow.source(node.inputs[0]) != flow.source(given) or not flow.alive(node.inputs[5]):
            raise NotRecognised("the layers of the GRU do not follow one another")
        recurrence.append(_recurrence(flow, info, node))
        given = node.outputs[0]
    heads, mean = _heads(flow, info, clean, given)
    denoiser = Denoiser(
        speech, speech_map, parts, final, flow.constant(face.inputs[1]), emotion_map, recurrence, heads, mean
    )
    return denoiser, _time(flow, time)


def _center(flow: Flow, info: NetworkInfo, value: str) -> str:
    """A value before its frames in the middle were taken, where that was done."""
    wanted = (1, info.left_frames, info.left_frames + info.center_frames)
    value = flow.source(value) if flow.alive(value) else value
    while flow.alive(value) and (node := flow.maker(value)).kind == "Slice":
        _, starts, ends, axes, *_ = node.inputs
        whole = flow.scalar(starts) == 0 and flow.scalar(axes) == 1
        if whole and flow.is_constant(ends) and flow.scalar(ends) < info.frames:
            raise NotRecognised(f"{value!r} takes {int(flow.scalar(ends))} frames, expected {info.frames}")
        if not whole and interval(flow, node) != wanted:
            raise NotRecognised(f"{value!r} takes {interval(flow, node)}, expected axis and frames {wanted}")
        value = flow.source(node.inputs[0])
    return value


def _resampled(flow: Flow, value: str) -> str:
    """Between frames before and behind, each times how near it is."""
    node = flow.expect(value, "Add")
    sources, kinds = set(), set()
    for side in node.inputs:
        product = flow.expect(side, "Mul")
        gathers = [flow.maker(factor) for factor in product.inputs if flow.alive(factor)]
        if len(gathers) != 1 or gathers[0].kind != "Gather":
            raise NotRecognised("frames are not resampled between two of them")
        sources.add(flow.source(gathers[0].inputs[0]))
        index = flow.node(gathers[0].inputs[1])
        while index.kind in ("Cast", "Clip", "Identity"):
            index = flow.node(index.inputs[0])
        kinds.add(index.kind)
    if len(sources) != 1 or kinds != {"Floor", "Ceil"}:
        raise NotRecognised("frames are not resampled between the one before and the one behind")
    return sources.pop()


def _geometry(flow: Flow, info: NetworkInfo, value: str, before: str) -> tuple[list[Embedding], tuple[Linear, Linear]]:
    inner, last = linear(flow, value)
    joined, first = linear(flow, relu(flow, inner))
    concat = flow.expect(joined, "Concat")
    if len(concat.inputs) != 4:
        raise NotRecognised(f"geometry is embedded in {len(concat.inputs)} parts, expected 4")
    starts, parts = _starts(info), []
    for index, name in enumerate(concat.inputs):
        inner = relu(flow, name)
        if flow.maker(inner).kind == "Conv":
            given, smooth = convolution(flow, inner)
            if (
                smooth.weight.shape[:2] != (1, 1)
                or smooth.stride != 1
                or 2 * smooth.padding + 1 != len(smooth.weight[0, 0])
            ):
                raise NotRecognised("geometry is smoothed by another convolution than expected")
            given, start = linear(flow, given)
            parts.append(Embedding(start, smooth, None))
        else:
            given, second = linear(flow, inner)
            given, start = linear(flow, relu(flow, given))
            parts.append(Embedding(start, None, second))
        cut = flow.expect(given, "Slice")
        if interval(flow, cut)[1] % info.values != starts[index] or flow.source(cut.inputs[0]) != flow.source(before):
            raise NotRecognised(f"part {index} of the geometry is not of the noisy frame")
    return parts, (first, last)


def _recurrence(flow: Flow, info: NetworkInfo, node: Node) -> Recurrence:
    usual = node.integer("linear_before_reset") == 1 and node.attributes.get("direction", "forward") == "forward"
    if not usual or "activations" in node.attributes or "clip" in node.attributes:
        raise NotRecognised("a GRU is not of the usual kind")
    width = info.gru_width
    weight, state, bias = (flow.constant(name)[0] for name in node.inputs[1:4])
    if weight.shape[0] != 3 * width or state.shape != (3 * width, width) or bias.shape != (6 * width,):
        raise NotRecognised(f"a GRU has weights {list(weight.shape)} and {list(state.shape)}, expected width {width}")
    order = torch.cat([torch.arange(width, 2 * width), torch.arange(width), torch.arange(2 * width, 3 * width)])
    bias_in, bias_state = bias.split(3 * width)
    return Recurrence(weight[order], state[order], bias_in[order], bias_state[order])


def _heads(flow: Flow, info: NetworkInfo, clean: str, given: str) -> tuple[list[tuple[Linear, Linear]], Tensor]:
    padded = flow.expect(clean, "Concat")
    live = [name for name in padded.inputs if flow.alive(name)]
    if len(padded.inputs) != 3 or live != padded.inputs[1:2]:
        raise NotRecognised("the denoised frames do not stand between constants")
    for pair in added(flow, live[0]):
        if flow.maker(pair[0]).kind == "Concat":
            joined, mean = pair
            break
    else:
        raise NotRecognised("the denoised frames are not moved by a mean")
    table = flow.expect(mean, "MatMul")
    heads, width = [], 0
    for name in flow.maker(joined).inputs:
        inner, second = linear(flow, name)
        start, first = linear(flow, relu(flow, inner))
        if flow.source(start) != given:
            raise NotRecognised("a head does not follow the GRU")
        heads.append((first, second))
        width += second.weight.shape[1]
    means = flow.constant(table.inputs[1])
    if len(heads) != 4 or width != info.values or means.shape != (len(info.identities), info.values):
        raise NotRecognised(f"its heads give {width} values, expected {info.values}")
    return heads, means


def _time(flow: Flow, value: str) -> Tensor:
    """The embedding of a step's time, which depends on no input."""
    node = flow.node(value)
    while node.kind != "Mul":
        node = flow.node(node.inputs[0])
    gemm = flow.node(node.inputs[0])
    if gemm.kind != "Gemm" or flow.node(node.inputs[1]).kind != "Tanh":
        raise NotRecognised("the time of a step is not embedded as expected")
    row = flow.node(gemm.inputs[0])
    moment = flow.node(row.inputs[1])
    count = flow.node(moment.inputs[1])
    while count.kind != "ConstantOfShape":
        count = flow.node(count.inputs[0])
    step = int(flow.attribute(count, "value")) if "value" in count.attributes else 0
    at = int(flow.constant(moment.inputs[0])[step])
    _, layer = linear(flow, gemm.outputs[0])
    return functional.mish(flow.constant(row.inputs[0])[at] @ layer.weight + layer.bias)


def _equal(one: Any, other: Any) -> bool:
    """Of weights within weights."""
    if isinstance(one, Tensor):
        same = one.data_ptr() == other.data_ptr() and one.shape == other.shape
        return same or torch.equal(one, other)
    if is_dataclass(one):
        return all(_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)
