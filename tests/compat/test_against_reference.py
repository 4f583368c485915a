"""Values of the classes of avatorch.compat.smplx, from the float64 reference and from what is known of smplx 0.1.28."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import avatorch.compat.smplx as smplx
from avatorch import reference
from avatorch.reference.landmarks import contour_row, landmarks
from compat import models

EXACT = {"rtol": 1e-12, "atol": 1e-12}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("smpl", {}),
    ("smpl", {"num_betas": 25}),
    ("smplh", {}),
    ("smplh", {"use_pca": False, "flat_hand_mean": True}),
    ("smplx", {"use_face_contour": True}),
    ("smplx", {"num_pca_comps": 12, "flat_hand_mean": True, "gender": "male"}),
    ("mano", {}),
    ("mano", {"num_pca_comps": 45}),
    ("flame", {"use_face_contour": True}),
]


def vectors(model: Any, given: dict[str, Tensor]) -> Tensor:
    """[B, J, 3], written from the definition: components, then the mean."""
    parts = []
    for name, joints in models.PARTS[model._FAMILY].items():
        part = given[name]
        if name.endswith("hand_pose"):
            if model.use_pca:
                part = part @ getattr(model, name.replace("pose", "components"))
            part = part + getattr(model, name.replace("pose", "mean"))
        parts.append(part.reshape(-1, joints, 3))
    return torch.cat(parts, 1)


def expected(model: Any, given: dict[str, Tensor], rotations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, joints with those on the surface, transforms."""
    directions = [model.shapedirs, model.expr_dirs] if "expression" in given else [model.shapedirs]
    coefficients = [given["betas"], given["expression"]] if "expression" in given else [given["betas"]]
    body = reference.forward(
        torch.cat(coefficients, 1), rotations, given["transl"], model.v_template, torch.cat(directions, 2),
        model.posedirs, model.parents, model.lbs_weights, J_regressor=model.J_regressor,
    )  # fmt: skip
    joints = [body.joints]
    if model._FAMILY != "mano":
        joints.append(body.vertices[:, model.vertex_joint_selector.extra_joints_idxs])
    if "expression" in given:
        faces_idx, shares = model.lmk_faces_idx, model.lmk_bary_coords
        joints.append(landmarks(body.vertices, model.faces_tensor, faces_idx, shares))
        if model.use_face_contour:
            rows = contour_row(body.rot_mats, model.neck_kin_chain.tolist())
            faces_idx, shares = model.dynamic_lmk_faces_idx[rows], model.dynamic_lmk_bary_coords[rows]
            joints.append(landmarks(body.vertices, model.faces_tensor, faces_idx, shares))
    return body.vertices, torch.cat(joints, 1), body.A_global


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: "-".join([option[0], *option[1]]))
def test_models(folder: Path, option: tuple[str, dict[str, Any]]) -> None:
    family, options = option
    model = smplx.create(folder, family, dtype=torch.double, **options)
    hand = model.num_pca_comps if getattr(model, "use_pca", False) else 45
    given = models.arguments(family, hand=hand, betas=model.num_betas, size=0.6)
    output = model(**given, return_full_pose=True)
    full_pose = vectors(model, given)
    torch.testing.assert_close(output.full_pose, full_pose.flatten(1), **EXACT)
    vertices, joints, transforms = expected(model, given, reference.rodrigues(full_pose))
    torch.testing.assert_close(output.vertices, vertices, **EXACT)
    torch.testing.assert_close(output.joints, joints, **EXACT)
    torch.testing.assert_close(output.A_global, transforms, **EXACT)
    if family == "smplx":
        v_shaped = reference.blend_shapes(given["betas"], model.v_template, model.shapedirs)
        torch.testing.assert_close(output.v_shaped, v_shaped, **EXACT)
    torch.testing.assert_close(model(**given, return_verts=False).vertices, None)
    if family != "mano":
        torch.testing.assert_close(model(**given, return_verts=False).joints, joints, **EXACT)


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize("layer", [False, True])
def test_matrices(folder: Path, family: str, layer: bool) -> None:
    make = smplx.build_layer if layer else smplx.create
    model = make(folder, family, dtype=torch.double, use_face_contour=True)
    given = models.arguments(family, matrices=True)
    rotations = torch.cat([given[name] for name in models.PARTS[family]], 1)
    output = model(**given, return_full_pose=True, **({} if layer else {"pose2rot": False}))
    vertices, joints, _ = expected(model, given, rotations)
    torch.testing.assert_close(output.full_pose, rotations)
    torch.testing.assert_close(output.vertices, vertices, **EXACT)
    torch.testing.assert_close(output.joints, joints, **EXACT)


