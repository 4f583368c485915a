"""The command line: `avatorch info`, `avatorch kernels`."""

from __future__ import annotations

import argparse
import sys

from avatorch import kernels, setup


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="avatorch", description="Digital humans inside PyTorch.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, GPU, cache, and what is missing")
    compiling = commands.add_parser("kernels", help="compile every CUDA kernel, without a GPU, and report registers and spills")
    compiling.add_argument("--arch", nargs="+", default=kernels.ARCHITECTURES, help="such as sm_90a; default: all supported")
    given = parser.parse_args(arguments)
    if given.command == "info":
        for name, value in setup.info().items():
            print(f"{name:12} {value}")
        return 0
    return kernels.report(given.arch)


if __name__ == "__main__":
    sys.exit(main())
