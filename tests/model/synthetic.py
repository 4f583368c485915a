"""Body models with the shapes of the published ones and invented content: dicts of arrays by file key.

    arrays = synthetic.smplx(vertices=200, seed=3, columns=20)
    synthetic.save_npz("SMPLX_NEUTRAL.npz", arrays)

Nothing here comes from a real model: the template is a random blob, the blend shapes are random slow waves
over it, and only the joint trees and array shapes are those of the published file formats.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]

# Parent of every joint. The root has the value the files have: -1 as an unsigned 32-bit number.
ROOT = 4294967295
BODY = [ROOT, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]
SMPL_TREE = [*BODY, 20, 21]
MANO_TREE = [ROOT, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]
FLAME_TREE = [ROOT, 0, 1, 1, 1]
HAND_POSE = 45
CONTOUR_ROWS = 79


def _with_hands(body: list[int]) -> list[int]:
    tree = list(body)
    for wrist in (20, 21):
        for _finger in range(5):
            first = len(tree)
            tree += [wrist, first, first + 1]
    return tree


SMPLH_TREE = _with_hands(BODY)
SMPLX_TREE = _with_hands([*BODY, 15, 15, 15])


def smpl(vertices: int = 6890, faces: int = 13776, columns: int = 10, seed: int = 0, dtype=np.float64) -> Arrays:
    """SMPL: 24 joints."""
    return body(SMPL_TREE, vertices, faces, columns, seed, dtype)


def smplh(
    vertices: int = 6890,
    faces: int = 13776,
    columns: int = 16,
    seed: int = 0,
    dtype=np.float64,
    hands: bool = True,
) -> Arrays:
    """SMPL-H: 52 joints; the AMASS file is the one without hand components (`hands=False`)."""
    arrays = body(SMPLH_TREE, vertices, faces, columns, seed, dtype)
    return arrays | (_hands(("l", "r"), seed, dtype) if hands else {})


def smplx(vertices: int = 10475, faces: int = 20908, columns: int = 400, seed: int = 0, dtype=np.float64) -> Arrays:
    """SMPL-X: 55 joints; version 1.1 has 400 shape columns, version 1.0 has 20."""
    arrays = body(SMPLX_TREE, vertices, faces, columns, seed, dtype)
    random = np.random.default_rng(seed + 1)
    texture = vertices + vertices // 10
    arrays |= _hands(("l", "r"), seed, dtype)
    arrays |= {
        "lmk_faces_idx": random.integers(0, faces, 51),  # [51]
        "lmk_bary_coords": random.dirichlet(np.ones(3), 51),  # [51, 3]
        "dynamic_lmk_faces_idx": random.integers(0, faces, (CONTOUR_ROWS, 17)),  # [79, 17]
        "dynamic_lmk_bary_coords": random.dirichlet(np.ones(3), (CONTOUR_ROWS, 17)),  # [79, 17, 3]
        "vt": random.random((texture, 2)),  # [T, 2]
        "ft": random.integers(0, texture, (faces, 3)),  # [F, 3]
        "joint2num": np.array({"Pelvis": 0}, dtype=object),
        "part2num": np.array({"Global": 0}, dtype=object),
    }
    return arrays


def smplx_with_limbs(seed: int = 0, dtype=np.float64) -> Arrays:
    """SMPL-X whose vertices lie around the joints that move them, as on a person: for programs that rely on it."""
    arrays = smplx(columns=20, seed=seed, dtype=dtype)
    random = np.random.default_rng(seed + 4)
    joints, vertices = len(SMPLX_TREE), len(arrays["v_template"])
    places, steps = np.zeros((joints, 3)), np.zeros((joints, joints), int)  # steps along the tree
    for joint, parent in enumerate(SMPLX_TREE[1:], 1):
        way = random.standard_normal(3)
        places[joint] = places[parent] + (0.04 if joint >= len(BODY) else 0.2) * way / np.linalg.norm(way)
        steps[joint, :joint] = steps[:joint, joint] = steps[parent, :joint] + 1
    part = np.arange(vertices) % joints
    size = np.where(np.arange(joints) < len(BODY), 0.07, 0.015)[part, None]
    template = places[part] + size * random.standard_normal((vertices, 3))
    distance = np.linalg.norm(template[:, None] - places, axis=2) + np.where(steps[part] > 2, 10, 0)  # [V, J]
    weights = np.exp(-np.square(distance / (2 * size)))
    weights[weights < np.sort(weights)[:, -4, None]] = 0
    regressor = (part == np.arange(joints)[:, None]) / np.bincount(part)[:, None]
    return arrays | {
        "v_template": template.astype(dtype),
        "weights": (weights / weights.sum(1, keepdims=True)).astype(dtype),
        "J_regressor": regressor.astype(dtype),
    }


def mano(vertices: int = 778, faces: int = 1538, columns: int = 10, seed: int = 0, dtype=np.float64) -> Arrays:
    """MANO: 16 joints, one hand."""
    return body(MANO_TREE, vertices, faces, columns, seed, dtype) | _hands(("",), seed, dtype)


def flame(vertices: int = 5023, faces: int = 9976, columns: int = 400, seed: int = 0, dtype=np.float64) -> Arrays:
    """FLAME: 5 joints. Its landmarks are in side files: see `flame_landmarks`."""
    return body(FLAME_TREE, vertices, faces, columns, seed, dtype)


def flame_landmarks(faces: int = 9976, seed: int = 0) -> tuple[Arrays, Arrays]:
    """The content of `flame_static_embedding.pkl` and `flame_dynamic_embedding.npy`."""
    random = np.random.default_rng(seed + 2)
    static = {
        "lmk_face_idx": random.integers(0, faces, 51).astype(np.uint32),  # [51]
        "lmk_b_coords": random.dirichlet(np.ones(3), 51),  # [51, 3]
    }
    dynamic = {
        "lmk_face_idx": random.integers(0, faces, (CONTOUR_ROWS, 17)),  # [79, 17]
        "lmk_b_coords": random.dirichlet(np.ones(3), (CONTOUR_ROWS, 17)),  # [79, 17, 3]
    }
    return static, dynamic


def generic(
    vertices: int = 300,
    joints: int = 7,
    columns: int = 4,
    influences: int = 6,
    seed: int = 0,
    dtype=np.float64,
    posedirs: bool = False,
) -> Arrays:
    """Any other rig: joints have shape directions of their own, and nothing corrects for the pose."""
    random = np.random.default_rng(seed)
    tree = [ROOT, *(int(random.integers(0, joint)) for joint in range(1, joints))]
    arrays = body(tree, vertices, 2 * vertices, columns, seed, dtype, influences)
    del arrays["J_regressor"]
    if not posedirs:
        del arrays["posedirs"]
    arrays["J_template"] = random.standard_normal((joints, 3)).astype(dtype)  # [J, 3]
    arrays["J_shapedirs"] = (0.01 * random.standard_normal((joints, 3, columns))).astype(dtype)  # [J, 3, C]
    return arrays


def body(
    tree: list[int], vertices: int, faces: int, columns: int, seed: int, dtype=np.float64, influences: int = 4
) -> Arrays:
    """What every family has: template, blend shapes, joints, skinning weights, faces."""
    random = np.random.default_rng(seed)
    joints = len(tree)
    template = random.standard_normal((vertices, 3)) * [0.3, 0.9, 0.2]  # [V, 3]
    return {
        "v_template": template.astype(dtype),  # [V, 3]
        "shapedirs": _waves(random, template, columns, 0.03, dtype),  # [V, 3, C]
        "posedirs": _waves(random, template, 9 * (joints - 1), 0.005, dtype),  # [V, 3, 9(J-1)]
        "J_regressor": _sparse_rows(random, joints, vertices, min(8, vertices), dtype),  # [J, V]
        "weights": _sparse_rows(random, vertices, joints, min(influences, joints), dtype),  # [V, J]
        "kintree_table": np.array([tree, range(joints)], dtype=np.int64),  # [2, J]
        "f": random.integers(0, vertices, (faces, 3)).astype(np.uint32),  # [F, 3]
    }


def _waves(random: np.random.Generator, template: np.ndarray, columns: int, size: float, dtype) -> np.ndarray:
    """Displacements [V, 3, columns] that vary slowly over the body, each a wave of random direction."""
    frequencies = random.standard_normal((3, columns)) * 2
    phases = random.uniform(0, 2 * np.pi, columns)
    wave = np.sin(template @ frequencies + phases)  # [V, columns]
    direction = random.standard_normal((3, columns)) * size / (1 + np.arange(columns))
    return (wave[:, None, :] * direction).astype(dtype)


def _sparse_rows(random: np.random.Generator, rows: int, columns: int, entries: int, dtype) -> np.ndarray:
    """A matrix [rows, columns] with `entries` positive numbers in every row, which add up to 1."""
    matrix = np.zeros((rows, columns), dtype)
    places = np.argpartition(random.random((rows, columns)), entries - 1, axis=1)[:, :entries]
    values = random.dirichlet(np.ones(entries), rows)
    np.put_along_axis(matrix, places, values.astype(dtype), axis=1)
    return matrix


def _hands(sides: tuple[str, ...], seed: int, dtype) -> Arrays:
    random = np.random.default_rng(seed + 3)
    arrays = {}
    for side in sides:
        arrays[f"hands_components{side}"] = random.standard_normal((HAND_POSE, HAND_POSE)).astype(dtype)
        arrays[f"hands_mean{side}"] = (0.1 * random.standard_normal(HAND_POSE)).astype(dtype)
        arrays[f"hands_coeffs{side}"] = random.standard_normal((100, HAND_POSE)).astype(dtype)
    return arrays


def save_npz(path: str | Path, arrays: Mapping[str, np.ndarray], compressed: bool = False) -> Path:
    """Writes the arrays as numpy does, under the exact name given."""
    path = Path(path)
    with path.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return path


def save_pkl(path: str | Path, arrays: Mapping[str, object], protocol: int = 2) -> Path:
    """Writes the arrays as a pickled dict."""
    path = Path(path)
    with path.open("wb") as file:
        pickle.dump(dict(arrays), file, protocol=protocol)
    return path


def chumpy_modules() -> tuple[types.ModuleType, types.ModuleType, types.ModuleType]:
    """Stand-ins for `chumpy`, `chumpy.ch` and `chumpy.reordering`, to put in `sys.modules` while pickling.

    `Ch(array)` and `Select(a, idxs, preferred_shape)` pickle to what the real classes pickle to.
    """

    class Ch:
        def __init__(self, x: object) -> None:
            self.x = x
            self._dirty_vars = {"x"}
            self._itr = None

        def __getstate__(self) -> dict[str, object]:
            return dict(self.__dict__)

    class Select(Ch):
        def __init__(self, a: object, idxs: object, preferred_shape: object = None) -> None:
            self.a = a
            self.idxs = idxs
            if preferred_shape is not None:
                self.preferred_shape = preferred_shape
            self._dirty_vars = {"a", "idxs"}
            self._itr = None

    package, ch, reordering = (types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering"))
    for module, cls in ((ch, Ch), (reordering, Select)):
        cls.__module__ = module.__name__
        cls.__qualname__ = cls.__name__
        setattr(module, cls.__name__, cls)
    package.ch, package.reordering = ch, reordering
    return package, ch, reordering
