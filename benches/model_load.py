"""How long a SMPL-X file takes to open, beside what numpy needs to read the same arrays.

python benches/model_load.py

The file is synthetic, of exactly the published shapes, float32 (117 MB), in the page cache. Both programs
run in this process, in turn; the median of the rounds is what counts.
"""

from __future__ import annotations

import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avatorch import _native

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "model"))
import synthetic

ROUNDS = 15


def numpy_npz(path: Path) -> object:
    with np.load(path, allow_pickle=True) as file:
        return {key: file[key] for key in file.files}


def numpy_pickle(path: Path) -> object:
    with path.open("rb") as file:
        return pickle.load(file)


def numpy_raw(path: Path) -> object:
    """The least any copying reader does: the bytes of the file, once."""
    return np.fromfile(path, np.uint8)


def seconds(read: Callable[[Path], object], path: Path) -> float:
    start = time.perf_counter()
    content = read(path)
    elapsed = time.perf_counter() - start
    del content
    return elapsed


def compare(name: str, path: Path, baseline: Callable[[Path], object]) -> None:
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(seconds(baseline, path))
        ours.append(seconds(_native.load_model, path))
    mine, yours = statistics.median(ours), statistics.median(theirs)
    spread = f"{min(ours):.4f} to {max(ours):.4f}"
    print(f"{name:18} {mine:8.4f} s ({spread})   {baseline.__name__} {yours:8.4f} s   ratio {mine / yours:5.2f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        arrays = synthetic.smplx(dtype=np.float32)
        stored = synthetic.save_npz(folder / "stored.npz", arrays)
        print(f"SMPL-X, {stored.stat().st_size / 1e6:.0f} MB, {ROUNDS} rounds; median (fastest to slowest)")
        compare("npz, stored", stored, numpy_npz)
        compare("npz, deflated", synthetic.save_npz(folder / "deflated.npz", arrays, compressed=True), numpy_npz)
        compare("pickle", synthetic.save_pkl(folder / "body.pkl", arrays, protocol=4), numpy_pickle)
        _native.convert_model(stored, folder / "body.safetensors")
        compare("safetensors", folder / "body.safetensors", numpy_raw)


if __name__ == "__main__":
    main()
