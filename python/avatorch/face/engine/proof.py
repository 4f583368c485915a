"""That an engine computes what its file says: the file's operations one by one, on random inputs, beside the engine.

Weights are found by their place in the flow, past what only changes shapes and what depends on shapes alone. Both can
be other than in the published structure, an axis, a mask, a factor of the sampler: then the numbers differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.diffusion import Diffusion
from avatorch.face.engine.flow import RULES, NotRecognised
from avatorch.face.engine.graph import DTYPES, Graph, Node, StoredTensor
from avatorch.face.engine.regression import Regression

MOST_VALUES = 1 << 28  # of one tensor
TRACKS = 2  # that must not touch each other
TOLERANCE = 3e-4  # of the largest value, both in float32
Given = Sequence[Tensor]
Rule = Callable[[Node, list[Tensor]], Tensor]


@torch.no_grad()
def prove(engine: Diffusion | Regression, graph: Graph, info: NetworkInfo) -> None:
    """Compares two tracks through both; raises NotRecognised where they differ. The engine is of float32 or finer."""
    random = torch.Generator("cpu").manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float32, device="cpu")

    window, emotions = normal(TRACKS, info.window) * 0.1, len(info.emotions)
    if isinstance(engine, Regression):
        emotion = normal(TRACKS, info.implicit_emotions + emotions)
        result, *_ = computed(graph, {"input": window[:, None], "emotion": emotion[:, None]}, ["result"])
        _compare(result, engine(window.to(engine.device), emotion.to(engine.device))[:, None], "frame")
        return
    inputs = {
        "window": window,
        "identity": normal(TRACKS, len(info.identities)),
        "emotion": normal(TRACKS, info.center_frames, emotions),
        "input_latents": normal(info.steps, info.gru_layers, TRACKS, info.gru_width),
        "noise": normal(TRACKS, info.steps + 1, info.frames, info.values),
    }
    prediction, latents = computed(graph, inputs, ["prediction", "output_latents"])
    if prediction.shape != (TRACKS, info.frames, info.values):
        raise NotRecognised(f"its prediction has shape {list(prediction.shape)}")
    window, identity, emotion, state, noise = (tensor.to(engine.device) for tensor in inputs.values())
    found = engine(window, identity, emotion, state, engine.embed_noise(noise))
    middle = prediction[:, info.left_frames : info.left_frames + info.center_frames]
    sizes = [info.skin_values, info.tongue_values, info.jaw_values, info.eye_values]
    frames = engine.frames(found.features, identity)
    for expected, part in zip(middle.split(sizes, -1), frames.split(sizes, -1), strict=True):
        _compare(expected, part, "frame")
    _compare(latents, found.latents, "state")


def _compare(expected: Tensor, found: Tensor, what: str) -> None:
    if expected.shape != found.shape:
        raise NotRecognised(f"it computes a {what} of shape {list(expected.shape)}, expected {list(found.shape)}")
    error, largest = float((expected - found.cpu()).abs().max()), float(expected.abs().max())
    if not error <= TOLERANCE * largest:  # also where something is no number
        raise NotRecognised(f"it computes another {what} than the structure that it seems to have, by {error:.3g}")


def computed(graph: Graph, inputs: dict[str, Tensor], outputs: list[str]) -> list[Tensor]:
    """The values of some outputs."""
    needed, nodes = set(outputs), []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            nodes.append(node)
            needed.update(node.inputs)
    uses = Counter([*outputs, *(name for node in nodes for name in set(node.inputs))])
    values = dict(inputs)
    try:
        for node in reversed(nodes):
            given = [_value(name, graph, values) for name in node.inputs]
            for name, value in zip(node.outputs, _apply(node, given), strict=False):
                values[name] = value
            for name in set(node.inputs):
                uses[name] -= 1
                if not uses[name]:
                    values.pop(name, None)
        return [values[name] for name in outputs]
    except (LookupError, ArithmeticError, ValueError, TypeError, RuntimeError) as error:
        raise NotRecognised(f"it cannot be computed operation by operation: {error}") from None


def _value(name: str, graph: Graph, values: dict[str, Tensor]) -> Tensor | None:
    if not name:
        return None  # an input that is left out
    return values[name] if name in values else graph.tensors[name].load()


def _apply(node: Node, given: list[Tensor | None]) -> list[Tensor]:
    """The results of one operation."""
    kind, some = node.kind, [value for value in given if value is not None]
    if kind in BINARY:
        _bounded(torch.broadcast_shapes(some[0].shape, some[1].shape))
        return [BINARY[kind](some[0], some[1])]
    if kind in UNARY:
        return [UNARY[kind](some[0])]
    if kind == "GRU":
        return _gru(node, given)
    if kind == "Clip":
        low, high = [*given[1:], None, None][:2]
        return [some[0].clamp(low, high)]
    rule = OPERATIONS.get(kind) or RULES.get(kind)
    if rule is None:
        raise ValueError(f"{kind} is not known here")
    return [rule(node, some)]


def _bounded(shape: Sequence[int]) -> tuple[int, ...]:
    if prod(shape) > MOST_VALUES:
        raise ValueError(f"a tensor of shape {list(shape)}")
    return tuple(shape)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _constant(node: Node, v: Given) -> Tensor:
    value = node.attributes["value"]
    if not isinstance(value, StoredTensor):
        raise ValueError("a constant that is no tensor")
    return value.load()


def _filled(node: Node, v: Given) -> Tensor:
    value = _constant(node, v) if "value" in node.attributes else torch.zeros(1, dtype=torch.float32, device="cpu")
    return value.reshape(()).expand(_bounded(v[0].tolist()))


def _expand(node: Node, v: Given) -> Tensor:
    return v[0].expand(_bounded(torch.broadcast_shapes(v[0].shape, v[1].tolist())))


def _tile(node: Node, v: Given) -> Tensor:
    times = v[1].tolist()
    _bounded([v[0].numel(), *times])
    return v[0].repeat(times)


def _range(node: Node, v: Given) -> Tensor:
    start, end, step = (value.item() for value in v)
    _bounded([abs(int((end - start) / step))])
    return torch.arange(start, end, step, dtype=v[0].dtype, device="cpu")


def _matmul(node: Node, v: Given) -> Tensor:
    a, b = v
    _bounded([a.numel() // max(1, a.shape[-1]), b.shape[-1]])
    return a @ b


def _gemm(node: Node, v: Given) -> Tensor:
    a, b = v[0].mT if node.integer("transA") else v[0], v[1].mT if node.integer("transB") else v[1]
    product = node.number("alpha", 1.0) * (a @ b)
    return product + node.number("beta", 1.0) * v[2] if len(v) > 2 else product


def _gather(node: Node, v: Given) -> Tensor:
    value, index = v
    axis = node.integer("axis") % value.ndim
    size = value.shape[axis]
    shape = _bounded([*value.shape[:axis], *index.shape, *value.shape[axis + 1 :]])
    return value.index_select(axis, torch.where(index < 0, index + size, index).flatten()).reshape(shape)


def _scatter(node: Node, v: Given) -> Tensor:
    if node.attributes.get("reduction", "none") != "none":
        raise ValueError("ScatterND that reduces")
    result = v[0].clone(memory_format=torch.contiguous_format)
    result[v[1].unbind(-1)] = v[2]
    return result


def _convolve(node: Node, v: Given) -> Tensor:
    axes, pads = v[1].ndim - 2, node.integers("pads")
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET" or axes not in (1, 2):
        raise ValueError("a convolution that pads on its own")
    pads = pads or [0] * 2 * axes
    around = [pads[axis + end * axes] for axis in reversed(range(axes)) for end in (0, 1)]
    _bounded([v[0].numel(), 1 + max(map(abs, around))])
    convolve = functional.conv1d if axes == 1 else functional.conv2d
    bias = v[2] if len(v) > 2 else None
    ones = [1] * axes
    return convolve(
        functional.pad(v[0], around), v[1], bias, node.integers("strides") or ones, 0,
        node.integers("dilations") or ones, node.integer("group", 1),
    )  # fmt: skip


def _softmax(node: Node, v: Given) -> Tensor:
    return v[0].softmax(node.integer("axis", -1))


def _axes(node: Node, v: Given) -> list[int]:
    return v[1].tolist() if len(v) > 1 else node.integers("axes")


def _squeeze(node: Node, v: Given) -> Tensor:
    axes = _axes(node, v)
    return v[0].squeeze(axes) if axes else v[0].squeeze()


def _sum(node: Node, v: Given) -> Tensor:
    if not _axes(node, v) and node.integer("noop_with_empty_axes"):
        return v[0]
    return v[0].sum(_axes(node, v) or None, keepdim=bool(node.integer("keepdims", 1)))


def _mean(node: Node, v: Given) -> Tensor:
    summed = _sum(node, v)
    return summed / (v[0].numel() / summed.numel())


def _length(node: Node, v: Given) -> Tensor:
    return _sum(node, [v[0].square(), *v[1:]]).sqrt()


def _layer_norm(node: Node, v: Given) -> Tensor:
    shape = v[0].shape[node.integer("axis", -1) :]
    return functional.layer_norm(v[0], shape, v[1], v[2] if len(v) > 2 else None, node.number("epsilon", 1e-5))


def _gru(node: Node, given: list[Tensor | None]) -> list[Tensor]:
    """[frames, B, inputs] -> [frames, 1, B, width] and the last state, gates in the order update, reset, new."""
    x, weight, state_weight, bias, lengths, state = [*given, None, None, None][:6]
    plain = {"hidden_size", "linear_before_reset", "direction"}
    if lengths is not None or set(node.attributes) - plain or node.attributes.get("direction", "forward") != "forward":
        raise ValueError("a GRU of another kind")
    if x is None or weight is None or state_weight is None or bias is None or state is None:
        raise ValueError("a GRU without bias or state")
    width, h = state_weight.shape[-1], state[0]
    bias_in, bias_state = bias[0].split(3 * width)
    results = []
    for gates in (x @ weight[0].mT + bias_in).unbind(0):
        update, reset, new = gates.split(width, -1)
        own = h @ state_weight[0].mT + bias_state
        z = torch.sigmoid(update + own[:, :width])
        r = torch.sigmoid(reset + own[:, width : 2 * width])
        if node.integer("linear_before_reset"):
            n = torch.tanh(new + r * own[:, 2 * width :])
        else:
            n = torch.tanh(new + (r * h) @ state_weight[0, 2 * width :].mT + bias_state[2 * width :])
        h = (1 - z) * n + z * h
        results.append(h)
    return [torch.stack(results)[:, None], h[None]]


BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": _divide, "Pow": torch.pow, "Equal": torch.eq,
}  # fmt: skip
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Sqrt": torch.sqrt, "Erf": torch.erf, "Exp": torch.exp, "Tanh": torch.tanh, "Relu": torch.relu, "Neg": torch.neg,
    "Floor": torch.floor, "Ceil": torch.ceil, "Not": torch.logical_not, "Softplus": functional.softplus,
    "NonZero": lambda value: value.nonzero().mT,
}  # fmt: skip
OPERATIONS: dict[str, Rule] = {
    "Constant": _constant, "ConstantOfShape": _filled, "Expand": _expand, "Tile": _tile, "Range": _range,
    "MatMul": _matmul, "Gemm": _gemm, "Gather": _gather, "ScatterND": _scatter, "Conv": _convolve,
    "Softmax": _softmax, "Squeeze": _squeeze, "ReduceSum": _sum, "ReduceMean": _mean, "ReduceL2": _length,
    "LayerNormalization": _layer_norm,
    "Shape": lambda node, v: torch.tensor(
        v[0].shape[node.integer("start") : node.integer("end", v[0].ndim)], dtype=torch.int64, device="cpu"
    ),
    "Cast": lambda node, v: v[0].to(DTYPES[node.integer("to")]),
    "Where": lambda node, v: torch.where(v[0], v[1], v[2]),
    "LeakyRelu": lambda node, v: functional.leaky_relu(v[0], node.number("alpha", 0.01)),
    "Gelu": lambda node, v: functional.gelu(v[0], approximate=str(node.attributes.get("approximate", "none"))),
    "InstanceNormalization": lambda node, v: functional.instance_norm(
        v[0], weight=v[1], bias=v[2], eps=node.number("epsilon", 1e-5)
    ),
}  # fmt: skip
