"""A model's folder on disk: `model.json` and everything it names, read and checked against each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from torch import Tensor

from avatorch.face.arrays import Arrays
from avatorch.face.errors import FaceError
from avatorch.face.parameters import AnimatorParameters
from avatorch.face.record import Record
from avatorch.face.rig import Rig

MOST_NAME = 255  # bytes
MOST_VALUES = 1 << 24  # of one frame; the largest known model has 184 560


@dataclass(frozen=True)
class NetworkInfo:
    """The network_info.json. What a kind of network does not have is 0."""

    kind: str  # "regression" or "diffusion"
    actor: str
    version: str
    emotions: tuple[str, ...]
    default_emotion: Tensor  # [emotions]
    identities: tuple[str, ...]
    sample_rate: int  # Hz
    window: int  # samples that one inference reads
    skin_values: int  # of one frame of the network's result
    tongue_values: int
    jaw_values: int
    eye_values: int
    # regression
    implicit_emotions: int = 0
    target_offset: int = 0  # samples from a window's start to the moment that it describes
    skin_vertices: int = 0
    tongue_vertices: int = 0
    # diffusion
    steps: int = 0
    gru_layers: int = 0
    gru_width: int = 0
    left_frames: int = 0
    center_frames: int = 0
    right_frames: int = 0
    padding_left: int = 0

    @property
    def values(self) -> int:
        """Of one frame of the network's result."""
        return self.skin_values + self.tongue_values + self.jaw_values + self.eye_values

    @property
    def frames(self) -> int:
        """Of one inference, those that are thrown away included."""
        return self.left_frames + self.center_frames + self.right_frames


@dataclass(frozen=True)
class Identity:
    """One person's face."""

    name: str
    parameters: AnimatorParameters
    input_strength: float
    neutral_skin: Tensor  # [V, 3]
    neutral_tongue: Tensor  # [T, 3]
    neutral_jaw: Tensor  # [points, 3]
    lip_open: Tensor  # [V, 3]
    eye_close: Tensor  # [V, 3]
    saccades: Tensor  # [samples, 2], degrees, 30 a second
    skin_basis: Tensor | None  # [shapes, V, 3], regression
    tongue_basis: Tensor | None  # [shapes, T, 3], regression
    implicit_emotion: Tensor | None  # [implicit], regression
    skin: Rig
    tongue: Rig


