"""The command line: `avatorch info`, `avatorch convert`, `avatorch kernels`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from avatorch import _native, kernels, setup


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
    except (OSError, ValueError, RuntimeError) as error:
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


if __name__ == "__main__":
    sys.exit(main())
