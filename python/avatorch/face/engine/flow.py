"""What flows where in a network: values traced back to what made them, and constants computed where they are needed.

Weights are found by their place in the flow, never by their names: exporters and simplifiers rename, transpose and
merge them. Values that depend on shapes alone are not part of the flow.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from avatorch.face.engine.graph import Graph, Node, StoredTensor

MOST_FOLDED = 1 << 28  # values of a constant that is computed
GLUE = {"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Cast", "Identity", "Expand", "Tile", "Flatten"}


class NotRecognised(Exception):
    """A network is not of a structure that is known here; the text says where it differs."""


class Flow:
    """A graph that is read from its results back to its inputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._maker: dict[str, Node] = {}
        for node in graph.nodes:
            self._maker.update(dict.fromkeys(node.outputs, node))
        self._constants: dict[str, Tensor | None] = {}
        self._alive = set(graph.inputs)
        for node in graph.nodes:
            if node.kind != "Shape" and not self._alive.isdisjoint(node.inputs):
                self._alive.update(node.outputs)

    def maker(self, value: str) -> Node:
        """The node that a value comes from, whatever only changes its shape left out."""
        source = self.source(value)
        if source not in self._maker:
            raise NotRecognised(f"{value!r} comes from {source!r}, expected an operation")
        return self._maker[source]

    def node(self, value: str) -> Node:
        """The node that makes a value."""
        if value not in self._maker:
            raise NotRecognised(f"{value!r} is made by no operation")
        return self._maker[value]

    def source(self, value: str) -> str:
        """The value before everything that only changes its shape."""
        for _ in range(len(self.graph.nodes) + 1):
            before = self._before(value)
            if before is None:
                return value
            value = before
        raise NotRecognised(f"the network has a cycle through {value!r}")

    def _before(self, value: str) -> str | None:
        node = self._maker.get(value)
        if node is None or not self.alive(value):
            return None
        if node.kind in GLUE and self.alive(node.inputs[0]):
            return node.inputs[0]
        if node.kind == "Mul" and self.is_constant(node.inputs[1]):
            factor = self.constant(node.inputs[1])
            return node.inputs[0] if factor.numel() == 1 and float(factor) == 1.0 else None
        return None

    def alive(self, value: str) -> bool:
        """Whether a value depends on what is in the inputs, not on their shapes alone."""
        return value in self._alive

    def expect(self, value: str, *kinds: str) -> Node:
        """The node that a value comes from, which must be one of some kinds."""
        node = self.maker(value)
        if node.kind not in kinds:
            raise NotRecognised(f"{value!r} comes from {node.kind}, expected {' or '.join(kinds)}")
        return node

    def constant(self, name: str) -> Tensor:
        """A value that depends on no input."""
        found = self._constant(name, 0)
        if found is None:
            raise NotRecognised(f"{name!r} is no constant")
        return found

    def is_constant(self, name: str) -> bool:
        """Whether `constant` has it."""
        return not self.alive(name) and self._constant(name, 0) is not None

    def split(self, node: Node) -> tuple[str, str]:
        """The value and the constant that a node of two inputs combines."""
        first, second = node.inputs[:2]
        if self.is_constant(second):
            return first, second
        if self.is_constant(first):
            return second, first
        raise NotRecognised(f"{node.kind} of {first!r} and {second!r} has no constant")

    def scalar(self, name: str) -> float:
        """A constant of one value."""
        found = self.constant(name)
        if found.numel() != 1:
            raise NotRecognised(f"{name!r} has shape {list(found.shape)}, expected one value")
        return float(found)

    def attribute(self, node: Node, name: str) -> Tensor:
        """A tensor that a node holds."""
        value = node.attributes.get(name)
        if not isinstance(value, StoredTensor):
            raise NotRecognised(f"{node.kind} has no tensor {name!r}")
        return value.load()

    def _constant(self, name: str, depth: int) -> Tensor | None:
        if name not in self._constants:
            self._constants[name] = None  # of a cycle
            stored, node = self.graph.tensors.get(name), self._maker.get(name)
            if stored is not None:
                self._constants[name] = stored.load()
            elif node is not None and name not in self._alive and depth < 64:
                self._constants[name] = self._compute(node, depth)
        return self._constants[name]

    def _compute(self, node: Node, depth: int) -> Tensor | None:
        if node.kind == "Constant":
            return self.attribute(node, "value") if "value" in node.attributes else None
        rule = RULES.get(node.kind)
        if rule is None:
            return None
        values = [self._constant(name, depth + 1) for name in node.inputs]
        if any(value is None for value in values):
            return None
        given = [value for value in values if value is not None]
        if sum(value.numel() for value in given) > MOST_FOLDED:
            return None
        try:
            return rule(node, given)
        except (RuntimeError, IndexError, ValueError, TypeError):
            return None


def _broadcast(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Node, list[Tensor]], Tensor]:
    def rule(node: Node, values: list[Tensor]) -> Tensor:
        first, second = values
        if prod(torch.broadcast_shapes(first.shape, second.shape)) > MOST_FOLDED:
            raise ValueError("too large")
        return combine(first, second)

    return rule


def _slice(node: Node, values: list[Tensor]) -> Tensor:
    value, starts, ends, *rest = values
    axes = rest[0].tolist() if rest else list(range(len(starts)))
    steps = rest[1].tolist() if len(rest) > 1 else [1] * len(axes)
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps, strict=True):
        at = [slice(None)] * value.ndim
        at[axis] = slice(start, end, step)
        value = value[tuple(at)]
    return value


def _unsqueeze(node: Node, values: list[Tensor]) -> Tensor:
    value = values[0]
    for axis in sorted(values[1].tolist()):
        value = value.unsqueeze(axis)
    return value


def _reshape(node: Node, values: list[Tensor]) -> Tensor:
    shape = values[1].tolist()
    if not node.integer("allowzero"):
        shape = [values[0].shape[index] if size == 0 else size for index, size in enumerate(shape)]
    return values[0].reshape(shape)


def _norm(node: Node, values: list[Tensor]) -> Tensor:
    return values[0].square().sum(node.integers("axes"), keepdim=bool(node.integer("keepdims", 1))).sqrt()


def _concat(node: Node, values: list[Tensor]) -> Tensor:
    if sum(prod(value.shape) for value in values) > MOST_FOLDED:
        raise ValueError("too large")
    return torch.cat(values, node.integer("axis"))


# What exporters leave between a weight and its use.
RULES: dict[str, Callable[[Node, list[Tensor]], Tensor]] = {
    "Identity": lambda node, v: v[0],
    "Transpose": lambda node, v: v[0].permute(node.integers("perm") or list(range(v[0].ndim))[::-1]),
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Concat": _concat,
    "ReduceL2": _norm,
    "Mul": _broadcast(torch.mul),
    "Div": _broadcast(torch.div),
}
