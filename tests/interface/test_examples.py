"""The examples run, small."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
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


def test_demo(tmp_path: Path) -> None:
    said = run("demo.py", "--out", tmp_path, "--points", 300, "--frames", 2, "--steps", 2, 3, 3)
    assert "mm before" in said and "times as fast" in said
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "motion.glb").read_bytes().startswith(b"glTF")
    page = tmp_path / "index.html"
    assert "http" not in page.read_text().replace("doctype html", "")
    look_at_page(page)


def look_at_page(page: Path) -> None:
    """What a browser without a screen says of it."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("the page was not looked at: no chromium is installed")
    command = [
        browser, "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--virtual-time-budget=3000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {name: int(value) for name, value in re.findall(r'data-(\w+)="(\d+)"', shown)}
    assert found["painted"] > 5000 and found["error"] == 0
    assert found["steps"] > 2 and found["frames"] == 2


def test_fitting_examples(tmp_path: Path) -> None:
    said = run("fit_scan.py", "--out", tmp_path, "--points", 200, "--steps", 2, 2, 2)
    assert "of the surface" in said and (tmp_path / "scan_fit.obj").exists() and (tmp_path / "scan_fit.npz").exists()
    assert "mm from the truth" in run("fit_keypoints.py", "--frames", 2, "--views", 2, "--steps", 2, 2, 2)


def test_regressor() -> None:
    said = run("train_regressor.py", "--steps", 40, "--batch", 32)
    losses = [float(line.split()[2]) for line in said.splitlines()]
    assert losses[-1] < losses[0]
