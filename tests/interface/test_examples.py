"""The examples run, small."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import avatorch
from model import synthetic

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_visualization(tmp_path: Path) -> None:
    run("demo_visualization.py", "--out", tmp_path, "--height", 40)
    for name in ("poses.png", "expressions.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    file = synthetic.save_npz(tmp_path / "SMPLX_NEUTRAL.npz", synthetic.smplx(vertices=50, faces=60))
    assert "poses.png" in run("demo_visualization.py", file, "--out", tmp_path, "--height", 20)


def test_viewer() -> None:
    pytest.importorskip("viser")
    specification = importlib.util.spec_from_file_location("demo_visualization", EXAMPLES / "demo_visualization.py")
    assert specification and specification.loader
    demo = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(demo)
    server = demo.view(avatorch.open_body(), serve=False)
    server.stop()


def test_benchmark(tmp_path: Path) -> None:
    printed = run("benchmark_performance.py", "--batches", 1, "--out", tmp_path)
    numbers = json.loads((tmp_path / "smplx_forward_benchmark.json").read_text())
    errors = {row["program"]: row["error_um"] for row in numbers["rows"]}
    assert {"avatorch", "expert's PyTorch", "eager PyTorch", "smplfitter"} <= set(errors)
    assert all(error < 3 for error in errors.values())
    assert numbers["joints_a_second"] > 0 and "| 1 | avatorch |" in printed
    assert (tmp_path / "smplx_forward_benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_gaussians(tmp_path: Path) -> None:
    printed = run("skin_gaussians.py", "--points", 200, "--out", tmp_path)
    assert "200 points, 104 joints" in printed and (tmp_path / "gaussians_posed.ply").stat().st_size > 2400


def test_gradcheck(tmp_path: Path) -> None:
    assert run("gradcheck_your_rig.py", "--vertices", 3).count("right") == 8
    file = synthetic.save_npz(tmp_path / "MANO_LEFT.npz", synthetic.mano(vertices=30, faces=20))
    assert run("gradcheck_your_rig.py", file, "--vertices", 3).count("right") == 6
