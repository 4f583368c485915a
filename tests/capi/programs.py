"""Programs that the tests run, and what they say when they fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def run(*command: object, **options: object) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make(target: str, **variables: object) -> str:
    """Installs or removes the C library."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    return run("make", "-f", "src/capi/install.mk", target, *settings, cwd=ROOT)
