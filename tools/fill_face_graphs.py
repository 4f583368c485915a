"""Makes a bundle of the published size from a diffusion graph without weights.

    python tools/fill_face_graphs.py diffusion-raw.onnx bundle-raw/

The graph keeps its large tensors in a file beside it, which is not there: it is written with random numbers, scaled so
that what flows through the network stays of the order of 1. Rigs and settings are random too. The result animates
nothing; it has the sizes, and so the speed and the rounding, of a released model.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from math import prod
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from face import bundles

SIZES = bundles.DIFFUSION


def numbers(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """For a tensor, by what its name says that it is."""
    if shape == (1000, 1000):  # a table of time steps
        return np.eye(1000, dtype=np.float32)
    values = rng.standard_normal(shape, np.float32)
    if len([size for size in shape if size > 1]) < 2 or "bias" in name:
        return values * np.float32(0.1) + np.float32("norm" in name and "weight" in name)
    if "mean" in name or shape[0] == len(SIZES.identities):
        return values * np.float32(0.1)
    if "original1" in name:  # a direction of the positional convolution; its length is a tensor of its own
        return values
    inputs = shape[0] if "Transpose" in name else shape[-1] if shape[0] == 1 else prod(shape[1:])
    return values * np.float32(inputs**-0.5)


def fill(skeleton: Path, folder: Path, seed: int = 0) -> Path:
    """Writes a bundle, and gives its folder back."""
    bundles.make_diffusion(folder, SIZES, network=False)
    model = onnx.load(skeleton, load_external_data=False)
    rng = np.random.default_rng(seed)
    named = [(tensor.name, tensor) for tensor in model.graph.initializer]
    for node in model.graph.node:
        named += [(node.output[0], part.t) for part in node.attribute if part.name == "value" and part.HasField("t")]
    files: dict[str, list[tuple[int, np.ndarray]]] = {}
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            values = numbers(name, tuple(tensor.dims), rng)
            files.setdefault(place["location"], []).append((int(place["offset"]), values))
    for location, parts in files.items():
        with (folder / location).open("wb") as file:
            for offset, values in sorted(parts, key=lambda part: part[0]):
                file.seek(offset)
                values.tofile(file)
    shutil.copyfile(skeleton, folder / "network.onnx")
    return folder


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("skeleton", type=Path)
    arguments.add_argument("folder", type=Path)
    given = arguments.parse_args()
    print(f"wrote {fill(given.skeleton, given.folder)}")
