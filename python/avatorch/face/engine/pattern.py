"""Small structures that exporters write out of many nodes, each read back from its result.

Every function takes the name of a value and returns where it comes from with the weights in between, or raises
NotRecognised. Matrices act on rows: [inputs, outputs].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from avatorch.face.engine.flow import Flow, NotRecognised
from avatorch.face.engine.graph import Node


@dataclass
class Linear:
    """x W + b"""

    weight: Tensor  # [inputs, outputs]
    bias: Tensor  # [outputs]


@dataclass
class Norm:
    """Gain and shift of a normalisation."""

    weight: Tensor  # [channels]
    bias: Tensor  # [channels]
    epsilon: float


def linear(flow: Flow, value: str) -> tuple[str, Linear]:
    """A product with a matrix, and a bias if there is one."""
    node = flow.expect(value, "Add", "MatMul", "Gemm")
    if node.kind == "Gemm":
        factors = node.number("alpha", 1.0), node.number("beta", 1.0)
        if factors != (1.0, 1.0) or node.integer("transA") or len(node.inputs) != 3:
            raise NotRecognised(f"{value!r} is a Gemm with factors {factors}, expected x W + b")
        weight = flow.constant(node.inputs[1])
        weight = weight.mT if node.integer("transB") else weight
        return node.inputs[0], Linear(weight, flow.constant(node.inputs[2]).flatten())
    bias = None
    if node.kind == "Add":
        value, name = flow.split(node)
        bias = flow.constant(name).flatten()
        node = flow.expect(value, "MatMul")
    if not flow.is_constant(node.inputs[1]):
        raise NotRecognised(f"{value!r} is a product of two values, expected one with a matrix")
    weight = flow.constant(node.inputs[1])
    if weight.ndim != 2:
        raise NotRecognised(f"{value!r} is a product with shape {list(weight.shape)}, expected a matrix")
    return node.inputs[0], Linear(weight, torch.zeros(weight.shape[1]) if bias is None else bias)


def relu(flow: Flow, value: str) -> str:
    """max(x, 0)"""
    return flow.expect(value, "Relu").inputs[0]


def norm_relu(flow: Flow, value: str) -> str:
    """sqrt(2) max(x, 0)"""
    inner, factor = flow.split(flow.expect(value, "Mul"))
    node = flow.expect(inner, "LeakyRelu", "Relu")
    slope = node.number("alpha", 0.01) if node.kind == "LeakyRelu" else 0.0
    if slope != 0.0 or abs(flow.scalar(factor) - math.sqrt(2)) > 1e-5:
        raise NotRecognised(f"{value!r} is no sqrt(2) max(x, 0)")
    return node.inputs[0]


def gelu(flow: Flow, value: str) -> str:
    """x / 2 (1 + erf(x / sqrt(2)))"""
    node = flow.maker(value)
    if node.kind == "Gelu" and node.attributes.get("approximate", "none") == "none":
        return node.inputs[0]
    product, half = flow.split(flow.expect(value, "Mul"))
    for whole, part in _both(flow.expect(product, "Mul")):
        if flow.maker(part).kind == "Add":
            error, one = flow.split(flow.maker(part))
            scaled, root = flow.split(flow.expect(flow.expect(error, "Erf").inputs[0], "Div"))
            numbers = (flow.scalar(half) - 0.5, flow.scalar(one) - 1, flow.scalar(root) - math.sqrt(2))
            if flow.source(scaled) == flow.source(whole) and max(map(abs, numbers)) < 1e-5:
                return whole
    raise NotRecognised(f"{value!r} is no GELU")


def layer_norm(flow: Flow, value: str) -> tuple[str, Norm]:
    """Normalisation of the last axis."""
    node = flow.expect(value, "Add", "LayerNormalization")
    if node.kind == "LayerNormalization":
        weight, bias = (flow.constant(name) for name in node.inputs[1:3])
        return node.inputs[0], Norm(weight, bias, node.number("epsilon", 1e-5))
    scaled, shift = flow.split(node)
    quotient, gain = flow.split(flow.expect(scaled, "Mul"))
    division = flow.expect(quotient, "Div")
    difference = flow.expect(division.inputs[0], "Sub")
    mean = flow.expect(difference.inputs[1], "ReduceMean")
    variance, epsilon = flow.split(flow.expect(flow.expect(division.inputs[1], "Sqrt").inputs[0], "Add"))
    power = flow.expect(flow.expect(variance, "ReduceMean").inputs[0], "Pow")
    whole = flow.source(difference.inputs[0])
    if flow.source(mean.inputs[0]) != whole or flow.source(power.inputs[0]) != difference.outputs[0]:
        raise NotRecognised(f"{value!r} is no normalisation of one value")
    if any(node.integers("axes") != [-1] for node in (mean, flow.maker(variance))) or flow.scalar(power.inputs[1]) != 2:
        raise NotRecognised(f"{value!r} is no normalisation of the last axis")
    return difference.inputs[0], Norm(flow.constant(gain), flow.constant(shift), flow.scalar(epsilon))


@dataclass
class Attention:
    """Of several heads."""

    query: Linear
    key: Linear
    value: Linear
    heads: int


def attention(flow: Flow, value: str) -> tuple[str, Attention]:
    """softmax(q k^T / sqrt(d)) v, each of q, k, v a linear map of the same value."""
    mixed = flow.expect(value, "MatMul")
    softmax = flow.expect(mixed.inputs[0], "Softmax")
    scores = flow.expect(softmax.inputs[0], "MatMul")
    sides = [flow.expect(side, "Mul") for side in scores.inputs]  # each times the root of the scale
    found = [linear(flow, name) for name in (sides[0].inputs[0], sides[1].inputs[0], mixed.inputs[1])]
    if len({flow.source(source) for source, _ in found}) != 1:
        raise NotRecognised(f"{value!r}: query, key and value are not of one value")
    width = found[0][1].weight.shape[1]
    heads = _heads(flow, sides[0].inputs[0])
    if width % heads or not all(_scales_by_root(flow, side.inputs[1], width // heads) for side in sides):
        raise NotRecognised(f"{value!r}: scores are not divided by the root of a head's width")
    return found[0][0], Attention(found[0][1], found[1][1], found[2][1], heads)


def _heads(flow: Flow, value: str) -> int:
    """From the last two numbers of the shape that a value is split to."""
    for _ in range(8):
        node = flow.node(value)
        if node.kind == "Reshape":
            shape = node.inputs[1]
            if flow.is_constant(shape):
                return int(flow.constant(shape)[-2])
            return int(flow.scalar(flow.node(shape).inputs[-2]))
        value = node.inputs[0]
    raise NotRecognised(f"{value!r} is not split into heads")


def _scales_by_root(flow: Flow, name: str, width: int) -> bool:
    """Whether a factor is d^(-1/4): stored, or computed from the last size of a shape as sqrt(1 / sqrt(d))."""
    if flow.alive(name):
        return False
    if flow.is_constant(name):
        return abs(flow.scalar(name) - width**-0.25) < 1e-5
    division = _made(flow, _made(flow, name, "Sqrt").inputs[0], "Div")
    size = _made(flow, _made(flow, division.inputs[1], "Sqrt").inputs[0], "Slice")
    return flow.scalar(division.inputs[0]) == 1.0 and flow.scalar(size.inputs[1]) == -1


def _made(flow: Flow, value: str, kind: str) -> Node:
    """The node of some kind that makes a value that depends on shapes alone."""
    node = flow.node(value)
    while node.kind in ("Cast", "Identity"):
        node = flow.node(node.inputs[0])
    if node.kind != kind:
        raise NotRecognised(f"{value!r} comes from {node.kind}, expected {kind}")
    return node


@dataclass
class Convolution:
    """Along one axis, or two of which one is 1 wide."""

    weight: Tensor  # [outputs, inputs / groups, *kernel]
    bias: Tensor | None  # [outputs]
    stride: int
    padding: int
    groups: int


def convolution(flow: Flow, value: str) -> tuple[str, Convolution]:
    """With kernels that reach along one axis."""
    node = flow.expect(value, "Conv")
    weight = flow.constant(node.inputs[1])
    bias = flow.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    axes = weight.ndim - 2
    pads, strides = node.integers("pads") or [0] * 2 * axes, node.integers("strides") or [1] * axes
    along = [axis for axis in range(axes) if weight.shape[2 + axis] > 1]
    if len(along) != 1 or any(step != 1 for step in node.integers("dilations")) or pads[:axes] != pads[axes:]:
        raise NotRecognised(f"{value!r} is a convolution of {list(weight.shape)}, expected kernels along one axis")
    axis = along[0]
    if any(pads[other] or strides[other] != 1 for other in range(axes) if other != axis):
        raise NotRecognised(f"{value!r} is a convolution with strides {strides} and padding {pads}")
    return node.inputs[0], Convolution(
        weight.reshape(*weight.shape[:2], -1), bias, strides[axis], pads[axis], node.integer("group", 1)
    )


def _both(node: Node) -> list[tuple[str, str]]:
    first, second = node.inputs
    return [(first, second), (second, first)]


def added(flow: Flow, value: str) -> list[tuple[str, str]]:
    """The two values of a sum, in both orders."""
    return _both(flow.expect(value, "Add"))


def interval(flow: Flow, node: Node) -> tuple[int, int, int]:
    """The axis, start and end of a slice of one axis."""
    _, starts, ends, axes, *_ = node.inputs
    found = tuple(flow.constant(name) for name in (axes, starts, ends))
    if any(values.numel() != 1 for values in found):
        raise NotRecognised(f"{node.outputs[0]!r} is a slice of several axes")
    axis, start, end = (int(values) for values in found)
    return axis, start, end
