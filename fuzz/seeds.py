"""Writes the first inputs of every fuzz target to `fuzz/corpus`: small rigs in every format.

python fuzz/seeds.py && cargo fuzz run --sanitizer none pickle -- -dict=fuzz/pickle.dict
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

FUZZ = Path(__file__).parent
ROOT = FUZZ.parent
sys.path.insert(0, str(ROOT / "tests" / "model"))
import synthetic  # noqa: E402


def folder(target: str) -> Path:
    path = FUZZ / "corpus" / target
    path.mkdir(parents=True, exist_ok=True)
    return path


def main() -> None:
    rig = synthetic.generic(vertices=3, joints=2, columns=1, influences=2, posedirs=True, dtype=np.float32)
    fortran = {key: np.asfortranarray(array.astype(">f4")) for key, array in rig.items()}
    for name, arrays in (
        ("rig", rig),
        ("fortran", fortran),
        ("mano", synthetic.mano(1, 1, 1, dtype=np.float16)),
    ):
        synthetic.save_npz(folder("npz") / f"{name}.npz", arrays)
        synthetic.save_npz(folder("npz") / f"{name}_deflated.npz", arrays, compressed=True)
        for protocol in range(6):
            synthetic.save_pkl(folder("pickle") / f"{name}{protocol}.pkl", arrays, protocol)
    for path in (ROOT / "tests" / "model").glob("*.pkl"):
        shutil.copy(path, folder("pickle"))
    for array in (rig["f"], fortran["v_template"], np.array({"a": rig["f"]}, dtype=object)):
        np.save(folder("npy") / f"{array.dtype.char}{array.ndim}.npy", array, allow_pickle=True)
    convert = ["cargo", "run", "--quiet", "--no-default-features", "--example", "convert_model", "--"]
    for seed in folder("npz").glob("*.npz"):
        target = folder("safetensors") / f"{seed.stem}.safetensors"
        subprocess.run([*convert, str(seed), str(target)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
