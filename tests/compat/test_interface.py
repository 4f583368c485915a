"""Names, shapes, signatures and calls that programs written for smplx rely on; recorded from smplx 0.1.28."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import avatorch.compat.smplx as smplx
from avatorch import _native
from compat import models

V, F = models.VERTICES, models.FACES
RIG = {
    "shapedirs": (V, 3, 10),
    "faces_tensor": (F, 3),
    "v_template": (V, 3),
    "J_regressor": ("J", V),
    "posedirs": ("P", 3 * V),
    "parents": ("J",),
    "lbs_weights": (V, "J"),
}
HANDS = {
    "left_hand_components": (6, 45),
    "right_hand_components": (6, 45),
    "left_hand_mean": (45,),
    "right_hand_mean": (45,),
}
LANDMARKS = {"lmk_faces_idx": (51,), "lmk_bary_coords": (51, 3)}
CONTOUR = {"dynamic_lmk_faces_idx": (79, 17), "dynamic_lmk_bary_coords": (79, 17, 3)}
BODY = {"betas": (1, 10), "global_orient": (1, 3)}
EXTRA = "vertex_joint_selector.extra_joints_idxs"
STATES: dict[str, dict[str, tuple[Any, ...]]] = {
    "smpl": BODY | {"body_pose": (1, 69), "transl": (1, 3)} | RIG | {EXTRA: (21,)},
    "smplh": BODY | {"body_pose": (1, 63), "transl": (1, 3), "left_hand_pose": (1, 6), "right_hand_pose": (1, 6)}
    | RIG | HANDS | {"pose_mean": (156,), EXTRA: (21,)},
    "smplx": BODY | {"body_pose": (1, 63), "transl": (1, 3), "left_hand_pose": (1, 6), "right_hand_pose": (1, 6)}
    | {"jaw_pose": (1, 3), "leye_pose": (1, 3), "reye_pose": (1, 3), "expression": (1, 10)}
    | RIG | HANDS | {"pose_mean": (165,)} | LANDMARKS | CONTOUR
    | {"neck_kin_chain": (5,), "expr_dirs": (V, 3, 10), EXTRA: (21,)},
    "mano": BODY | {"body_pose": (1, 3), "transl": (1, 3), "hand_pose": (1, 6)} | RIG
    | {"hand_components": (6, 45), "hand_mean": (45,), "pose_mean": (48,), EXTRA: (5,)},
    "flame": BODY | {"body_pose": (1, 69), "transl": (1, 3), "neck_pose": (1, 3), "jaw_pose": (1, 3)}
    | {"leye_pose": (1, 3), "reye_pose": (1, 3), "expression": (1, 10)} | RIG | {"expr_dirs": (V, 3, 10)}
    | LANDMARKS | CONTOUR | {"neck_kin_chain": (1,), EXTRA: (0,)},
}  # fmt: skip
# A layer has no parameters, except those that nothing reads.
KEPT_BY_LAYERS = {"mano": ["body_pose"], "flame": ["body_pose", "transl"]}
FIELDS = ["vertices", "joints", "full_pose", "global_orient", "transl", "v_shaped"]
OUTPUTS = {
    "smpl": [*FIELDS, "betas", "body_pose"],
    "smplh": [*FIELDS, "betas", "body_pose", "left_hand_pose", "right_hand_pose"],
    "smplx": [*FIELDS, "betas", "body_pose", "left_hand_pose", "right_hand_pose", "expression", "jaw_pose"],
    "mano": [*FIELDS, "betas", "hand_pose"],
    "flame": [*FIELDS, "betas", "expression", "jaw_pose", "neck_pose"],
}


@pytest.mark.parametrize("family", models.FAMILIES)
def test_states(folder: Path, family: str) -> None:
    model = smplx.create(folder, family, use_face_contour=True)
    joints = len(model.parents)
    named = {"J": joints, "P": 9 * (joints - 1)}
    wanted = {name: tuple(named.get(size, size) for size in shape) for name, shape in STATES[family].items()}
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == wanted
    assert list(model.state_dict()) == list(wanted)
    assert all(parameter.requires_grad for parameter in model.parameters())
    layer = smplx.build_layer(folder, family, use_face_contour=True)
    assert [name for name, _ in layer.named_parameters()] == KEPT_BY_LAYERS.get(family, [])
    assert model.get_num_verts() == V and model.get_num_faces() == F and model.faces.dtype == np.uint32


@pytest.mark.parametrize("family", models.FAMILIES)
def test_outputs(folder: Path, family: str) -> None:
    output = smplx.create(folder, family)()
    assert list(output) == list(output.keys()) == OUTPUTS[family]
    assert [name for name, _ in output.items()] == OUTPUTS[family] and len(list(output.values())) == len(list(output))
    assert output["vertices"] is output.vertices and output.get("nothing", 3) == 3
    output.joints = output.joints[:, :4]
    output.more = "anything"
    assert output["joints"].shape[1] == 4 and output["more"] == "anything"
    if family in ("smplh", "smplx"):
        assert output.left_hand_pose.shape == (1, 45)


def test_ways_to_construct(folder: Path) -> None:
    file = folder / "smplx/SMPLX_NEUTRAL.npz"
    for model in (
        smplx.create(str(folder), "smplx"),
        smplx.create(str(file)),
        smplx.create(file, gender="male", unknown_option=3, use_compressed=True),
        smplx.SMPLX(str(folder / "smplx")),
        smplx.SMPLX(str(file)),
        smplx.body_models.create(folder, model_type="smplx"),
    ):
        assert model.name() == "SMPL-X" and model().joints.shape == (1, 127, 3)
    assert smplx.create(folder, "smplx", gender="MALE").v_template.ne(model.v_template).any()
    left, right = (smplx.create(folder, "mano", is_rhand=right) for right in (False, True))
    assert left.v_template.ne(right.v_template).any()


def test_from_the_content_of_a_file(folder: Path) -> None:
    """As projects do that read the file by themselves, with matrices of scipy or more columns than the file had."""
    scipy = pytest.importorskip("scipy.sparse")
    arrays = dict(np.load(folder / "smplx/SMPLX_NEUTRAL.npz", allow_pickle=True))
    arrays["J_regressor"] = scipy.csc_matrix(arrays["J_regressor"])
    arrays["shapedirs"] = arrays["shapedirs"][..., :300]
    model = smplx.SMPLX(folder, data_struct=smplx.utils.Struct(**arrays), num_betas=16, use_pca=False)
    assert (model.num_betas, model.num_expression_coeffs) == (16, 10)
    wanted = smplx.create(folder, "smplx", num_betas=16, use_pca=False)
    torch.testing.assert_close(model().vertices, wanted().vertices)
    arrays = {name: array for name, array in arrays.items() if not name.startswith("hands")}
    bare = smplx.SMPLX(folder, data_struct=smplx.utils.Struct(**arrays), use_pca=False)
    assert not bare.pose_mean.any()
    with pytest.raises(ValueError, match=r"num_pca_comps is 6, and the file has 0 hand components"):
        smplx.SMPLX(folder, data_struct=smplx.utils.Struct(**arrays))


def test_a_converted_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "smplx").mkdir()
    converted = tmp_path / "smplx/SMPLX_NEUTRAL.safetensors"
    _native.convert_model(folder / "smplx/SMPLX_NEUTRAL.npz", converted, None, None)
    found, wanted = smplx.create(tmp_path, "smplx"), smplx.create(folder, "smplx")
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=0, atol=0)


def test_parameters(folder: Path) -> None:
    model = smplx.create(folder, "smpl", betas=[[0.5] * 10], transl=torch.ones(1, 3), batch_size=1)
    assert model.betas[0, 3] == 0.5 and model.transl.sum() == 3
    model.reset_params(body_pose=torch.ones(1, 69), transl=[1, 2, 3])
    assert not model.betas.any() and model.body_pose.all() and model.transl[0].tolist() == [1, 2, 3]
    with pytest.raises(AttributeError, match=r"SMPL: body_pose is missing: give it, or construct.*create_body_pose"):
        smplx.create(folder, "smpl", create_body_pose=False)()
    model.betas = None
    with pytest.raises(AttributeError, match="SMPL: betas is missing"):
        model()


def test_mappers(folder: Path) -> None:
    """They see joints before translation; for faces, vertices too."""
    shift = torch.tensor([[5.0, 0.0, 0.0]])
    plain = smplx.create(folder, "smplx")
    model = smplx.create(folder, "smplx", joint_mapper=lambda joints, vertices: joints * 2 + vertices.mean())
    wanted = 2 * plain().joints + plain().vertices.mean() + shift
    torch.testing.assert_close(model(transl=shift).joints, wanted)
    torch.testing.assert_close(model(transl=shift).vertices, plain(transl=shift).vertices)
    assert model(transl=shift, return_verts=False).joints.shape == (1, 127, 3)
    some = smplx.create(folder, "smpl", joint_mapper=lambda joints: joints[:, :5])
    assert some(transl=shift, return_verts=False).joints.shape == (1, 5, 3)


def test_sentences(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model type is 'star', expected one of smpl, smplh"):
        smplx.create(folder, "star")
    with pytest.raises(FileNotFoundError, match=r"found no SMPLX_FEMALE\.npz, nor SMPLX_FEMALE with another ending"):
        smplx.create(folder, "smplx", gender="female")
    with pytest.raises(FileNotFoundError, match="no such file or folder of models"):
        smplx.create(tmp_path / "nothing", "smplx")
    with pytest.raises(ValueError, match="this is a model of the family smplx, expected smpl"):
        smplx.SMPL(folder / "smplx/SMPLX_NEUTRAL.npz")
    model = smplx.create(folder, "smplx")
    with pytest.raises(ValueError, match="different batches: 2, but body_pose 3"):
        model(global_orient=torch.zeros(2, 3), body_pose=torch.zeros(3, 63))
    (tmp_path / "smpl").mkdir()
    (tmp_path / "smpl/SMPL_NEUTRAL.pkl").write_bytes(b"cos\nsystem\n(S'touch stolen'\ntR.")
    with pytest.raises(ValueError, match=r"SMPL_NEUTRAL\.pkl"):
        smplx.create(tmp_path, "smpl")


Z = torch.zeros


@pytest.mark.parametrize(
    ("family", "given", "error", "message"),
    [
        ("smplx", {"betas": Z(3, 5)}, ValueError, r"SMPLX: betas has shape \[3, 5\], expected \[B, 10\]"),
        ("smpl", {"betas": np.zeros((1, 10))}, TypeError, "SMPL: betas is of type ndarray, expected a tensor"),
        ("smplx", {"betas": Z(10)}, ValueError, r"betas has shape \[10\], expected \[B, 10\]"),
        ("smplx", {"betas": torch.tensor(1.0)}, ValueError, r"betas has shape \[\], expected \[B, 10\]"),
        ("smplx", {"expression": Z(1, 5)}, ValueError, r"expression has shape \[1, 5\], expected \[B, 10\]"),
        ("smplx", {"jaw_pose": Z(1, 2)}, ValueError, r"jaw_pose has shape \[1, 2\], expected \[B, 3\]"),
        ("smplx", {"body_pose": Z(21, 69)}, ValueError, r"body_pose has shape \[21, 69\], expected \[B, 63\]"),
        ("smplx", {"left_hand_pose": Z(1, 45)}, ValueError, r"\[1, 45\], expected \[B, 6\], components of the hand"),
        ("mano", {"hand_pose": Z(1, 45).double()}, TypeError, "hand_pose is torch.float64, expected torch.float32"),
        ("smplx", {"body_pose": Z(1, 63).double()}, TypeError, "body_pose is torch.float64, expected torch.float32"),
        ("smpl", {"global_orient": torch.eye(3).expand(2, 1, 3, 3)}, ValueError, "pose2rot=False takes matrices"),
        ("smpl", {"transl": Z(1, 3, device="meta")}, ValueError, "transl is on meta, expected cpu as the model"),
        ("smpl", {"transl": Z(3, 3), "betas": Z(2, 10)}, ValueError, "different batches: 2, but transl 3"),
        ("smplx", {"vertex_offsets": Z(V, 3)}, ValueError, rf"vertex_offsets has shape .*, expected \[B, {V}, 3\]"),
        ("smplx", {"vertex_offsets": Z(1, 5, 3), "return_verts": False}, ValueError, "vertex_offsets has shape"),
        ("smplx", {"pose2rot": False, "jaw_pose": Z(2, 3)}, ValueError, r"rotation matrices \[B, 1, 3, 3\]"),
        (
            "smplx",
            {"pose2rot": False, "body_pose": torch.eye(3).expand(2, 20, 3, 3)},
            ValueError,
            "body_pose has shape",
        ),
    ],
)
def test_sentences_of_a_call(
    folder: Path, family: str, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        smplx.create(folder, family)(**given)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_what_a_layer_returns(folder: Path, family: str) -> None:
    """Of the batch of the call, though only the shape says how many; rotations as they were given."""
    layer = smplx.build_layer(folder, family)
    output = layer(betas=torch.zeros(3, 10), return_full_pose=True)
    assert output.full_pose.shape == (3, len(layer.parents), 3, 3) and output.global_orient.shape == (3, 1, 3, 3)
    assert output.get("expression") is None or output.expression.shape == (3, 10)
    rows = torch.eye(3).reshape(1, 1, 9).expand(2, 1, 9)
    assert layer(global_orient=rows).global_orient is rows


@pytest.mark.parametrize("family", models.FAMILIES)
def test_a_template_for_each_body(folder: Path, family: str) -> None:
    templates = torch.randn(2, V, 3, dtype=torch.double)
    model = smplx.create(folder, family, v_template=templates, dtype=torch.double, batch_size=2)
    output, joints = model(), model(return_verts=False).joints
    for index in range(2):
        one = smplx.create(folder, family, v_template=templates[index], dtype=torch.double)()
        torch.testing.assert_close(output.vertices[index], one.vertices[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(output.joints[index], one.joints[0], rtol=0, atol=1e-6)
        if joints is not None:  # as those of a hand are without vertices
            torch.testing.assert_close(joints[index], one.joints[0], rtol=0, atol=1e-6)
        if one.v_shaped is not None:
            torch.testing.assert_close(output.v_shaped[index], one.v_shaped[0], rtol=0, atol=1e-6)


def test_hands_with_more_components_than_the_file_has(folder: Path) -> None:
    with pytest.raises(ValueError, match="num_pca_comps is 46, and the file has 45 hand components"):
        smplx.create(folder, "mano", num_pca_comps=46)
    body_ids = smplx.vertex_ids.vertex_ids["smplh"]  # a hand has its own
    selector = smplx.create(folder, "mano", vertex_ids=body_ids).vertex_joint_selector
    assert selector.extra_joints_idxs.tolist() == list(smplx.vertex_ids.vertex_ids["mano"].values())


PROGRAM = """
import avatorch.compat
avatorch.compat.install()
import smplx
from smplx import SMPLXLayer, build_layer
from smplx.body_models import ModelOutput, SMPLHOutput, Struct
from smplx.lbs import batch_rigid_transform, batch_rodrigues, blend_shapes, lbs, transform_mat, vertices2joints
from smplx.lbs import find_dynamic_lmk_idx_and_bcoords, vertices2landmarks
from smplx.utils import SMPLOutput, Struct, rot_mat_to_euler, to_np, to_tensor
from smplx.vertex_ids import vertex_ids
from smplx.joint_names import JOINT_NAMES, SMPL_JOINT_NAMES
import smplx.vertex_joint_selector as selector
assert smplx.lbs.lbs is lbs and smplx is avatorch.compat.smplx and vertex_ids["mano"]["thumb"] == 744
assert vertex_ids["smplx"]["nose"] == 9120 and vertex_ids["smplh"]["RHeel"] == 6787
assert len(vertex_ids["smplx"]) == len(vertex_ids["smplh"]) == 21
avatorch.compat.install()
"""


def test_unmodified_programs() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
    other = "import sys, types; sys.modules['smplx'] = types.ModuleType('smplx')\n" + PROGRAM
    result = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True)
    assert result.returncode and "another smplx is imported already" in result.stderr


def test_functions(folder: Path) -> None:
    model = smplx.create(folder, "smplx", dtype=torch.double)
    g = models.arguments("smplx")
    wanted = model(**{**g, "transl": torch.zeros(3, 3).double()}, return_full_pose=True)
    coefficients = torch.cat([g["betas"], g["expression"]], 1)
    directions = torch.cat([model.shapedirs, model.expr_dirs], 2)
    tensors = (directions, model.posedirs, model.J_regressor, model.parents, model.lbs_weights)
    pose = wanted.full_pose
    for template in (model.v_template, model.v_template[None], model.v_template.expand(3, V, 3)):
        found = smplx.lbs.lbs(coefficients, pose, template, *tensors, dtype=torch.double, return_A=True)
        torch.testing.assert_close(found[0], wanted.vertices)
        torch.testing.assert_close(found[1], wanted.joints[:, :55])
        torch.testing.assert_close(found[2], wanted.A)
    unsigned = model.parents.clone()
    unsigned[0] = 4294967295  # as files have it
    matrices = smplx.lbs.batch_rodrigues(pose.reshape(-1, 3)).reshape(3, 55, 3, 3)
    at_rest = smplx.lbs.vertices2joints(
        model.J_regressor, model.v_template + smplx.lbs.blend_shapes(coefficients, directions)
    )
    joints, transforms = smplx.lbs.batch_rigid_transform(matrices, at_rest, unsigned, dtype=torch.double)
    torch.testing.assert_close(joints, wanted.joints[:, :55])
    torch.testing.assert_close(transforms, wanted.A)
    moved = smplx.lbs.transform_mat(matrices[:, 0], at_rest[:, 0, :, None])
    torch.testing.assert_close(moved[:, :3, 3], at_rest[:, 0])
    assert moved[0, 3].tolist() == [0, 0, 0, 1]


def test_small_conversions() -> None:
    struct = smplx.utils.Struct(a=1, b="c")
    assert vars(struct) == vars(SimpleNamespace(a=1, b="c"))
    assert smplx.utils.to_np([1, 2]).dtype == np.float32
    assert smplx.utils.to_np(torch.ones(2), dtype=np.int64).tolist() == [1, 1]
    double = torch.ones(2, dtype=torch.double)
    assert smplx.utils.to_tensor(double) is double and smplx.utils.to_tensor(np.ones(2)).dtype == torch.float32
    assert smplx.utils.find_joint_kin_chain(4, [-1, 0, 1, 1, 3]) == [4, 3, 1, 0]
    selector = smplx.vertex_joint_selector.VertexJointSelector(smplx.vertex_ids.vertex_ids["smplh"], use_hands=False)
    assert selector(torch.zeros(2, V, 3), torch.zeros(2, 4, 3)).shape == (2, 15, 3)
    with pytest.raises(KeyError, match="vertex_ids has no reye, leye"):
        smplx.vertex_joint_selector.VertexJointSelector({"nose": 3})
