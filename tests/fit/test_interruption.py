"""A fit that is killed goes on where it was; the command does the same, also in several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import avatorch
from avatorch import cli, export, fit
from avatorch.fit import checkpoint

SCRIPT = """
import os, signal, sys, torch, avatorch
from avatorch import fit
torch.manual_seed(1)
body = avatorch.open_body().subset(range(0, 13718, 100))
target = body(pose=0.2 * torch.randn(2, 312)).vertices
problem = fit.Problem(body, [fit.Vertices(target, sigma=0.01), fit.Values("pose")], frames=2, shared=["betas"])
solver = fit.LevenbergMarquardt() if sys.argv[2] == "lm" else fit.FirstOrder()
die = int(sys.argv[3])
count = 0
def watch(x):  # before this step is kept
    global count
    count += 1
    if count == die:
        os.kill(os.getpid(), signal.SIGKILL)
schedule = [fit.Stage(("root", "transl"), 3), fit.Stage(("betas", "pose", "transl"), 6)]
found = fit.solve(problem, solver=solver, schedule=schedule, checkpoint=sys.argv[1], watch=watch)
print(found.steps, len(found.history), found.history[-1])
"""


@pytest.mark.parametrize("solver", ["lm", "adam"])
def test_killed_and_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, solver: str
) -> None:
    def run_here(name: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / name), solver, "0"])
        exec(SCRIPT, {})
        return capsys.readouterr().out.split()

    killed = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "part", solver, "6"], check=False)
    assert killed.returncode == -signal.SIGKILL
    steps, history, loss = run_here("whole")
    steps_after, history_after, loss_after = run_here("part")
    assert int(steps_after) == int(steps) - 5 and history_after == history  # one step was lost
    assert float(loss_after) == pytest.approx(float(loss), rel=1e-3, abs=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part", "whole"]


def test_bad_checkpoints(tmp_path: Path) -> None:
    body = avatorch.open_body().subset([])
    problem = fit.Problem(body, [fit.Joints(body().joints)], frames=1, unknowns=["transl"])
    file = tmp_path / "fit"
    fit.solve(problem, checkpoint=file)
    good = file.read_bytes()
    other = fit.Problem(body, [fit.Joints(body().joints + 1)], frames=1, unknowns=["transl"])
    with pytest.raises(ValueError, match="this checkpoint is of another fit"):
        fit.solve(other, checkpoint=file)
    header = int.from_bytes(good[:8], "little")
    bad = [b"", b"x" * 40, good[:20], good[: 8 + header + 3], (1 << 60).to_bytes(8, "little") + good[8:]]
    bad += [good.replace(b'"F32"', b'"F99"'), good.replace(b'"shape": [1, 3]', b'"shape": [9, 3]')]
    for content in bad:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"this is no checkpoint of a fit|another fit"):
            fit.solve(problem, checkpoint=file)
    tensors, notes = checkpoint.unpacked(good)
    assert notes["stage"] == "0" and tensors["x"].shape == (1, 3)


def write_targets(folder: Path, count: int) -> list[Path]:
    body = avatorch.open_body().subset([])
    paths = []
    for index in range(count):
        joints = body(transl=torch.tensor([[0.1 * index, 0.0, 0.0]]).expand(2, -1)).joints
        paths.append(folder / f"person{index}.npz")
        np.savez(paths[-1], joints=joints.numpy(), joint_names=np.array(body.joint_names), frame_rate=25.0)
    return paths


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write_targets(tmp_path, 1)
    arguments = ["fit", str(paths[0]), "--out", str(tmp_path / "out"), "--mesh", "glb", "--steps", "2", "3", "4"]
    assert cli.main(arguments) == 0
    with np.load(tmp_path / "out" / "person0.npz") as found:
        assert found["pose"].shape == (2, 312) and found["frame_rate"] == 25 and found["joint_names"][0] == "root"
        moved = torch.from_numpy(found["transl"])
    assert moved.abs().max() < 0.02
    assert (tmp_path / "out" / "person0.glb").read_bytes().startswith(b"glTF")
    capsys.readouterr()
    assert cli.main(arguments) == 0 and "person0.npz is there" in capsys.readouterr().out

    body = avatorch.open_body()
    export.save_ply(tmp_path / "scan.ply", body().vertices[0, ::40], torch.zeros(0, 3, dtype=torch.long))
    export.save_obj(tmp_path / "mesh.obj", body().vertices[0], body.faces)
    for name in ("scan.ply", "mesh.obj"):
        assert cli.main(["fit", str(tmp_path / name), "--out", str(tmp_path / "out"), "--steps", "1", "1", "1"]) == 0
    assert (tmp_path / "out" / "mesh.npz").exists() and not list((tmp_path / "out").glob("*.unfinished"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"PK", "not a zip file"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nend_header\n", "expected x, y and z"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
         b"end_header\n1 2 3\n", "has 3 numbers"),
        ("a.obj", b"v 1 2\n", "fewer than three"),
        ("a.txt", b"hello", "neither an .npz or .smpl archive nor a BVH file"),
    ],
)  # fmt: skip
def test_bad_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert cli.main(["fit", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert message in said and name in said and said.count("\n") == 1


def test_two_processes(tmp_path: Path) -> None:
    paths = write_targets(tmp_path, 3)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "avatorch.cli",
        "fit", *map(str, paths), "--out", str(tmp_path / "out"), "--steps", "3", "3", "6", "--device", "cpu",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while killed.poll() is None and not list((tmp_path / "out").glob("*.unfinished")):
        with suppress(subprocess.TimeoutExpired):
            killed.wait(0.02)
    workers = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    os.kill(int(workers[0]), signal.SIGKILL)  # in the middle of its first sequence; torchrun ends the others
    assert killed.wait() != 0
    assert len(list((tmp_path / "out").glob("*.npz"))) < 3
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 sequences in" in done.stdout and "[0] " in done.stdout and "[1] " in done.stdout
    assert len(list((tmp_path / "out").glob("*.npz"))) == 3
