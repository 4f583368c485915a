"""The command line: `avatorch info`, `convert`, `fit`, `mel`, `face`, `serve`, `kernels`."""

from __future__ import annotations

import argparse
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from avatorch import _native, audio, kernels, picture, setup
from avatorch.face import command as face
from avatorch.serve import command as serve
from avatorch.whole_file import write_whole


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="avatorch", description="Digital humans inside PyTorch.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, GPU, cache, and what is missing").set_defaults(run=_info)
    converting = commands.add_parser("convert", help="write a model file as .safetensors, which opens at once")
    converting.add_argument("input", help="a model file, or a folder of them")
    converting.add_argument("output", help="the .safetensors file to write")
    converting.add_argument("--family", help="which model of a folder: smpl, smplh, smplx, mano, flame")
    converting.add_argument("--gender", help="which model of a folder: neutral, female, male")
    converting.set_defaults(run=_convert)
    fitting = commands.add_parser("fit", help="find body parameters from points, meshes, pictures or motions")
    if "fit" in (sys.argv[1:] if arguments is None else arguments)[:1]:  # needs numpy, and a second to import
        from avatorch.fit import command

        command.add_arguments(fitting)
    listening = commands.add_parser("mel", help="turn a WAV file into a log-mel spectrogram, .npy and .png")
    listening.add_argument("input", help="a WAV file; channels are averaged, and the dialect's rate is made")
    listening.add_argument("--dialect", default="whisper", help="whose convention; default: whisper")
    listening.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="options, such as n_mels=128")
    listening.add_argument(
        "--out", help="the .npy file to write, float32 [n_mels, frames], or [frames, n_mels] for kaldi"
    )
    listening.add_argument("--png", help="the picture to write")
    listening.set_defaults(run=_mel)
    face.add(commands)
    serve.add(commands)
    compiling = commands.add_parser(
        "kernels", help="compile every CUDA kernel, without a GPU; report registers, spills"
    )
    compiling.add_argument(
        "--arch", nargs="+", default=kernels.ARCHITECTURES, help="such as sm_90a; default: all supported"
    )
    compiling.set_defaults(run=lambda given: kernels.report(given.arch))
    given = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        print(f"avatorch {given.command}: {error}", file=sys.stderr)
        return 1


def _info(_: argparse.Namespace) -> int:
    for name, value in setup.info().items():
        print(f"{name:12} {value}")
    return 0


def _convert(given: argparse.Namespace) -> int:
    for sentence in _native.convert_model(given.input, given.output, given.family, given.gender):
        print(f"note: {sentence}")
    print(f"wrote {given.output}")
    return 0


def _mel(given: argparse.Namespace) -> int:
    mel = audio.MelSpectrogram(" ".join([given.dialect, *given.set]))
    sound = audio.load_wav(given.input, mel.sample_rate)
    values = mel(sound.samples.mean(0))
    if given.out:
        _write_npy(Path(given.out), values)
    if given.png:
        picture.write_png(given.png, values.T if mel.frame_major else values, mel.hop_length / mel.sample_rate)
    print(f"{sound.samples.shape[1] / mel.sample_rate:.2f} s -> {list(values.shape)}")
    for path in filter(None, (given.out, given.png)):
        print(f"wrote {path}")
    return 0


def _write_npy(path: Path, values: Tensor) -> None:
    shape = ", ".join(str(size) for size in values.shape)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    numbers = values.contiguous().flatten().tolist()
    write_whole(
        path,
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(header))
        + header.encode()
        + struct.pack(f"<{len(numbers)}f", *numbers),
    )


if __name__ == "__main__":
    sys.exit(main())
