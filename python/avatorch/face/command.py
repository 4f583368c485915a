"""`avatorch face`: a bundle's content, and a WAV file to a talking head."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from avatorch import audio


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command and its options."""
    talking = commands.add_parser("face", help="turn speech into a talking face, or `face info BUNDLE`")
    talking.add_argument("input", help="a WAV file; channels are averaged. Or the word info")
    talking.add_argument("bundle", nargs="?", help="after info: the folder or model.json to describe")
    talking.add_argument("--model", help="the folder or model.json of an Audio2Face model")
    talking.add_argument("--identity", default="0", help="whose face, by name or number; default: the first")
    talking.add_argument("--emotion", nargs="+", default=[], metavar="NAME=VALUE", help="such as joy=0.7")
    talking.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings, such as skin_strength=1.2"
    )
    talking.add_argument("--device", default="cpu", help="cpu or cuda; default: cpu")
    talking.add_argument("--engine", default="auto", help="auto, torch or onnx (ONNX Runtime); default: auto")
    talking.add_argument("--precision", default="float32", help="of torch: float32, tf32, float16, bfloat16 or float64")
    talking.add_argument("--out", help="the weights to write: .csv (Live Link Face), .json (Audio2Face) or .npz")
    talking.add_argument("--glb", help="the open body, talking, to write as glTF")
    talking.add_argument("--png", help="a sheet of pictures of it to write")
    talking.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Describes a bundle, or drives a face."""
    if given.input == "info":
        if not given.bundle:
            raise ValueError("info needs the folder of a model: avatorch face info BUNDLE")
        return describe(given.bundle)
    if given.bundle:
        raise ValueError(f"{given.bundle!r} is one word too many: avatorch face speech.wav --model BUNDLE")
    if not given.model:
        raise ValueError("--model is missing: avatorch face speech.wav --model BUNDLE")
    from avatorch.face.model import Audio2Face
    from avatorch.face.write import save, writer_of

    # Before minutes of computing, not after.
    if given.out:
        writer_of(given.out)
    for path in filter(None, (given.out, given.glb, given.png)):
        if not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{path}: there is no folder {Path(path).parent} to write it to")
    identity = int(given.identity) if given.identity.isdigit() else given.identity
    computed = {"engine": given.engine, "precision": given.precision}
    face = Audio2Face(given.model, identity, given.device, settings=pairs(given.set), **computed)
    sound = audio.load_wav(given.input)
    begin = time.perf_counter()
    result = face(sound.samples.mean(0), sound.sample_rate, pairs(given.emotion) or None, progress=Bar())
    seconds = sound.samples.shape[1] / sound.sample_rate
    print(
        f"{seconds:.2f} s of {face.identity} -> {len(result.weights)} frames of {len(result.names)} weights, "
        f"{result.fps:g} a second, in {time.perf_counter() - begin:.1f} s"
    )
    if face.why:
        print(f"the network was computed by ONNX Runtime: {face.why}")
    if given.out:
        save(given.out, result.weights, result.names, result.fps)
    if given.glb or given.png:
        _draw(given, result.weights, result.names, result.fps)
    for path in filter(None, (given.out, given.glb, given.png)):
        print(f"wrote {path}")
    return 0


def describe(path: str) -> int:
    """Prints what a bundle holds."""
    from avatorch.face.bundle import read_bundle

    bundle = read_bundle(path)
    info = bundle.info
    rows = {
        "kind": f"{info.kind}, {info.actor} {info.version}",
        "network": f"{bundle.network.name}, {bundle.network.stat().st_size} bytes",
        "emotions": ", ".join(info.emotions),
        "audio": f"{info.sample_rate} Hz, windows of {info.window} samples",
        "vertices": f"skin {info.skin_vertices}, tongue {info.tongue_vertices}",
        "frame": f"{info.values} values: skin {info.skin_values}, tongue {info.tongue_values}, jaw {info.jaw_values}, "
        f"eyes {info.eye_values}",
    }
    if info.kind == "diffusion":
        rows["frames"] = f"{info.left_frames} + {info.center_frames} + {info.right_frames} of an inference"
        rows["steps"] = f"{info.steps}, GRU of {info.gru_layers} layers of {info.gru_width}"
    for identity in bundle.identities:
        parts = []
        for name, rig in (("skin", identity.skin), ("tongue", identity.tongue)):
            seen = len(rig.neutral) if rig.mask is None else len(rig.mask)
            parts.append(f"{name} {sum(rig.poses.active)} of {len(rig.names)} poses active, {seen} vertices solved for")
        rows[identity.name] = "; ".join(parts)
    for name, value in rows.items():
        print(f"{name:12} {value}")
    return 0


class Bar:
    """Progress on a terminal, and nowhere else."""

    def __call__(self, done: int, total: int) -> None:
        """So many frames of so many."""
        if sys.stderr.isatty() and total:
            filled = 40 * done // total
            end = "\n" if done == total else ""
            print(f"\r[{'#' * filled}{' ' * (40 - filled)}] {done}/{total}", end=end, file=sys.stderr, flush=True)


def _draw(given: argparse.Namespace, weights: torch.Tensor, names: tuple[str, ...], fps: float) -> None:
    from avatorch.body import open_body
    from avatorch.face.drive import save_sheet, save_talking_glb

    body = open_body()
    if given.glb:
        save_talking_glb(given.glb, body, weights, names, fps)
    if given.png:
        save_sheet(given.png, body, weights, names)


def pairs(words: list[str]) -> dict[str, float]:
    """Of NAME=VALUE."""
    values = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            values[name] = float(value)
        except ValueError:
            raise ValueError(f"{word!r} is no setting, expected NAME=VALUE with a number") from None
    return values
