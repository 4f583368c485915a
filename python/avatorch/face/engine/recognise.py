"""A network file to the weights that the engine needs, or the reason why it has to stay with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.diffusion_weights import DiffusionWeights, diffusion_weights
from avatorch.face.engine.flow import Flow, NotRecognised
from avatorch.face.engine.graph import read_graph
from avatorch.face.engine.regression_weights import RegressionWeights, regression_weights


def recognise(path: Path, info: NetworkInfo) -> DiffusionWeights | RegressionWeights:
    """The weights of a network of one of the two published structures, exported or simplified.

    What is wrong with the file itself is a FaceError; NotRecognised says that it is of another structure.
    """
    flow = Flow(read_graph(path))
    try:
        return regression_weights(flow, info) if info.kind == "regression" else diffusion_weights(flow, info)
    except (IndexError, ValueError, RuntimeError, RecursionError) as error:
        # Shapes that do not fit where the flow does.
        raise NotRecognised(f"its weights do not fit together: {error}") from None
