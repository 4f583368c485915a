"""avatorch.Body: files of every family become a module that can be called, moved and copied."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import avatorch
from avatorch import reference
from model import synthetic

FAMILIES = {
    "smpl": lambda: synthetic.smpl(vertices=60, faces=40),
    "smplh": lambda: synthetic.smplh(vertices=60, faces=40),
    "smplx": lambda: synthetic.smplx(vertices=60, faces=40),
    "mano": lambda: synthetic.mano(vertices=60, faces=40),
    "flame": lambda: synthetic.flame(vertices=60, faces=40),
}


def equals_the_reference(body: avatorch.Body) -> None:
    shape = torch.randn(3, body.shapedirs.shape[2], dtype=body.v_template.dtype)
    pose = 0.4 * torch.randn(3, 3 * body.num_joints, dtype=body.v_template.dtype)
    transl = torch.randn(1, 3, dtype=body.v_template.dtype)
    found = body(shape[:, : body.num_betas], shape[:, body.num_betas :], pose, transl)
    wanted = reference.forward(
        shape, pose, transl, body.v_template, body.shapedirs, body.posedirs, body.parents, body.lbs_weights,
        J_regressor=body.J_regressor, J_template=body.J_template, J_shapedirs=body.J_shapedirs,
    )  # fmt: skip
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("suffix", ["npz", "pkl", "safetensors"])
def test_every_family_and_format(family: str, suffix: str, tmp_path: Path) -> None:
    arrays = FAMILIES[family]()
    source = tmp_path / f"{family.upper()}_NEUTRAL.{'pkl' if suffix == 'pkl' else 'npz'}"
    (synthetic.save_pkl if suffix == "pkl" else synthetic.save_npz)(source, arrays)
    if suffix == "safetensors":
        converted = tmp_path / "converted.safetensors"
        subprocess.run([sys.executable, "-m", "avatorch.cli", "convert", source, converted], check=True)
        source = converted
    body = avatorch.Body.load(source, dtype=torch.double)
    assert body.family == family
    equals_the_reference(body)


def test_numbers_that_the_dtype_cannot_hold_are_refused(tmp_path: Path) -> None:
    arrays = synthetic.smpl(vertices=60, faces=40)
    arrays["v_template"][3, 1] = 1e300
    path = synthetic.save_npz(tmp_path / "body.npz", arrays)
    with pytest.raises(ValueError, match=r"v_template holds numbers beyond torch.float32; the largest is 1e\+300"):
        avatorch.Body.load(path)
    assert avatorch.Body.load(path, dtype=torch.double).v_template[3, 1] == 1e300


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_a_dtype_that_is_no_real_number_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"dtype is {dtype}, expected torch.float32 or another"):
        avatorch.open_body(dtype)


def test_a_path_of_bytes_and_a_root_with_a_parent(tmp_path: Path) -> None:
    arrays = synthetic.smpl(vertices=60, faces=40)
    path = synthetic.save_npz(tmp_path / "body.npz", arrays)
    equals_the_reference(avatorch.Body.load(os.fsencode(path), dtype=torch.double))
    arrays["kintree_table"][0, 0] = 5
    with pytest.warns(UserWarning, match="'kintree_table' gives joint 0 the parent 5; it is taken as the root"):
        avatorch.Body.load(synthetic.save_npz(tmp_path / "other.npz", arrays))


def test_another_copy_of_the_library_is_refused(tmp_path: Path) -> None:
    copied = tmp_path / "copied.so"
    shutil.copy(avatorch.library_path(), copied)
    script = "import torch; torch.ops.load_library({!r}); import avatorch"
    for path, sentence in ((copied, "another copy of avatorch's library"), (avatorch.library_path(), None)):
        done = subprocess.run([sys.executable, "-c", script.format(str(path))], capture_output=True, text=True)
        assert done.returncode == (1 if sentence else 0), done.stderr
        assert (sentence or "") in done.stderr and "Traceback" in (done.stderr or "Traceback")


def test_info_survives_a_folder_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATORCH_CACHE_DIR", "/tmp/" + "long" * 100)
    assert "not usable: File name too long" in avatorch.info()["kernel cache"]


def test_info_says_that_a_file_is_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AVATORCH_CACHE_DIR", str(tmp_path / "file"))
    assert "not writable" in avatorch.info()["kernel cache"]


def test_the_open_body() -> None:
    body = avatorch.open_body(torch.double)
    assert (len(body.v_template), body.num_joints, body.num_betas, body.num_expressions) == (13718, 104, 20, 52)
    assert body.expression_names[17] == "jawOpen" and len(body.joint_names) == 104
    equals_the_reference(body)


def test_a_body_is_a_module() -> None:
    body = avatorch.open_body()
    wanted = body(betas=torch.ones(1, 2))
    for other in (copy.deepcopy(body), avatorch.open_body().double().float()):
        other.load_state_dict(body.state_dict())
        torch.testing.assert_close(other(betas=torch.ones(1, 2)).vertices, wanted.vertices)
    body.shapedirs[..., 0] *= 2
    assert not torch.equal(body(betas=torch.ones(1, 2)).vertices, wanted.vertices)


def test_wrong_arguments_are_sentences(tmp_path: Path) -> None:
    body = avatorch.open_body()
    with pytest.raises(ValueError, match=r"betas has shape \[1, 21\], expected \[\.\.\., at most 20\]"):
        body(betas=torch.ones(1, 21))
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        avatorch.Body.load(tmp_path / "missing.npz")
    np.savez(tmp_path / "poor.npz", v_template=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"poor\.npz"):
        avatorch.Body.load(tmp_path / "poor.npz")


@pytest.mark.parametrize("operator", ["rodrigues", "forward"])
def test_20_000_errors_leave_nothing_behind(operator: str) -> None:
    body = avatorch.open_body()
    wrong = {
        "rodrigues": lambda: torch.ops.smplx.rodrigues(body.faces),
        "forward": lambda: body(pose=body.v_template),
    }[operator]

    def fail(times: int) -> int:
        for _ in range(times):
            with pytest.raises((TypeError, ValueError), match="expected"):
                wrong()
        return int(Path("/proc/self/statm").read_text().split()[1])

    before = fail(2_000)
    assert fail(20_000) - before < 500, "pages of resident memory"


def test_licensed_files() -> None:
    folder = Path(os.environ.get("SMPLX_TEST_MODELS_PATH", "data/smplx_models"))
    if not folder.is_dir():
        pytest.skip(f"{folder} holds no licensed model files; set SMPLX_TEST_MODELS_PATH to test with yours")
    files = [path for path in folder.rglob("*") if path.suffix in (".npz", ".pkl")]
    assert files, f"{folder} is empty"
    for file in files:
        equals_the_reference(avatorch.Body.load(file, dtype=torch.double))
