"""Networks that are almost of a published structure: computed right, or left to ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from avatorch.face import FaceError, read_bundle
from avatorch.face.engine.choice import choose_network
from avatorch.face.engine.flow import Flow, NotRecognised
from avatorch.face.engine.graph import read_graph
from avatorch.face.engine.proof import computed
from avatorch.face.engine.session import TorchNetwork
from avatorch.face.network import Network
from face.test_engine import EXPORTED, FORMS, exported

SIDES = {"rows": (20000, 1), "columns": (1, 20000)}
Change = Callable[[onnx.GraphProto], None]


def node_of(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    return next(node for node in graph.node if node.name.endswith(name))


def attribute(name: str, key: str, value: object) -> Change:
    """Of the first node whose name ends so."""

    def change(graph: onnx.GraphProto) -> None:
        node = node_of(graph, name)
        kept = [part for part in node.attribute if part.name != key]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(key, value)])

    return change


def swapped(name: str) -> Change:
    """The first two inputs of a node."""

    def change(graph: onnx.GraphProto) -> None:
        node = node_of(graph, name)
        node.input[0], node.input[1] = node.input[1], node.input[0]

    return change


def before(name: str, kind: str, index: int = 0) -> Change:
    """One more operation on what a node is given."""

    def change(graph: onnx.GraphProto) -> None:
        node = node_of(graph, name)
        graph.node.insert(list(graph.node).index(node), helper.make_node(kind, [node.input[index]], ["another"]))
        node.input[index] = "another"

    return change


def doubled(initializer: str) -> Change:
    def change(graph: onnx.GraphProto) -> None:
        tensor = next(part for part in graph.initializer if part.name == initializer)
        tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), initializer))

    return change


def another(name: str, kind: str) -> Change:
    """Operation."""

    def change(graph: onnx.GraphProto) -> None:
        node_of(graph, name).op_type = kind

    return change


CHANGES: list[tuple[str, str, Change]] = [
    ("regression", "the axis of a softmax", attribute("/layers.0/attention/Softmax", "axis", -2)),
    ("regression", "heads in another order", attribute("/layers.0/attention/Transpose_3", "perm", [2, 0, 3, 1])),
    ("regression", "lags along another axis", attribute("/autocorr/Concat", "axis", -1)),
    ("regression", "the root of two over a value", swapped("/feature_extractor/conv_layers.3/Div")),
    ("regression", "another stride", attribute("/feature_extractor/conv_layers.6/conv/Conv", "strides", [1])),
    ("regression", "a matrix that is not transposed", attribute("/linear_tongue1/Gemm", "transB", 0)),
    ("diffusion", "the axis of a softmax", attribute("/layers.2/attention/Softmax", "axis", -2)),
    ("diffusion", "heads in another order", attribute("/layers.0/attention/Transpose_3", "perm", [1, 0, 3, 2])),
    ("diffusion", "frames elsewhere", before("/model/Floor", "Neg")),
    ("diffusion", "the time of a step", before("/model/proj_time/proj_time.1/Tanh", "Neg")),
    ("diffusion", "a factor of the sampler", another("/Mul_5", "Add")),
    ("diffusion", "the order of gates", swapped("/model/gru/Concat_10")),
    ("diffusion", "the identity's place", before("/model_1/Transpose_5", "Relu")),
    ("diffusion", "tracks beside each other", attribute("/model/Transpose_4", "perm", [2, 1, 0])),
    ("diffusion", "what is written where", doubled("/Slice_16_output_0")),
]

NOT_ONNX = ("a matrix that is not transposed", "another stride")  # ONNX Runtime refuses the file too


@exported
@pytest.mark.parametrize(("kind", "what", "change"), CHANGES, ids=[f"{kind}: {what}" for kind, what, _ in CHANGES])
def testwhat_only_numbers_show(kind: str, what: str, change: Change, tmp_path: Path) -> None:
    """Shapes and weights stay as they are."""
    bundle, path = read_bundle(EXPORTED / kind), tmp_path / "network.onnx"
    model = onnx.load(EXPORTED / kind / "network.simplified.onnx")
    change(model.graph)
    onnx.save(model, path)
    with pytest.raises(NotRecognised, match=r"computes another|do not fit|cannot be computed"):
        TorchNetwork(replace(bundle, network=path), torch.device("cpu"))
    if what not in NOT_ONNX:
        network = choose_network(replace(bundle, network=path), torch.device("cpu"))
        assert isinstance(network, Network) and network.why


@exported
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_operation_by_operation(kind: str, form: str) -> None:
    """To what ONNX Runtime gives for the same file."""
    stored = {key: torch.from_numpy(value) for key, value in np.load(EXPORTED / kind / "io_001.npz").items()}
    names = ["result"] if kind == "regression" else ["prediction", "output_latents"]
    inputs = {key: value for key, value in stored.items() if key not in names}
    for name, found in zip(names, computed(read_graph(EXPORTED / kind / form), inputs, names), strict=True):
        torch.testing.assert_close(found, stored[name], atol=1e-5 * float(stored[name].abs().max()), rtol=0)


@pytest.mark.parametrize(
    "nodes",
    [
        [("Expand", ["x", "large"])],
        [("Tile", ["x", "large"])],
        [("ConstantOfShape", ["large"])],
        [("Concat", ["x", "x"])] * 40,
        [("Transpose", ["x"]), ("Mul", ["x", "start"])],
        [("MatMul", ["x", "missing"])],
        [("Loop", ["x"])],
        [("Gather", ["x", "large"])],
        [("Gather", ["number", "x"])],
    ],
)
def test_operations_that_are_too_large_or_none(
    nodes: list[tuple[str, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is given the result before it where it asks for x, and the first one's where it asks for the start."""
    monkeypatch.setattr("avatorch.face.engine.flow.MOST_FOLDED", 1 << 20)
    made, last = [], "x"
    for number, (kind, inputs) in enumerate(nodes):
        given = [{"x": last, "start": "x"}.get(name, name) for name in inputs]
        options = {"axis": 0} if kind == "Concat" else {}
        made.append(helper.make_node(kind, given, [f"y{number}"], **options))
        last = f"y{number}"
    large = numpy_helper.from_array(np.array([1 << 40, 1 << 20]), "large")
    number = numpy_helper.from_array(np.array(1), "number")
    x, y = (helper.make_tensor_value_info(name, 1, None) for name in ("x", last))
    onnx.save(helper.make_model(helper.make_graph(made, "g", [x], [y], [large, number])), tmp_path / "network.onnx")
    with pytest.raises(NotRecognised, match="cannot be computed operation by operation"):
        computed(read_graph(tmp_path / "network.onnx"), {"x": torch.ones(1, 20000)}, [last])


def test_constants_that_are_small_alone(tmp_path: Path) -> None:
    """Their product is not made where it is too large."""
    rows, columns = (numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in SIDES.items())
    node = helper.make_node("Mul", list(SIDES), ["y"])
    y = helper.make_tensor_value_info("y", 1, None)
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [y], [rows, columns])), tmp_path / "network.onnx")
    assert not Flow(read_graph(tmp_path / "network.onnx")).is_constant("y")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / "network.onnx")
    with pytest.raises(FaceError, match=r"network\.onnx: cannot be read: it is no file"):
        read_graph(tmp_path / "network.onnx")
