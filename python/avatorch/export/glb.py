"""A body as glTF 2.0, binary: mesh, skeleton, skinning weights, shape keys, animation. Blender and browsers open it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatorch.body import Body
from avatorch.export.gltf import Document
from avatorch.pose import Rotations
from avatorch.whole_file import write_whole


@torch.no_grad()
def save_glb(
    path: str | os.PathLike[str],
    body: Body,
    betas: Tensor | Mapping[str, Tensor | float] | None = None,
    expression: Tensor | Mapping[str, Tensor | float] | None = None,
    pose: Tensor | Mapping[str, Tensor] | None = None,
    transl: Tensor | None = None,
    *,
    rotations: Rotations = "axis_angle",
    frame_rate: float = 30.0,
    shape_keys: bool = False,
) -> None:
    """One body, at rest, in a pose, or moving. Arguments are those of a call, with at most one leading dimension, N.

    The shape must be one for all frames. With `shape_keys` every expression is a shape key, and `expression` drives
    them; without, it too must be one for all frames. glTF has no pose correctives: where a model has them, bent joints
    look as they would without.
    """
    if not isinstance(body, Body):
        raise TypeError(f"save_glb: body is of type {type(body).__name__}, expected an avatorch.Body")
    if not 0 < frame_rate < math.inf:
        raise ValueError(f"save_glb: frame_rate is {frame_rate}, expected frames a second, more than 0")
    still = body(betas=betas, expression=None if shape_keys else expression)
    if still.vertices.shape[:-2].numel() != 1:
        raise ValueError(
            f"save_glb: betas and expression are for {still.vertices.shape[:-2].numel()} bodies, expected one; "
            "shape_keys=True lets the expression move"
        )
    moving = body.subset([])(pose=pose, transl=transl, rotations=rotations)  # a long motion of the mesh is too large
    if moving.joints.ndim > 3:
        raise ValueError(f"save_glb: the motion has the dimensions {list(moving.joints.shape[:-2])}, expected one, N")
    if 0 in (*moving.joints.shape[:-1], *still.vertices.shape[:-1]):
        raise ValueError(
            f"save_glb: there are {still.vertices.shape[-2]} vertices, {body.num_joints} joints and "
            f"{moving.joints.shape[:-2].numel()} frames, expected some of each"
        )
    vertices = _numpy(still.v_shaped.reshape(-1, 3))  # [V, 3]
    joints = _numpy(still.J_shaped.reshape(-1, 3))  # [J, 3]
    quaternions = _numpy(torch.ops.smplx.matrix_to_quaternion(moving.rot_mats.reshape(-1, body.num_joints, 3, 3)))
    places = np.zeros((1, 3), np.float32) if transl is None else _numpy(transl.reshape(-1, 3))  # [N, 3]
    weights = _weights(body, expression) if shape_keys and expression is not None else None
    if not all(np.isfinite(x).all() for x in (vertices, joints, quaternions, places, weights) if x is not None):
        raise ValueError("save_glb: the arguments make a body of numbers that are not finite")
    lengths = {"pose": len(quaternions), "transl": len(places)}
    lengths |= {} if weights is None else {"expression": len(weights)}
    frames = max(lengths.values())
    for name, length in lengths.items():
        if length not in (1, frames):
            raise ValueError(f"save_glb: {name} has {length} frames, expected {frames}, as others have, or 1")

    document = Document()
    keys = _shape_keys(body) if shape_keys else {}
    mesh = _mesh(document, body, vertices, keys)
    skeleton = _skeleton(document, body, joints)
    document.add("nodes", {"name": "body", "mesh": mesh, "skin": _skin(document, skeleton, joints)})
    document.scene([node for node, parent in zip(skeleton, body.parents.tolist(), strict=True) if parent < 0])
    document.scene([len(document["nodes"]) - 1])
    if frames == 1:
        _stand(document, body, skeleton, joints, quaternions[0], places[0], weights)
    else:
        _move(document, body, skeleton, joints, quaternions, places, weights, frames, frame_rate)
    write_whole(path, document.binary())


def _mesh(document: Document, body: Body, vertices: np.ndarray, keys: dict[str, np.ndarray]) -> int:
    """The mesh at rest, with its skinning weights and shape keys."""
    attributes = {
        "POSITION": document.accessor(vertices, "VEC3", bounds=True),
        "NORMAL": document.accessor(_normals(vertices, _numpy(body.faces)), "VEC3"),
    }
    for number, (joints, weights) in enumerate(_influences(_numpy(body.lbs_weights))):
        attributes[f"JOINTS_{number}"] = document.accessor(joints, "VEC4")
        attributes[f"WEIGHTS_{number}"] = document.accessor(weights, "VEC4")
    corners = document.accessor(_numpy(body.faces).astype(np.uint32).reshape(-1), "SCALAR")
    primitive: dict[str, Any] = {"attributes": attributes, "indices": corners, "material": 0}
    mesh: dict[str, Any] = {"name": "body", "primitives": [primitive]}
    if keys:
        primitive["targets"] = [{"POSITION": document.accessor(move, "VEC3", bounds=True)} for move in keys.values()]
        mesh["weights"] = [0.0] * len(keys)
        mesh["extras"] = {"targetNames": list(keys)}
    clay = {"baseColorFactor": [0.75, 0.62, 0.55, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.7}
    document.add("materials", {"name": "clay", "pbrMetallicRoughness": clay})
    return document.add("meshes", mesh)


def _influences(weights: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """[V, J] -> joints [V, 4] and weights [V, 4], largest first, as many times as the busiest vertex needs."""
    most = max(1, int((weights != 0).sum(1).max(initial=0)))
    sets = -(-most // 4)
    order = np.argsort(-weights, 1, kind="stable")[:, : 4 * sets]
    chosen = np.take_along_axis(weights, order, 1)
    spare = 4 * sets - chosen.shape[1]  # of a rig with few joints
    order, chosen = np.pad(order, ((0, 0), (0, spare))), np.pad(chosen, ((0, 0), (0, spare)))
    total = chosen.sum(1, keepdims=True)
    chosen = np.divide(chosen, total, out=np.zeros_like(chosen), where=total != 0).astype(np.float32)
    order = np.where(chosen > 0, order, 0).astype(np.uint16)
    return [(order[:, i : i + 4], chosen[:, i : i + 4]) for i in range(0, 4 * sets, 4)]


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [V, 3]; up where a vertex has no face."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    normals = np.zeros_like(vertices)
    np.add.at(normals, faces.ravel(), np.repeat(np.cross(b - a, c - a), 3, axis=0))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    up = np.array([0.0, 1.0, 0.0], np.float32)
    return np.where(length > 1e-20, normals / np.maximum(length, 1e-20), up).astype(np.float32)


def _shape_keys(body: Body) -> dict[str, np.ndarray]:
    """Displacements [V, 3] by the name of each expression."""
    moves = _numpy(body.shapedirs[:, :, body.num_betas :])
    names = body.expression_names or [f"expression{index}" for index in range(body.num_expressions)]
    return {name: np.ascontiguousarray(moves[:, :, index]) for index, name in enumerate(names)}


def _weights(body: Body, expression: Tensor | Mapping[str, Tensor | float]) -> np.ndarray:
    """[N, expressions]"""
    coefficients = body._coefficients("expression", expression, body.expression_names, body.num_expressions)
    if coefficients.ndim > 2 or coefficients.shape[:-1].numel() == 0:
        raise ValueError(
            f"save_glb: expression has shape {list(coefficients.shape)}, expected [N, at most {coefficients.shape[-1]}]"
        )
    return _numpy(coefficients.reshape(-1, body.num_expressions))


def _skeleton(document: Document, body: Body, joints: np.ndarray) -> list[int]:
    """A node for each joint, at rest; returns their indices."""
    parents = body.parents.tolist()
    nodes = []
    for index, parent in enumerate(parents):
        name = body.joint_names[index] if body.joint_names else f"joint{index}"
        offset = joints[index] - (joints[parent] if parent >= 0 else 0)
        nodes.append(document.add("nodes", {"name": name, "translation": offset.tolist()}))
        if parent >= 0:
            document["nodes"][nodes[parent]].setdefault("children", []).append(nodes[index])
    return nodes


def _skin(document: Document, skeleton: list[int], joints: np.ndarray) -> int:
    inverse = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    inverse[:, 3, :3] = -joints  # column-major
    matrices = document.accessor(inverse.reshape(-1, 16), "MAT4")
    return document.add("skins", {"joints": skeleton, "inverseBindMatrices": matrices})


def _stand(
    document: Document,
    body: Body,
    skeleton: list[int],
    joints: np.ndarray,
    quaternions: np.ndarray,  # [J, 4]
    place: np.ndarray,  # [3]
    weights: np.ndarray | None,
) -> None:
    """One pose, in the nodes themselves."""
    for index, parent in enumerate(body.parents.tolist()):
        node = document["nodes"][skeleton[index]]
        node["rotation"] = np.roll(quaternions[index], -1).tolist()  # x, y, z, w
        if parent < 0:
            node["translation"] = (joints[index] + place).tolist()
    if weights is not None:
        document["meshes"][0]["weights"] = weights[0].tolist()


def _move(
    document: Document,
    body: Body,
    skeleton: list[int],
    joints: np.ndarray,
    quaternions: np.ndarray,  # [N or 1, J, 4]
    places: np.ndarray,  # [N or 1, 3]
    weights: np.ndarray | None,  # [N or 1, expressions]
    frames: int,
    frame_rate: float,
) -> None:
    """An animation of every joint, of the roots' places, and of the shape keys."""
    times = document.accessor((np.arange(frames) / float(frame_rate)).astype(np.float32), "SCALAR", bounds=True)
    quaternions = np.broadcast_to(quaternions, (frames, *quaternions.shape[1:]))
    # The nearer of q and -q, so that what is between two frames goes the short way.
    turns = np.where((quaternions[1:] * quaternions[:-1]).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    signs = np.concatenate([np.ones_like(quaternions[:1, :, :1]), np.cumprod(turns, 0)])
    quaternions = np.roll(quaternions * signs, -1, -1).astype(np.float32)  # x, y, z, w
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []

    def animate(node: int, what: str, values: np.ndarray, kind: str) -> None:
        output = document.accessor(np.ascontiguousarray(values), kind)
        samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": what}})

    for index, parent in enumerate(body.parents.tolist()):
        animate(skeleton[index], "rotation", quaternions[:, index], "VEC4")
        if parent < 0:
            moved = np.broadcast_to(joints[index] + places, (frames, 3)).astype(np.float32)
            animate(skeleton[index], "translation", moved, "VEC3")
    if weights is not None:
        mesh_node = len(document["nodes"]) - 1
        animate(mesh_node, "weights", np.broadcast_to(weights, (frames, weights.shape[1])).reshape(-1), "SCALAR")
    document.add("animations", {"name": "motion", "samplers": samplers, "channels": channels})


def _numpy(tensor: Tensor) -> np.ndarray:
    array = tensor.detach().cpu().numpy()
    return array.astype(np.float32) if array.dtype.kind == "f" else array
