"""Bundles as they are, and broken in every way that comes to mind: each refused in a sentence."""

from __future__ import annotations

import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from avatorch.face import Executor, FaceError, read_bundle
from face import bundles


@pytest.fixture(scope="module", params=["regression", "diffusion"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = bundles.make_regression if request.param == "regression" else bundles.make_diffusion
    return make(tmp_path_factory.mktemp(request.param))


def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    changed = change(content)
    path.write_text(json.dumps(content if changed is None else changed))


def rewrite(path: Path, **changes: Any) -> None:
    arrays = dict(np.load(path))
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def test_a_regression_bundle(tmp_path: Path) -> None:
    bundle = read_bundle(bundles.make_regression(tmp_path) / "model.json")
    info, (identity,) = bundle.info, bundle.identities
    data, database = np.load(tmp_path / "model_data.npz"), np.load(tmp_path / "implicit_emo_db.npz")
    assert (info.kind, info.window, info.target_offset, info.sample_rate, info.values) == (
        "regression",
        1200,
        600,
        2000,
        25,
    )
    assert bundle.network == tmp_path / "network.onnx" and identity.name == "Ada"
    np.testing.assert_array_equal(identity.neutral_skin, data["shapes_mean_skin"])
    np.testing.assert_array_equal(identity.skin_basis, data["shapes_matrix_skin"])
    np.testing.assert_array_equal(identity.implicit_emotion, database["emo_db"][4 + 2])
    assert identity.parameters.right_eye_rot_y_offset == -2.0 and identity.parameters.blink_offset == 0.0
    rig, stored = identity.skin, np.load(tmp_path / "bs_skin.npz")
    assert rig.names[17] == "jawOpen" and sum(rig.poses.active) == 43
    np.testing.assert_array_equal(rig.deltas[17], stored["jawOpen"])
    np.testing.assert_array_equal(rig.mask, stored["frontalMask"])
    assert identity.tongue.mask is None and rig.parameters.template_bb_size == 30.0


def test_a_diffusion_bundle(tmp_path: Path) -> None:
    bundle = read_bundle(bundles.make_diffusion(tmp_path))
    assert bundle.info.identities == ("Ada", "Bo") and bundle.info.frames == 12
    assert bundle.identity("bo") is bundle.identity(1) is bundle.identities[1]
    for which in ("Cy", 2, -1):
        with pytest.raises(FaceError, match="identity is"):
            bundle.identity(which)


def test_any_way_of_writing_arrays(tmp_path: Path) -> None:
    """Deflated, in Fortran order, big-endian, with wide text."""
    folder = bundles.make_regression(tmp_path)
    before = read_bundle(folder).identities[0]
    arrays = dict(np.load(folder / "bs_skin.npz"))
    arrays["poseNames"] = arrays["poseNames"].astype("U")
    arrays["neutral"] = np.asfortranarray(arrays["neutral"].astype(">f4"))
    np.savez_compressed(folder / "bs_skin.npz", **arrays)
    after = read_bundle(folder).identities[0]
    assert after.skin.names == before.skin.names
    assert torch.equal(after.skin.neutral, before.skin.neutral) and torch.equal(after.skin.deltas, before.skin.deltas)


def every_key(content: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(content, dict):
        return [way + (key,) for key in content] + [k for key in content for k in every_key(content[key], way + (key,))]
    if isinstance(content, list):
        return [k for i, item in enumerate(content) if isinstance(item, dict) for k in every_key(item, way + (i,))]
    return []


def within(part: str, **values: Any) -> Callable[[Any], None]:
    """Changes values of one part of a file."""
    return lambda content: content[part].update(values)


UNREAD = {"output", "identities", "padding_right", "templateBBSize"}


def test_every_key_is_needed_and_has_a_type(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    checked = 0
    for path in sorted(folder.glob("*.json")):
        text = path.read_text()
        for *way, key in every_key(json.loads(text)):
            if key in UNREAD and not (key == "identities" and "diffusion" in text):
                continue
            wrong_values = [None, {"a": 1}] if checked % 3 else ["missing", None, {"a": 1}, "../x", [1, [2]], 1e400]
            for wrong in wrong_values:
                content = parent = json.loads(text)
                for step in way:
                    parent = parent[step]
                if wrong == "missing":
                    del parent[key]
                elif (isinstance(parent[key], dict) and isinstance(wrong, dict)) or (
                    isinstance(parent[key], str) and key in ("actor", "version", "source_shot") and wrong == "../x"
                ):
                    continue
                else:
                    parent[key] = wrong
                path.write_text(json.dumps(content))
                with pytest.raises(FaceError) as caught:
                    read_bundle(folder)
                assert caught.value.code.startswith("e") and str(caught.value).endswith(f"({caught.value.code})")
                checked += 1
        path.write_text(text)
    assert checked > 100
    read_bundle(folder)


@pytest.mark.parametrize(
    ("file", "change", "sentence", "code"),
    [
        ("network_info.json", within("id", type="other"), "id.type is 'other'", "eReadFileFailed"),
        ("network_info.json", within("params", default_emotion=[0.0]), "has 1 values, expected 4", "eMismatch"),
        ("network_info.json", within("params", num_verts_skin=38), r"shape \[37, 3\], expected \[38, 3\]", "eMismatch"),
        ("network_info.json", within("params", num_shapes_skin=7), r"expected \[7, 37, 3\]", "eMismatch"),
        ("network_info.json", within("params", result_jaw_size=13), "is 13, expected a multiple of 3", "eMismatch"),
        ("network_info.json", within("params", num_verts_skin=10**12), "is 1000000000000", "eOutOfRange"),
        ("network_info.json", within("audio_params", samplerate=0), "samplerate is 0", "eOutOfRange"),
        ("model_config.json", within("config", skin_strength=2.5), "is 2.5, expected 0 to 2", "eOutOfRange"),
        ("model_config.json", within("config", skin_strength=float("nan")), "holds NaN", "eNotANumber"),
        ("model_config.json", within("config", source_shot="none"), "source_shot is 'none'", "eOutOfBounds"),
        ("model_config.json", within("config", source_frame=3), "the shot's 3 frames", "eOutOfBounds"),
        ("bs_skin_config.json", within("blendshape_params", numPoses=51), "numPoses is 51, expected 52", "eMismatch"),
        ("bs_skin_config.json", within("blendshape_params", bsSolveActivePoses=[1] * 53), "has 53 values", "eMismatch"),
        ("bs_skin_config.json", within("blendshape_params", templateBBSize=0.5), "0.5, expected 1 to", "eOutOfRange"),
        ("model.json", lambda c: c.update(modelDataPath="../data.npz"), "the name of a file in", "eReadFileFailed"),
        ("model.json", lambda c: c.update(modelDataPath="/etc/passwd"), "the name of a file in", "eReadFileFailed"),
        ("model.json", lambda c: c.update(modelDataPath="..\\x"), "the name of a file in", "eReadFileFailed"),
        ("model.json", lambda c: c.update(networkPath="."), "the name of a file in", "eReadFileFailed"),
        ("model.json", lambda c: c.update(networkPath="x" * 5000), "the name of a file in", "eReadFileFailed"),
        ("model.json", lambda c: c.update(modelDataPath="none.npz"), "there is no such file", "eOpenFileFailed"),
        ("model.json", lambda c: [], "holds an array, expected an object", "eReadFileFailed"),
    ],
)  # fmt: skip
def test_what_does_not_fit(tmp_path: Path, file: str, change: Any, sentence: str, code: str) -> None:
    folder = bundles.make_regression(tmp_path)
    edit(folder / file, change)
    with pytest.raises(FaceError, match=sentence) as caught:
        read_bundle(folder)
    assert caught.value.code == code


def test_identities_are_as_many_as_their_files(tmp_path: Path) -> None:
    for key in ("modelConfigPaths", "modelDataPaths", "blendshapePaths"):
        folder = bundles.make_diffusion(tmp_path)
        edit(folder / "model.json", lambda content, key=key: content[key].pop() and None)
        with pytest.raises(FaceError, match=f"{key} has 1 entries, expected 2 as identities") as caught:
            read_bundle(folder)
        assert caught.value.code == "eMismatch"


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        ("model_data.npz", {"neutral_jaw": None}, "key 'neutral_jaw' is missing"),
        ("model_data.npz", {"neutral_jaw": np.zeros((4, 3))}, "neutral_jaw is float64, expected float32"),
        ("model_data.npz", {"neutral_jaw": np.zeros((5, 3), "f4")}, r"has shape \[5, 3\], expected \[4, 3\]"),
        ("model_data.npz", {"neutral_jaw": np.full((4, 3), np.inf, "f4")}, "values that are not finite"),
        ("model_data.npz", {"saccade_rot_matrix": np.zeros((0, 2), "f4")}, r"shape \[0, 2\], expected \[\*, 2\]"),
        ("bs_skin.npz", {"frontalMask": np.array([37], "i4")}, "frontalMask holds 37, expected 0 to 36"),
        ("bs_skin.npz", {"frontalMask": np.array([-1], "i4")}, "frontalMask holds -1"),
        ("bs_skin.npz", {"frontalMask": np.array([1.0], "f4")}, "frontalMask is float32, expected int32"),
        ("bs_skin.npz", {"jawOpen": None}, "key 'jawOpen' is missing"),
        ("bs_skin.npz", {"poseNames": np.array([b"jawOpen"] * 53)}, "begins with"),
        ("bs_skin.npz", {"poseNames": np.array([b"neutral"] + [b"jawOpen"] * 52)}, "names a pose twice"),
        ("bs_skin.npz", {"poseNames": np.array([b"neutral", b"\xff"] * 26 + [b"x"])}, "not UTF-8"),
        ("bs_skin.npz", {"poseNames": np.zeros(53, "f4")}, "is float32 of shape"),
        ("bs_skin.npz", {"poseNames": np.array(["neutral", []], object)}, "is python objects"),
        ("implicit_emo_db.npz", {"emo_spec_start": np.array([0, 99], "i4")}, "emo_spec_start of 'p_joy' is 99"),
        ("implicit_emo_db.npz", {"emo_spec_start": np.array([0, -9], "i4")}, "emo_spec_start of 'p_joy' is -9"),
        ("implicit_emo_db.npz", {"emo_spec_size": np.array([1], "i4")}, r"has shape \[1\], expected \[2\]"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, file: str, changes: dict[str, Any], sentence: str) -> None:
    folder = bundles.make_regression(tmp_path)
    rewrite(folder / file, **changes)
    with pytest.raises(FaceError, match=sentence):
        read_bundle(folder)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    folder = bundles.make_regression(tmp_path)
    np.savez_compressed(folder / "model_data.npz", neutral_jaw=np.zeros((30_000_000,), "f4"))
    assert (folder / "model_data.npz").stat().st_size < 200_000
    with pytest.raises(FaceError, match="declares 120000000 bytes of arrays, expected at most"):
        read_bundle(folder)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    folder = bundles.make_regression(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    for name in ("pipe", "sub"):
        edit(folder / "model.json", lambda content, name=name: content.update(modelDataPath=name))
        with pytest.raises(FaceError, match="is no regular file"):
            read_bundle(folder)
    for text in (
        "",
        "{",
        '{"a": }',
        "[" * 100_000,
        '{"networkInfoPath": "\ud800"}'.encode("utf-8", "surrogatepass"),
        "1" * 9999,
    ):
        (folder / "model.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(FaceError):
            read_bundle(folder)
    with pytest.raises(FaceError, match="no such file") as caught:
        read_bundle(tmp_path / "nowhere")
    assert caught.value.code == "eOpenFileFailed"


def test_links_are_followed_as_download_caches_have_them(tmp_path: Path) -> None:
    folder = bundles.make_regression(tmp_path / "snapshot")
    (tmp_path / "blobs").mkdir()
    for path in list(folder.iterdir()):
        shutil.move(path, tmp_path / "blobs" / path.name)
        path.symlink_to(tmp_path / "blobs" / path.name)
    read_bundle(folder)


def test_damaged_bytes_never_break_the_reader(whole: Path, tmp_path: Path) -> None:
    """Cut and changed files give a bundle or a FaceError, nothing else."""
    folder = copied(whole, tmp_path)
    random.seed(9)
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".npz")]
    refused = 0
    for _ in range(250):
        path = random.choice(files)
        good = path.read_bytes()
        bad = bytearray(good[: random.randrange(len(good))] if random.random() < 0.3 else good)
        for _ in range(random.choice((1, 1, 2, 30))):
            if bad:
                bad[random.randrange(len(bad))] = random.randrange(256)
        path.write_bytes(bad)
        try:
            read_bundle(folder)
        except FaceError:
            refused += 1
        path.write_bytes(good)
    assert refused > 50


def test_networks_that_do_not_fit(whole: Path, tmp_path: Path) -> None:
    folder = copied(whole, tmp_path)
    good = (folder / "network.onnx").read_bytes()
    for bad in (b"", b"junk", good[:-100], good[: len(good) // 2]):
        (folder / "network.onnx").write_bytes(bad)
        with pytest.raises(FaceError, match=r"network\.onnx: is no network that ONNX Runtime opens"):
            Executor(read_bundle(folder))
    model = onnx.load_from_string(good)
    name = model.graph.input[0].name
    (folder / "network.onnx").write_bytes(good.replace(name.encode(), b"\xff" * len(name)))
    with pytest.raises(FaceError):
        Executor(read_bundle(folder))
    for node in model.graph.node:
        node.input[:] = ["renamed" if value == name else value for value in node.input]
    model.graph.input[0].name = "renamed"
    onnx.save(model, folder / "network.onnx")
    with pytest.raises(FaceError, match=f"network.onnx: has no input '{name}', it has renamed") as caught:
        Executor(read_bundle(folder))
    assert caught.value.code == "eMismatch"
    other = bundles.Sizes(window=1201)
    make = bundles.make_regression if name == "input" else bundles.make_diffusion
    shutil.copy(make(tmp_path / "other", other) / "network.onnx", folder / "network.onnx")
    with pytest.raises(FaceError, match=r"is tensor\(float\) of shape .*1201.*expected float32 .*1200"):
        Executor(read_bundle(folder))
    (folder / "network.onnx").unlink()
    with pytest.raises(FaceError, match="has neither") as caught:
        read_bundle(folder)
    assert caught.value.code == "eOpenFileFailed"


def test_weights_outside_of_the_network_file_stay_in_the_folder(tmp_path: Path) -> None:
    """A network whose weights are said to be in another folder is refused by ONNX Runtime."""
    folder = bundles.make_regression(tmp_path / "bundle")
    model = onnx.load(folder / "network.onnx")
    onnx.save(model, folder / "network.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    Executor(read_bundle(folder))
    shutil.move(folder / "weights.bin", tmp_path / "weights.bin")
    model = onnx.load(folder / "network.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    (folder / "network.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FaceError, match="is no network that ONNX Runtime opens"):
        Executor(read_bundle(folder))


def test_archives_with_two_members_of_a_name(tmp_path: Path) -> None:
    folder = bundles.make_regression(tmp_path)
    with zipfile.ZipFile(folder / "bs_tongue.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("neutral.npy", b"junk")
    with pytest.raises(FaceError):
        read_bundle(folder)
