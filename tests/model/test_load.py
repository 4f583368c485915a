"""Files that numpy, scipy and pickle wrote are read as what was put into them, in every family and format."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from avatorch import _native
from model import synthetic
from model.synthetic import Arrays

SMALL = {"vertices": 40, "faces": 30}
MODELS: dict[str, Callable[..., Arrays]] = {
    "smpl": lambda **kw: synthetic.smpl(**SMALL, columns=300, **kw),
    "smplh": lambda **kw: synthetic.smplh(**SMALL, **kw),
    "smplh without hands": lambda **kw: synthetic.smplh(**SMALL, hands=False, **kw),
    "smplx 1.1": lambda **kw: synthetic.smplx(**SMALL, **kw),
    "smplx 1.0": lambda **kw: synthetic.smplx(**SMALL, columns=20, **kw),
    "mano": lambda **kw: synthetic.mano(**SMALL, **kw),
    "flame": lambda **kw: synthetic.flame(**SMALL, **kw),
    "generic": lambda **kw: synthetic.generic(**kw),
    "generic with posedirs": lambda **kw: synthetic.generic(joints=3, posedirs=True, **kw),
}
FORMATS: dict[str, Callable[[Path, Arrays], Path]] = {
    "npz": lambda folder, arrays: synthetic.save_npz(folder / "body.npz", arrays),
    "npz, deflated": lambda folder, arrays: synthetic.save_npz(folder / "body.npz", arrays, compressed=True),
    "pickle": lambda folder, arrays: synthetic.save_pkl(folder / "body.pkl", arrays),
}
NAMES_IN_FILES = {"faces": "f", "parents": "kintree_table", "lbs_weights": "weights"}
UNUSED = ("hands_coeffs", "joint2num", "part2num")


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a model file, as numpy sees them."""
    content = _native.load_model(path)
    return {name: np.from_dlpack(array) for name, array in content.items() if isinstance(array, _native.Array)}


def expected(arrays: Arrays) -> Arrays:
    """What the operator needs of a file's arrays."""
    arrays = {key: array for key, array in arrays.items() if not key.startswith(UNUSED)}
    for name, key in NAMES_IN_FILES.items():
        arrays[name] = arrays.pop(key)
    arrays["parents"] = arrays["parents"][0].astype(np.int64)
    arrays["parents"][0] = -1
    if "posedirs" in arrays:
        vertices, axes, features = arrays["posedirs"].shape
        arrays["posedirs"] = arrays["posedirs"].reshape(vertices * axes, features).T
    return arrays


def assert_same(loaded: Arrays, arrays: Arrays) -> None:
    arrays = expected(arrays)
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            assert loaded[name].dtype == max(array.dtype.newbyteorder("="), np.dtype(np.float32)), name
        else:
            assert loaded[name].dtype == np.int64, name
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_every_model_in_every_format(
    model: Callable[..., Arrays], save: Callable[[Path, Arrays], Path], dtype: type, tmp_path: Path
) -> None:
    arrays = model(dtype=dtype)
    path = save(tmp_path, arrays)
    assert_same(load(path), arrays)

    warnings = _native.convert_model(path, tmp_path / "body.safetensors")
    assert_same(load(tmp_path / "body.safetensors"), arrays)
    assert warnings == _native.load_model(path)["warnings"]


@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda array: array.astype(array.dtype.newbyteorder(">"))],
    ids=["Fortran order", "big-endian"],
)
@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS.keys())
def test_memory_layout_does_not_matter(
    save: Callable[[Path, Arrays], Path], change: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    arrays = synthetic.smplh(**SMALL)
    assert_same(load(save(tmp_path, {key: change(array) for key, array in arrays.items()})), arrays)


@pytest.mark.parametrize(
    ("model", "family", "betas", "expressions"),
    [
        (MODELS["smpl"], "smpl", 300, 0),
        (MODELS["smplh"], "smplh", 16, 0),
        (MODELS["smplx 1.1"], "smplx", 300, 100),
        (MODELS["smplx 1.0"], "smplx", 10, 10),
        (MODELS["mano"], "mano", 10, 0),
        (MODELS["flame"], "flame", 300, 100),
        (MODELS["generic"], "generic", 4, 0),
    ],
)
def test_the_family_is_recognised(
    model: Callable[..., Arrays], family: str, betas: int, expressions: int, tmp_path: Path
) -> None:
    content = _native.load_model(synthetic.save_npz(tmp_path / "body.npz", model()))
    assert (content["family"], content["num_betas"], content["num_expressions"]) == (
        family,
        betas,
        expressions,
    )


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable, Callable]:
    """The classes `Ch` and `Select`, importable where pickles expect them."""
    for module in synthetic.chumpy_modules():
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return sys.modules["chumpy.ch"].Ch, sys.modules["chumpy.reordering"].Select


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_like_the_official_ones(protocol: int, chumpy: tuple[Callable, Callable], tmp_path: Path) -> None:
    ch, select = chumpy
    arrays = synthetic.smpl(**SMALL)
    # The ten shape directions are picked from a larger space, as in MANO.
    space = np.concatenate([arrays["shapedirs"], arrays["shapedirs"][:, :, :3]], axis=2)
    picked = np.arange(space.size).reshape(space.shape)[:, :, :10]
    official = arrays | {
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "shapedirs": select(ch(space), picked.ravel(), arrays["shapedirs"].shape),
        "posedirs": select(
            np.asfortranarray(arrays["posedirs"]),
            np.arange(arrays["posedirs"].size),
            arrays["posedirs"].shape,
        ),
        "weights": select(ch(arrays["weights"]), np.arange(arrays["weights"].size).reshape(40, 24)),
        "v_template": ch(arrays["v_template"]),
        "J": np.zeros((24, 3)),
        "bs_style": "lbs",
        "vert_sym_idxs": np.arange(40),
        "pose_training_info": {"gender": "männlich", "numbers": [1, -2, 2**40, 0.5, True, None, (1,)]},
    }
    assert_same(load(synthetic.save_pkl(tmp_path / "SMPL_MALE.pkl", official, protocol)), arrays)


