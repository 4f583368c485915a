"""Damages bundles for a while: reading one gives a bundle or a FaceError, nothing else, in little memory.

python fuzz/face_bundle.py [seconds] [seed]
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from avatorch.face import Executor, FaceError, read_bundle
from face import bundles

MOST_MEMORY = 6 << 30  # bytes of address space: a size taken from a file on trust would need more
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**400,
    1e308,
    -0.5,
    "",
    "..",
    "\0",
    "x" * 5000,
    [],
    {},
    [[]],
    [0.0] * 52,
]


def main(seconds: float, seed: int) -> None:
    """Counts what was read and what was refused."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    random.seed(seed)
    end, read, refused = time.monotonic() + seconds, 0, 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        makers = (bundles.make_regression, bundles.make_diffusion)
        good = [make(root / make.__name__) for make in makers]
        while time.monotonic() < end:
            original = random.choice(good)
            folder = Path(shutil.copytree(original, root / "bad"))
            for _ in range(random.choice((1, 1, 1, 2, 4))):
                damage(random.choice([path for path in folder.iterdir() if path.suffix in (".json", ".npz", ".onnx")]))
            try:
                Executor(read_bundle(folder))
                read += 1
            except FaceError:
                refused += 1
            except BaseException:
                shutil.copytree(folder, "fuzz/artifacts/face_bundle", dirs_exist_ok=True)
                raise
            shutil.rmtree(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{read} read, {refused} refused, at most {peak} MB")


def damage(path: Path) -> None:
    """Changes a value of a JSON file, or bytes of any."""
    data = path.read_bytes()
    if path.suffix == ".json" and random.random() < 0.8:
        try:
            content = json.loads(data)
        except ValueError:
            return
        places: list[tuple[Any, Any]] = []
        collect(content, places)
        if places:
            parent, key = random.choice(places)
            if random.random() < 0.2 and isinstance(parent, dict):
                del parent[key]
            else:
                parent[key] = random.choice(ODD)
        path.write_text(json.dumps(content))
        return
    changed = bytearray(data)
    kind = random.random()
    if kind < 0.2:
        del changed[random.randrange(len(changed) + 1) :]
    elif kind < 0.3:
        at = random.randrange(len(changed) + 1)
        del changed[at : at + random.randrange(200)]
    elif kind < 0.4:
        at = random.randrange(len(changed) + 1)
        changed[at:at] = random.randbytes(random.randrange(200))
    for _ in range(random.choice((0, 1, 2, 8, 60))):
        if changed:
            # The heads of members and the directory at the end are where sizes are.
            near = random.choice((len(changed), 400, -400))
            at = random.randrange(len(changed)) if abs(near) > len(changed) else random.randrange(abs(near))
            changed[at if near > 0 else -1 - at % len(changed)] = random.choice(
                (0, 1, 127, 128, 255, random.randrange(256))
            )
    path.write_bytes(changed)


def collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    """Every (container, key) below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        places.append((value, key))
        collect(item, places)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
