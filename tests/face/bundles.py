"""Makes bundles of any size: the files of Audio2Face models with networks of our own, small enough to reason about.

The geometry is a cloud of points; pose deltas are random but for jawOpen and the lids, which move points down. The
networks are random, or, where `talking`, open the jaw with the loudness of the middle of the window, and close the lids
when it is quiet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from avatorch import open_body

EMOTIONS = ["amazement", "anger", "cheekiness", "disgust", "fear", "grief", "joy", "outofbreath", "pain", "sadness"]
SETTINGS = {
    "input_strength": 1.0, "upper_face_smoothing": 0.004, "lower_face_smoothing": 0.006, "upper_face_strength": 1.0,
    "lower_face_strength": 1.1, "face_mask_level": 0.55, "face_mask_softness": 0.05, "skin_strength": 1.0,
    "blink_strength": 1.0, "eyelid_open_offset": 0.03, "lip_open_offset": -0.02, "tongue_strength": 1.3,
    "tongue_height_offset": 0.1, "tongue_depth_offset": -0.1, "lower_teeth_strength": 1.2,
    "lower_teeth_height_offset": 0.05, "lower_teeth_depth_offset": -0.02, "eyeballs_strength": 1.0,
    "saccade_strength": 0.7, "right_eye_rot_x_offset": 0.5, "right_eye_rot_y_offset": -2.0,
    "left_eye_rot_x_offset": 0.25, "left_eye_rot_y_offset": 2.0, "eye_saccade_seed": 7,
}  # fmt: skip


@dataclass
class Sizes:
    """Of a bundle; none is that of a released model."""

    vertices: int = 37
    tongue_vertices: int = 11
    poses: int = 52
    shapes: int = 6  # regression
    tongue_shapes: int = 3
    implicit: int = 5
    emotions: int = 4
    jaw_points: int = 4
    window: int = 1200
    rate: int = 2000
    left: int = 2
    center: int = 6
    right: int = 4
    steps: int = 2
    layers: int = 1
    width: int = 3
    identities: tuple[str, ...] = ("Ada", "Bo")
    saccades: int = 50
    masked: int = 0  # vertices that the solver of the skin looks at; 0: two thirds
    tongue_poses: tuple[str, ...] = ("TipUp", "TipDown", "Left", "Right", "Up", "Down", "Wide")


# As published, but for the networks themselves.
REGRESSION = Sizes(
    vertices=61520, tongue_vertices=5602, shapes=272, tongue_shapes=10, implicit=16, emotions=10, jaw_points=5,
    window=8320, rate=16000, saccades=5000, masked=10085,
    tongue_poses=(
        "TipUp", "TipDown", "TipLeft", "TipRight", "RollUp", "RollDown", "RollLeft", "RollRight", "Up", "Down", "Left",
        "Right", "In", "Stretch", "Wide", "Narrow",
    ),
)  # fmt: skip
DIFFUSION = replace(
    REGRESSION, vertices=24002, window=16000, left=15, center=30, right=15, steps=2, layers=2, width=256,
    identities=("Claire", "James", "Mark"), masked=4262,
)  # fmt: skip


def make_regression(folder: Path, sizes: Sizes | None = None, *, talking: bool = False, seed: int = 0) -> Path:
    """Writes a regression bundle."""
    s, rng = sizes or Sizes(), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    data = _data(s, rng, "shapes_mean_", _rigs(folder, "", s, rng))
    data["shapes_matrix_skin"] = _floats(rng, s.shapes, s.vertices, 3) * 0.3
    data["shapes_matrix_tongue"] = _floats(rng, s.tongue_shapes, s.tongue_vertices, 3) * 0.3
    if talking:
        skin = np.load(folder / "bs_skin.npz")
        data["shapes_matrix_skin"][0] = skin["jawOpen"]
        data["shapes_matrix_skin"][1] = skin["eyeBlinkLeft"] + skin["eyeBlinkRight"]
    np.savez(folder / "model_data.npz", **data)
    names = np.array([b"g_neutral", b"p_joy"])
    starts, counts = np.array([0, 4], np.int32), np.array([4, 3], np.int32)
    np.savez(
        folder / "implicit_emo_db.npz", emo_db=_floats(rng, 7, s.implicit), emo_spec_names=names,
        emo_spec_start=starts, emo_spec_size=counts,
    )  # fmt: skip
    _json(folder, "model_config.json", {"config": SETTINGS | {"source_shot": "p_joy", "source_frame": 2}})
    _json(folder, "network_info.json", {
        "id": {"type": "regression", "output": "geometry", "actor": "ada", "version": "1"},
        "params": {
            "implicit_emotion_len": s.implicit, "explicit_emotions": EMOTIONS[: s.emotions],
            "default_emotion": [0.0] * s.emotions, "num_shapes_skin": s.shapes, "num_verts_skin": s.vertices,
            "num_shapes_tongue": s.tongue_shapes, "num_verts_tongue": s.tongue_vertices,
            "result_jaw_size": 3 * s.jaw_points, "result_eyes_size": 4,
        },
        "audio_params": {"buffer_len": s.window, "buffer_ofs": s.window // 2, "samplerate": s.rate},
    })  # fmt: skip
    _json(folder, "model.json", {
        "networkInfoPath": "network_info.json", "networkPath": "network.trt", "modelConfigPath": "model_config.json",
        "modelDataPath": "model_data.npz", "emotionDatabasePath": "implicit_emo_db.npz",
        "blendshapePaths": _blendshape_paths(""),
    })  # fmt: skip
    values = s.shapes + s.tongue_shapes + 3 * s.jaw_points + 4
    make = _talking_network if talking else _regression_network
    onnx.save(make(s, rng, values), folder / "network.onnx")
    return folder


def make_diffusion(folder: Path, sizes: Sizes | None = None, seed: int = 0, *, network: bool = True) -> Path:
    """Writes a diffusion bundle, or all of it but its network."""
    s, rng = sizes or Sizes(), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in s.identities:
        rigs = _rigs(folder, f"_{name}", s, rng)
        np.savez(folder / f"model_data_{name}.npz", **_data(s, rng, "neutral_", rigs))
        _json(folder, f"model_config_{name}.json", {"config": SETTINGS | {"input_strength": 3.0}})
    _json(folder, "network_info.json", {
        "id": {"type": "diffusion", "output": "geometry", "actor": "multi", "version": "1"},
        "params": {
            "emotions": EMOTIONS[: s.emotions], "default_emotion": [0.0] * s.emotions,
            "identities": list(s.identities), "skin_size": 3 * s.vertices, "tongue_size": 3 * s.tongue_vertices,
            "jaw_size": 3 * s.jaw_points, "eyes_size": 4, "num_diffusion_steps": s.steps, "num_gru_layers": s.layers,
            "gru_latent_dim": s.width, "num_frames_left_truncate": s.left, "num_frames_center": s.center,
            "num_frames_right_truncate": s.right,
        },
        "audio_params": {
            "buffer_len": s.window, "padding_left": s.window, "padding_right": s.window, "samplerate": s.rate,
        },
    })  # fmt: skip
    _json(folder, "model.json", {
        "networkInfoPath": "network_info.json", "networkPath": "network.trt",
        "modelConfigPaths": [f"model_config_{name}.json" for name in s.identities],
        "modelDataPaths": [f"model_data_{name}.npz" for name in s.identities],
        "blendshapePaths": [_blendshape_paths(f"_{name}") for name in s.identities],
    })  # fmt: skip
    if network:
        onnx.save(_diffusion_network(s, rng), folder / "network.onnx")
    return folder


def make_emotion(folder: Path, rate: int = 2000) -> Path:
    """Writes an Audio2Emotion bundle: of four classes, by the loudness of a window of any length."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = ["angry", "happy", "neutral", "sad"]
    _json(folder, "network_info.json", {"audio_params": {"samplerate": rate}, "emotions": classes})
    _json(folder, "model_config.json", {"post_processing_config": {
        "output_emotion_length": 5, "emotion_contrast": 1.5, "max_emotions": 2, "live_blend_coef": 0.7,
        "enable_preferred_emotion": True, "preferred_emotion_strength": 0.25, "transition_smoothing": 0.1,
        "fixed_dt": 0.033, "emotion_strength": 0.6, "preferred_emotion": [0.0, 0.0, 0.5, 0.0, 0.0],
        "emotion_correspondence": {"angry": 1, "happy": 3, "neutral": -1, "sad": 4},
    }})  # fmt: skip
    names = {
        "networkInfoPath": "network_info.json",
        "networkPath": "network.trt",
        "modelConfigPath": "model_config.json",
    }
    _json(folder, "model.json", names)
    nodes = [
        helper.make_node("Abs", ["input_values"], ["loud"]),
        helper.make_node("ReduceMean", ["loud"], ["level"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["level", "score"], ["output"]),
    ]
    weights = {"score": np.array([[4.0, 3.0, -2.0, -9.0]], np.float32)}
    onnx.save(_model(nodes, weights, {"input_values": ["B", "N"]}, {"output": ["B", 4]}), folder / "network.onnx")
    return folder


def _rigs(folder: Path, suffix: str, s: Sizes, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Writes both rigs; their neutrals by part."""
    names = list(open_body().expression_names)[: s.poses]
    neutrals = {}
    tongue_names = [f"tongue{name}" for name in s.tongue_poses]
    for part, poses, vertices in (("skin", names, s.vertices), ("tongue", tongue_names, s.tongue_vertices)):
        neutral = neutrals[part] = _floats(rng, vertices, 3) * np.float32(5)
        deltas = {name: _floats(rng, vertices, 3) * np.float32(0.4) for name in poses}
        arrays = {"poseNames": np.array([b"neutral", *(name.encode() for name in poses)]), "neutral": neutral, **deltas}
        if part == "skin":
            arrays["frontalMask"] = np.sort(rng.permutation(vertices)[: s.masked or vertices * 2 // 3]).astype(np.int32)
        np.savez(folder / f"bs_{part}{suffix}.npz", rig_version=np.array(b"1"), **arrays)
        sides = [name.replace("Left", "").replace("Right", "") for name in poses]
        symmetry = [sides.index(side) if sides.count(side) == 2 and part == "skin" else -1 for side in sides]
        cancel = [-1] * len(poses)
        if part == "tongue":
            cancel[:2] = [0, 0]
        active = [int("Look" not in name and name != "tongueOut") for name in poses]
        _json(folder, f"bs_{part}_config{suffix}.json", {"blendshape_params": {
            "strengthL1regularization": 0.5, "strengthL2regularization": 0.3, "strengthTemporalSmoothing": 0.2,
            "strengthSymmetry": 1.5, "numPoses": len(poses), "bsSolveActivePoses": active,
            "bsSolveCancelPoses": cancel, "bsSolveSymmetryPoses": symmetry,
            "bsWeightMultipliers": [1.0 + 0.5 * (part == "tongue")] * len(poses),
            "bsWeightOffsets": [0.1 * (part == "tongue")] * len(poses), "templateBBSize": 30.0,
        }})  # fmt: skip
    return neutrals


def _data(s: Sizes, rng: np.random.Generator, prefix: str, neutrals: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        # Not quite the rig's, as in the released models.
        f"{prefix}skin": neutrals["skin"] + np.float32(0.05) * _floats(rng, s.vertices, 3),
        f"{prefix}tongue": neutrals["tongue"] + np.float32(0.05) * _floats(rng, s.tongue_vertices, 3),
        "lip_open_pose_delta": _floats(rng, s.vertices, 3),
        "eye_close_pose_delta": _floats(rng, s.vertices, 3),
        "neutral_jaw": _floats(rng, s.jaw_points, 3) * np.float32(3),
        "saccade_rot_matrix": _floats(rng, s.saccades, 2),
    }


def _regression_network(s: Sizes, rng: np.random.Generator, values: int) -> Any:
    width = s.implicit + s.emotions
    nodes = [
        helper.make_node("MatMul", ["input", "hear"], ["heard"]),
        helper.make_node("Concat", ["heard", "emotion"], ["both"], axis=2),
        helper.make_node("Tanh", ["both"], ["bent"]),
        helper.make_node("MatMul", ["bent", "speak"], ["result"]),
    ]
    weights = {"hear": _floats(rng, s.window, 8), "speak": _floats(rng, 8 + width, values)}
    return _regression_model(s, nodes, weights, values)


def _talking_network(s: Sizes, rng: np.random.Generator, values: int) -> Any:
    """Shape 0 is the loudness, shape 1 what is missing to it; the emotion has no effect."""
    middle = np.zeros((s.window, 1), np.float32)
    middle[s.window // 2 - s.rate // 60 : s.window // 2 + s.rate // 60] = 30 / s.rate
    moves = np.zeros((1, values), np.float32)
    moves[0, :2] = 4.0, -4.0
    rest = np.zeros((1, 1, values), np.float32)
    rest[..., 1] = 1.0
    nodes = [
        helper.make_node("Abs", ["input"], ["loud"]),
        helper.make_node("MatMul", ["loud", "middle"], ["level"]),
        helper.make_node("MatMul", ["level", "moves"], ["moved"]),
        helper.make_node("ReduceSum", ["emotion", "last"], ["felt"], keepdims=1),
        helper.make_node("Mul", ["felt", "nothing"], ["unfelt"]),
        helper.make_node("Add", ["moved", "rest"], ["placed"]),
        helper.make_node("Add", ["placed", "unfelt"], ["result"]),
    ]
    weights = {"middle": middle, "moves": moves, "rest": rest, "nothing": np.zeros(1, np.float32)}
    return _regression_model(s, nodes, weights | {"last": np.array([2], np.int64)}, values)


def _regression_model(s: Sizes, nodes: list[Any], weights: dict[str, np.ndarray], values: int) -> Any:
    inputs = {"input": ["B", 1, s.window], "emotion": ["B", 1, s.implicit + s.emotions]}
    return _model(nodes, weights, inputs, {"result": ["B", 1, values]})


def _diffusion_network(s: Sizes, rng: np.random.Generator) -> Any:
    """Every input has an effect; the state is halved and fed by the window."""
    values = 3 * (s.vertices + s.tongue_vertices + s.jaw_points) + 4
    frames = s.left + s.center + s.right
    nodes = [
        helper.make_node("MatMul", ["window", "hear"], ["heard"]),  # [B, 6 width]
        helper.make_node("MatMul", ["identity", "be"], ["been"]),
        helper.make_node("Add", ["heard", "been"], ["spoken"]),
        helper.make_node("Tanh", ["spoken"], ["bent"]),
        helper.make_node("MatMul", ["bent", "step"], ["stepped"]),  # [B, width]
        helper.make_node("Mul", ["input_latents", "half"], ["halved"]),
        helper.make_node("Add", ["halved", "stepped"], ["output_latents"]),
        helper.make_node("ReduceSum", ["output_latents", "outer"], ["state"], keepdims=0),  # [B, width]
        helper.make_node("MatMul", ["state", "show"], ["shown"]),  # [B, values]
        helper.make_node("Unsqueeze", ["shown", "first"], ["shown1"]),  # [B, 1, values]
        helper.make_node("MatMul", ["emotion", "feel"], ["felt"]),  # [B, center, values]
        helper.make_node("Mul", ["felt", "when"], ["timed"]),
        helper.make_node("Add", ["timed", "shown1"], ["centered"]),
        helper.make_node("Pad", ["centered", "around"], ["padded"]),  # [B, frames, values]
        helper.make_node("ReduceMean", ["noise"], ["noisy"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["noisy", "little"], ["whisper"]),
        helper.make_node("Add", ["padded", "whisper"], ["prediction"]),
    ]
    weights = {
        "hear": _floats(rng, s.window, 6), "be": _floats(rng, len(s.identities), 6), "step": _floats(rng, 6, s.width),
        "show": _floats(rng, s.width, values) * np.float32(0.1),
        "feel": _floats(rng, s.emotions, values) * np.float32(0.3),
        "when": np.linspace(0.5, 1, s.center, dtype=np.float32)[:, None], "half": np.array([0.5], np.float32),
        "outer": np.array([0, 1], np.int64), "first": np.array([1], np.int64), "little": np.array([0.05], np.float32),
        "around": np.array([0, s.left, 0, 0, s.right, 0], np.int64),
    }  # fmt: skip
    latents = [s.steps, s.layers, "B", s.width]
    inputs = {
        "window": ["B", s.window], "identity": ["B", len(s.identities)],
        "emotion": ["B", s.center, s.emotions], "input_latents": latents,
        "noise": ["B", s.steps + 1, frames, values],
    }  # fmt: skip
    return _model(nodes, weights, inputs, {"prediction": ["B", frames, values], "output_latents": latents})


def _model(nodes: list[Any], weights: dict[str, np.ndarray], inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    def described(shapes: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "network", described(inputs), described(outputs), constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def _blendshape_paths(suffix: str) -> dict[str, dict[str, str]]:
    return {
        part: {"config": f"bs_{part}_config{suffix}.json", "data": f"bs_{part}{suffix}.npz"}
        for part in ("skin", "tongue")
    }


def _floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _json(folder: Path, name: str, content: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(content, indent=4))