def test_matrices_beside_parameters(folder: Path) -> None:
    """What a call leaves out comes from the parameters, which are vectors: here the mean of the hands."""
    model = smplx.create(folder, "smplx", dtype=torch.double)
    given = models.arguments("smplx")
    body = {name: given[name] for name in ("betas", "expression", "body_pose", "global_orient")}
    wanted = model(**body)
    rotated = {name: reference.rodrigues(body[name].reshape(3, -1, 3)) for name in ("body_pose", "global_orient")}
    torch.testing.assert_close(model(**{**body, **rotated}, pose2rot=False).vertices, wanted.vertices, **EXACT)


NUMBER_OF_JOINTS = {
    ("smpl", ()): 45,
    ("smpl", ("use_hands",)): 35,
    ("smplh", ()): 73,
    ("smplh", ("use_hands", "use_feet_keypoints")): 57,
    ("smplx", ()): 127,
    ("mano", ()): 16,
    ("flame", ()): 56,
}


@pytest.mark.parametrize(("family", "without"), NUMBER_OF_JOINTS, ids=str)
def test_numbers_of_joints(folder: Path, family: str, without: tuple[str, ...]) -> None:
    model = smplx.create(folder, family, **dict.fromkeys(without, False))
    assert model().joints.shape[1] == NUMBER_OF_JOINTS[family, without]
    if family in ("smplx", "flame"):
        more = smplx.create(folder, family, use_face_contour=True)
        assert more().joints.shape[1] == NUMBER_OF_JOINTS[family, without] + 17


def test_names(folder: Path) -> None:
    names = smplx.joint_names
    assert (len(names.JOINT_NAMES), len(names.SMPLH_JOINT_NAMES), len(names.SMPL_JOINT_NAMES)) == (144, 73, 24)
    assert len(set(names.JOINT_NAMES)) == 144
    assert names.JOINT_NAMES[:2] == ["pelvis", "left_hip"] and names.JOINT_NAMES[127] == "right_contour_1"
    assert names.JOINT_NAMES[55:60] == ["nose", "right_eye", "left_eye", "right_ear", "left_ear"]
    body = names.Body.from_smplh(torch.arange(156).numpy())
    assert body.as_smpl()[:22].ravel().tolist() == list(range(66)) and not body.as_smpl()[22:].any()
    assert names.Body.from_smpl(body.as_smpl()).as_smplh().shape == (52, 3)


def test_the_head_of_a_kid(folder: Path) -> None:
    grown = smplx.create(folder, "smpl", dtype=torch.double)
    kid = smplx.create(folder, "smpl", dtype=torch.double, age="kid", kid_template_path=str(folder / "kid.npy"))
    assert kid.num_betas == 11 and kid.betas.shape == (1, 11)
    betas = torch.zeros(1, 11, dtype=torch.double)
    torch.testing.assert_close(kid(betas=betas).vertices, grown().vertices)
    betas[0, 10] = 1
    import numpy as np

    template = np.load(folder / "kid.npy")
    wanted = torch.from_numpy(template - template.mean(0))[None]
    torch.testing.assert_close(kid.forward_shape(betas=betas).vertices, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "options", "betas", "expressions"),
    [
        ("smpl", {"num_betas": 400}, 300, 0),
        ("smpl", {"num_betas": 400, "gender": "male"}, 10, 0),
        ("smplh", {"num_betas": 16}, 10, 0),
        ("smplx", {"num_betas": 400, "num_expression_coeffs": 200}, 300, 100),
        ("smplx", {"num_betas": 16, "num_expression_coeffs": 20, "gender": "male"}, 10, 10),
        ("flame", {"num_betas": 12, "num_expression_coeffs": 50}, 12, 50),
    ],
)
def test_sizes_of_shape_spaces(
    folder: Path, family: str, options: dict[str, Any], betas: int, expressions: int, recwarn: pytest.WarningsRecorder
) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smplx.create(folder, family, **options)
    assert (model.num_betas, model.num_expression_coeffs) == (betas, expressions)
    assert model().vertices.shape == (1, models.VERTICES, 3)


def test_asking_for_too_many_is_a_warning(folder: Path) -> None:
    with pytest.warns(UserWarning, match="SMPL-X: num_betas is 301, the file has 300"):
        smplx.create(folder, "smplx", num_betas=301)