def test_scipy_arrays_are_read_like_matrices(tmp_path: Path) -> None:
    arrays = synthetic.flame(**SMALL)
    sparse = arrays | {"J_regressor": scipy.sparse.csc_array(arrays["J_regressor"])}
    assert_same(load(synthetic.save_pkl(tmp_path / "body.pkl", sparse)), arrays)


def test_flame_finds_its_landmarks(tmp_path: Path) -> None:
    arrays = synthetic.flame(**SMALL)
    static, dynamic = synthetic.flame_landmarks(SMALL["faces"])
    synthetic.save_pkl(tmp_path / "FLAME_NEUTRAL.pkl", arrays)
    synthetic.save_pkl(tmp_path / "flame_static_embedding.pkl", static)
    np.save(tmp_path / "flame_dynamic_embedding.npy", np.array(dynamic, dtype=object), allow_pickle=True)
    landmarks = {
        "lmk_faces_idx": static["lmk_face_idx"],
        "lmk_bary_coords": static["lmk_b_coords"],
        "dynamic_lmk_faces_idx": dynamic["lmk_face_idx"],
        "dynamic_lmk_bary_coords": dynamic["lmk_b_coords"],
    }
    assert_same(load(tmp_path), arrays | landmarks)
    assert _native.load_model(tmp_path)["gender"] == "neutral"


class Trap:
    """Pickles to a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_in_a_pickle_is_executed(protocol: int, tmp_path: Path) -> None:
    trap = Trap(tmp_path / "executed")
    path = synthetic.save_pkl(tmp_path / "body.pkl", synthetic.smpl(**SMALL) | {"bs_style": trap}, protocol)
    with pytest.raises(ValueError, match=r"body.pkl: is a pickle that mentions \w*io.open, which is refused"):
        _native.load_model(path)
    path = tmp_path / "flame_dynamic_embedding.npy"
    np.save(path, np.array({"a": trap}, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"mentions \w*io.open"):
        _native.load_model(path)
    # An object array that nothing needs is not even looked at.
    arrays = synthetic.smplx(**SMALL) | {"joint2num": np.array(trap, dtype=object)}
    _native.load_model(synthetic.save_npz(tmp_path / "body.npz", arrays))
    assert not trap.path.exists()


def test_memory_is_shared_and_outlives_the_model(tmp_path: Path) -> None:
    arrays = synthetic.smplx(vertices=500, faces=10, dtype=np.float32)
    path = synthetic.save_npz(tmp_path / "body.npz", arrays)
    _native.convert_model(path, tmp_path / "body.safetensors")
    for file in (path, tmp_path / "body.safetensors"):
        before = file.read_bytes()
        content = _native.load_model(file)
        assert content["posedirs"].is_mapped == (file.suffix == ".safetensors")
        tensor, again = torch.from_dlpack(content["posedirs"]), torch.from_dlpack(content["posedirs"])
        assert tensor.data_ptr() == again.data_ptr()
        del content, again
        assert torch.equal(tensor, torch.from_numpy(expected(arrays)["posedirs"]))
        tensor.fill_(7)
        assert file.read_bytes() == before
        assert torch.from_dlpack(_native.load_model(file)["posedirs"])[0, 0] != 7


def test_a_capsule_that_nobody_takes_is_freed(tmp_path: Path) -> None:
    content = _native.load_model(synthetic.save_npz(tmp_path / "body.npz", synthetic.generic()))
    array = content["shapedirs"]
    assert (array.shape, array.dtype, repr(array)) == ([300, 3, 4], "float64", "Array(float64, [300, 3, 4])")
    for _ in range(3):
        array.__dlpack__()
    with pytest.raises(BufferError, match="on the CPU"):
        array.__dlpack__(dl_device=(2, 0))
    with pytest.raises(BufferError, match="without a copy"):
        array.__dlpack__(copy=True)


def test_errors_have_the_usual_types(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        _native.load_model(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError, match="no model file fits"):
        _native.load_model(tmp_path)
    arrays = synthetic.smpl(**SMALL)
    arrays["weights"] = arrays["weights"][:, :23]
    with pytest.raises(ValueError, match=r"body.npz: key 'weights' has shape \[40, 23\], expected \[40, 24\]"):
        _native.load_model(synthetic.save_npz(tmp_path / "body.npz", arrays))
    with pytest.raises(ValueError, match='gender is "any", expected one of neutral, female, male'):
        _native.load_model(tmp_path, gender="any")