@dataclass(frozen=True)
class Bundle:
    """A whole model."""

    folder: Path
    network: Path  # an .onnx
    info: NetworkInfo
    identities: tuple[Identity, ...]

    def identity(self, which: str | int = 0) -> Identity:
        """By name, whatever its case, or by index."""
        names = [identity.name for identity in self.identities]
        if isinstance(which, bool) or not isinstance(which, int | str):
            raise FaceError("eInvalidValue", f"identity is {which!r}, expected a name or a number")
        if isinstance(which, int):
            if not 0 <= which < len(names):
                raise FaceError("eOutOfRange", f"identity is {which}, expected 0 to {len(names) - 1}")
            return self.identities[which]
        for identity in self.identities:
            if identity.name.lower() == which.lower():
                return identity
        raise FaceError("eInvalidValue", f"identity is {which!r}, expected one of {', '.join(names)}")


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Reads a bundle from its folder or its model.json."""
    model_file = Path(path)
    if model_file.is_dir():
        model_file = model_file / "model.json"
    model = Record.read(model_file)
    folder = model_file.parent
    info = _network_info(Record.read(inside(folder, model, "networkInfoPath")))
    if info.kind == "diffusion":
        identities = _diffusion_identities(folder, model, info)
    else:
        identities = (_regression_identity(folder, model, info),)
    return Bundle(folder, find_network(folder, model), info, identities)


def find_network(folder: Path, model: Record) -> Path:
    """The .onnx that stands where `networkPath` says, or beside the engine that it names."""
    named = inside(folder, model, "networkPath")
    for candidate in (named.with_suffix(".onnx"), folder / "network.onnx"):
        if candidate.is_file():
            return candidate
    raise FaceError(
        "eOpenFileFailed", f"{folder}: has neither {named.with_suffix('.onnx').name} nor network.onnx, expected one"
    )


def inside(folder: Path, record: Record, key: str) -> Path:
    """A file of the bundle. Links may lead elsewhere, as those of download caches do; names may not."""
    name = record.text(key)
    ways = (PurePosixPath(name), PureWindowsPath(name))
    escapes = any(way.is_absolute() or way.drive or ".." in way.parts or not way.parts for way in ways)
    if escapes or "\0" in name or len(name.encode(errors="replace")) > MOST_NAME:
        raise record.wrong(key, f"is {name[:200]!r}", "the name of a file in the bundle's folder")
    return folder / name


def _network_info(info: Record) -> NetworkInfo:
    about, params, audio = info.record("id"), info.record("params"), info.record("audio_params")
    kind = about.text("type")
    if kind not in ("regression", "diffusion"):
        raise about.wrong("type", f"is {kind[:200]!r}", "'regression' or 'diffusion'")
    emotion_key = "emotions" if kind == "diffusion" else "explicit_emotions"
    emotions = params.texts(emotion_key)
    default = torch.tensor(params.numbers("default_emotion", len(emotions)), dtype=torch.float32, device="cpu")
    rate = audio.integer("samplerate", 1, 1_000_000)
    window = audio.integer("buffer_len", 1, MOST_VALUES)
    actor, version = about.text("actor"), about.text("version")
    if kind == "regression":
        return NetworkInfo(
            kind, actor, version, tuple(emotions), default, (actor.capitalize(),), rate, window,
            skin_values=params.integer("num_shapes_skin", 1, 65536),
            tongue_values=params.integer("num_shapes_tongue", 1, 65536),
            jaw_values=_jaw(params, "result_jaw_size"),
            eye_values=params.integer("result_eyes_size", 4, 4),
            implicit_emotions=params.integer("implicit_emotion_len", 0, 65536),
            target_offset=audio.integer("buffer_ofs", 0, window),
            skin_vertices=params.integer("num_verts_skin", 1, MOST_VALUES // 3),
            tongue_vertices=params.integer("num_verts_tongue", 1, MOST_VALUES // 3),
        )  # fmt: skip
    identities = params.texts("identities")
    if not identities:
        raise params.wrong("identities", "is empty", "at least one name")
    left, center, right = (
        params.integer(f"num_frames_{part}", least, 4096)
        for part, least in (("left_truncate", 0), ("center", 1), ("right_truncate", 0))
    )
    skin, tongue = params.integer("skin_size", 3, MOST_VALUES), params.integer("tongue_size", 3, MOST_VALUES)
    for key, size in (("skin_size", skin), ("tongue_size", tongue)):
        if size % 3:
            raise params.wrong(key, f"is {size}", "a multiple of 3", "eMismatch")
    return NetworkInfo(
        kind, actor, version, tuple(emotions), default, tuple(identities), rate, window,
        skin_values=skin, tongue_values=tongue, jaw_values=_jaw(params, "jaw_size"),
        eye_values=params.integer("eyes_size", 4, 4),
        skin_vertices=skin // 3, tongue_vertices=tongue // 3,
        steps=params.integer("num_diffusion_steps", 1, 1000),
        gru_layers=params.integer("num_gru_layers", 1, 64), gru_width=params.integer("gru_latent_dim", 1, 65536),
        left_frames=left, center_frames=center, right_frames=right,
        padding_left=audio.integer("padding_left", 0, MOST_VALUES),
    )  # fmt: skip


def _jaw(params: Record, key: str) -> int:
    size = params.integer(key, 3, 3 * 1024)
    if size % 3:
        raise params.wrong(key, f"is {size}", "a multiple of 3", "eMismatch")
    return size


def _diffusion_identities(folder: Path, model: Record, info: NetworkInfo) -> tuple[Identity, ...]:
    configs, datas, shapes = (
        model.texts("modelConfigPaths"),
        model.texts("modelDataPaths"),
        model.records("blendshapePaths"),
    )
    for key, found in (("modelConfigPaths", configs), ("modelDataPaths", datas), ("blendshapePaths", shapes)):
        if len(found) != len(info.identities):
            raise model.wrong(key, f"has {len(found)} entries", f"{len(info.identities)} as identities", "eMismatch")
    read = []
    for index, (name, config, data, shape) in enumerate(zip(info.identities, configs, datas, shapes, strict=True)):
        way = Record(model.file, {"modelConfigPaths": config, "modelDataPaths": data})
        settings = Record.read(inside(folder, way, "modelConfigPaths")).record("config")
        arrays = Arrays(inside(folder, way, "modelDataPaths"))
        read.append(_identity(folder, index, name, info, settings, arrays, shape))
    return tuple(read)


def _regression_identity(folder: Path, model: Record, info: NetworkInfo) -> Identity:
    settings = Record.read(inside(folder, model, "modelConfigPath")).record("config")
    arrays = Arrays(inside(folder, model, "modelDataPath"))
    emotions = Arrays(inside(folder, model, "emotionDatabasePath"))
    implicit = _implicit_emotion(emotions, settings, info.implicit_emotions)
    shape = model.record("blendshapePaths")
    return _identity(folder, 0, info.identities[0], info, settings, arrays, shape, implicit)


def _identity(
    folder: Path,
    index: int,
    name: str,
    info: NetworkInfo,
    settings: Record,
    arrays: Arrays,
    shape: Record,
    implicit: Tensor | None = None,
) -> Identity:
    regression = info.kind == "regression"
    skin, tongue = (info.skin_vertices, 3), (info.tongue_vertices, 3)
    prefix = "shapes_mean_" if regression else "neutral_"
    rigs = {}
    for part, vertices in (("skin", info.skin_vertices), ("tongue", info.tongue_vertices)):
        paths = shape.record(part)
        rigs[part] = Rig.read(
            Record.read(inside(folder, paths, "config")).record("blendshape_params"),
            Arrays(inside(folder, paths, "data")),
            vertices,
            masked=part == "skin",
        )
    return Identity(
        name=name,
        parameters=AnimatorParameters.read(settings),
        input_strength=settings.number("input_strength", -1e6, 1e6),
        neutral_skin=arrays.floats(f"{prefix}skin", skin),
        neutral_tongue=arrays.floats(f"{prefix}tongue", tongue),
        neutral_jaw=arrays.floats("neutral_jaw", (info.jaw_values // 3, 3)),
        lip_open=arrays.floats("lip_open_pose_delta", skin),
        eye_close=arrays.floats("eye_close_pose_delta", skin),
        saccades=arrays.floats("saccade_rot_matrix", (None, 2)),
        skin_basis=arrays.floats("shapes_matrix_skin", (info.skin_values, *skin)) if regression else None,
        tongue_basis=arrays.floats("shapes_matrix_tongue", (info.tongue_values, *tongue)) if regression else None,
        implicit_emotion=implicit,
        skin=rigs["skin"],
        tongue=rigs["tongue"],
    )


def _implicit_emotion(emotions: Arrays, settings: Record, size: int) -> Tensor:
    """The row of the database that the configuration names by shot and frame. [implicit]"""
    rows = emotions.floats("emo_db", (None, size))
    names = emotions.texts("emo_spec_names")
    starts, sizes = (emotions.integers(f"emo_spec_{key}", (len(names),)) for key in ("start", "size"))
    shot, frame = settings.text("source_shot"), settings.integer("source_frame")
    if shot not in names:
        raise settings.wrong("source_shot", f"is {shot[:200]!r}", f"a shot of {emotions.file}", "eOutOfBounds")
    start, count = (int(values[names.index(shot)]) for values in (starts, sizes))
    if frame >= count:
        raise settings.wrong("source_frame", f"is {frame}", f"less than the shot's {count} frames", "eOutOfBounds")
    if not 0 <= start + frame < len(rows):
        raise FaceError(
            "eOutOfBounds", f"{emotions.file}: emo_spec_start of {shot!r} is {start}, expected rows within {len(rows)}"
        )
    return rows[start + frame]
