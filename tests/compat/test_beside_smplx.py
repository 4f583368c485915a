"""Every class and option beside the package smplx 0.1.28, where a user has installed it."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import avatorch.compat.smplx as ours
from compat import models

theirs = pytest.importorskip("smplx", reason="the package smplx is not installed; it is not needed")
models.shrink(theirs.vertex_ids.vertex_ids)

# Their rotations are those of a vector with 1e-8 added to each component.
FLOAT64 = {"rtol": 0.0, "atol": 2e-8}
MATRICES = {"rtol": 0.0, "atol": 1e-12}  # nothing to add to those
FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}

CLASSES = ["SMPL", "SMPLH", "SMPLX", "MANO", "FLAME"]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("smpl", {}),
    ("smpl", {"num_betas": 25}),
    ("smpl", {"gender": "male", "num_betas": 5}),
    ("smpl", {"create_transl": False, "use_hands": False}),
    ("smpl", {"age": "kid"}),
    ("smpl", {"v_template": torch.linspace(-1, 1, 3 * models.VERTICES).reshape(-1, 3).numpy()}),
    ("smpl", {"joint_mapper": lambda joints: joints[:, [3, 1, 30]]}),
    ("smplh", {}),
    ("smplh", {"use_pca": False}),
    ("smplh", {"num_pca_comps": 12, "flat_hand_mean": True}),
    ("smplx", {}),
    ("smplx", {"use_pca": False, "flat_hand_mean": True}),
    ("smplx", {"use_face_contour": True, "batch_size": 3}),
    ("smplx", {"gender": "male", "num_expression_coeffs": 10}),
    ("smplx", {"num_pca_comps": 45, "use_feet_keypoints": False, "use_hands": False}),
    ("smplx", {"joint_mapper": lambda joints, vertices: torch.cat([joints[:, 5:9], vertices[:, 3:5]], 1)}),
    ("smplx", {"age": "kid"}),
    ("mano", {}),
    ("mano", {"num_pca_comps": 45}),
    ("mano", {"is_rhand": False, "flat_hand_mean": True, "use_pca": False}),
    ("flame", {}),
    ("flame", {"use_face_contour": True, "batch_size": 3}),
]


def ids(option: tuple[str, dict[str, Any]]) -> str:
    return "-".join([option[0], *map(str, option[1])])


def pair(folder: Path, family: str, options: dict[str, Any], layer: bool = False) -> tuple[Any, Any]:
    options = dict(options)
    if options.get("age") == "kid":
        options["kid_template_path"] = str(folder / "kid.npy")
    name = "build_layer" if layer else "create"
    return getattr(ours, name)(folder, family, **options), getattr(theirs, name)(str(folder), family, **options)


def same_fields(found: Any, wanted: Any, tolerance: dict[str, float]) -> None:
    assert type(found).__name__ == type(wanted).__name__
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert (found[name] is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def hand_size(model: Any) -> int:
    return model.num_pca_comps if getattr(model, "use_pca", False) else 45


@pytest.mark.parametrize("option", OPTIONS, ids=ids)
@pytest.mark.parametrize("dtype", [torch.double, torch.float])
def test_posed(folder: Path, option: tuple[str, dict[str, Any]], dtype: torch.dtype) -> None:
    family, options = option
    found, wanted = pair(folder, family, {**options, "dtype": dtype})
    tolerance = FLOAT64 if dtype == torch.double else FLOAT32
    assert repr(found) == repr(wanted) and found.name() == wanted.name()
    given = models.arguments(family, dtype=dtype, hand=hand_size(wanted), betas=wanted.num_betas)
    same_fields(found(**given), wanted(**given), tolerance)
    same_fields(found(**given, return_full_pose=True), wanted(**given, return_full_pose=True), tolerance)
    same_fields(found(**given, return_verts=False), wanted(**given, return_verts=False), tolerance)
    same_fields(found(), wanted(), tolerance)
    same_fields(found.forward_shape(), wanted.forward_shape(), tolerance)


@pytest.mark.parametrize("option", OPTIONS, ids=ids)
def test_states_and_attributes(folder: Path, option: tuple[str, dict[str, Any]]) -> None:
    found, wanted = pair(folder, *option)
    mine, other = found.state_dict(), wanted.state_dict()
    assert list(mine) == list(other)
    for name, tensor in other.items():
        torch.testing.assert_close(mine[name], tensor, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in wanted.named_parameters()]
    for name, value in vars(wanted).items():
        if isinstance(value, (int, str, bool, torch.dtype)):
            assert getattr(found, name) == value, name
    for model in (found, wanted):
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1.5)
    found.load_state_dict(wanted.state_dict())
    wanted.load_state_dict(found.state_dict())
    if not getattr(wanted, "use_face_contour", False):
        same_fields(found(), wanted(), FLOAT32)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_layers(folder: Path, family: str) -> None:
    found, wanted = pair(folder, family, {"dtype": torch.double}, layer=True)
    assert list(found.state_dict()) == list(wanted.state_dict())
    given = models.arguments(family, matrices=True)
    same_fields(found(**given), wanted(**given), MATRICES)
    flags = {"return_full_pose": True, "return_verts": False}
    same_fields(found(**given, **flags), wanted(**given, **flags), MATRICES)
    same_fields(found(), wanted(), MATRICES)
    if family in ("smpl", "smplh", "smplx"):
        some = {name: given[name] for name in ("betas", "body_pose")}
        same_fields(found(**some), wanted(**some), MATRICES)


def test_matrices_for_smpl(folder: Path) -> None:
    found, wanted = pair(folder, "smpl", {"dtype": torch.double})
    given = models.arguments("smpl", matrices=True)
    same_fields(found(**given, pose2rot=False), wanted(**given, pose2rot=False), MATRICES)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_gradients(folder: Path, family: str) -> None:
    gradients = []
    for model in pair(folder, family, {"dtype": torch.double}):
        given = {name: tensor.requires_grad_() for name, tensor in models.arguments(family).items()}
        output = model(**given)
        (output.vertices.square().sum() + output.joints.sin().sum()).backward()
        gradients.append({name: tensor.grad for name, tensor in given.items()})
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], rtol=1e-6, atol=1e-5)


def test_contour_in_every_direction(folder: Path) -> None:
    degrees = torch.arange(-120, 121, 3, dtype=torch.double)
    turned = torch.zeros(len(degrees), 63, dtype=torch.double)
    turned[:, 3 * 11 + 1] = torch.deg2rad(degrees + 0.3)  # the neck, about y
    found, wanted = pair(folder, "smplx", {"dtype": torch.double, "use_face_contour": True, "batch_size": len(degrees)})
    same_fields(found(body_pose=turned), wanted(body_pose=turned), FLOAT64)


def signature(function: Any) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize("name", [*CLASSES, *(f"{name}Layer" for name in CLASSES)])
def test_signatures(name: str) -> None:
    """The same arguments in the same order; ours may have more, after theirs."""
    for method in ("__init__", "forward", "forward_shape", "reset_params"):
        found, wanted = (signature(getattr(getattr(module, name), method)) for module in (ours, theirs))
        keep = [argument for argument in found if argument in wanted]
        assert keep == list(wanted), method
        assert {argument: found[argument] for argument in wanted} == wanted, method
    for constant in ("NUM_JOINTS", "NUM_BODY_JOINTS", "NUM_HAND_JOINTS", "NUM_FACE_JOINTS", "SHAPE_SPACE_DIM",
                     "EXPRESSION_SPACE_DIM", "NECK_IDX"):  # fmt: skip
        their = getattr(getattr(theirs, name), constant, None)
        assert their is None or getattr(getattr(ours, name), constant) == their


def test_modules_have_the_same_names() -> None:
    for part in ("lbs", "utils", "vertex_ids", "joint_names", "body_models", "vertex_joint_selector"):
        mine, other = getattr(ours, part), importlib.import_module(f"smplx.{part}")
        for name, value in vars(other).items():
            own = getattr(value, "__module__", "").startswith("smplx") and not name.startswith("_")
            if own and not (part == "vertex_joint_selector" and name == "to_tensor"):
                assert hasattr(mine, name), f"{part}.{name}"
                if inspect.isfunction(value):
                    assert list(signature(value)) == [
                        key for key in signature(getattr(mine, name)) if key in signature(value)
                    ], name
    assert ours.joint_names.JOINT_NAMES == theirs.joint_names.JOINT_NAMES
    assert ours.joint_names.SMPLH_JOINT_NAMES == theirs.joint_names.SMPLH_JOINT_NAMES


def test_functions(folder: Path) -> None:
    model = ours.create(folder, "smplx", dtype=torch.double)
    g = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.double)

    betas, pose = random(4, 10), 0.4 * random(4, 165)
    tensors = (model.shapedirs, model.posedirs, model.J_regressor, model.parents, model.lbs_weights)
    for template in (model.v_template, model.v_template + 0.1 * random(4, 1, 3)):
        found, wanted = (m.lbs.lbs(betas, pose, template, *tensors) for m in (ours, theirs))
        torch.testing.assert_close(found, wanted, **FLOAT64)
    matrices = torch.linalg.qr(random(4, 55, 3, 3))[0].contiguous()
    found, wanted = (m.lbs.lbs(betas, matrices, model.v_template, *tensors, pose2rot=False) for m in (ours, theirs))
    torch.testing.assert_close(found, wanted, **FLOAT64)
    vertices = found[0]
    calls = [
        lambda m: m.lbs.batch_rodrigues(random(1, 3).expand(7, 3) * torch.linspace(0, 3, 7).double()[:, None]),
        lambda m: m.lbs.batch_rigid_transform(matrices, random(1, 55, 3).expand(4, 55, 3), model.parents),
        lambda m: m.lbs.blend_shapes(betas, model.shapedirs),
        lambda m: m.lbs.vertices2joints(model.J_regressor, vertices),
        lambda m: m.lbs.transform_mat(matrices[:, 0], betas[:, :3, None]),
        lambda m: m.utils.rot_mat_to_euler(matrices[:, 3]),
        lambda m: m.lbs.vertices2landmarks(
            vertices,
            model.faces_tensor,
            model.lmk_faces_idx[None].repeat(4, 1),
            model.lmk_bary_coords[None].repeat(4, 1, 1),
        ),
    ]
    for call in calls:
        results = []
        for module in (ours, theirs):
            g.manual_seed(5)
            results.append(call(module))
        torch.testing.assert_close(results[0], results[1], **FLOAT64)


@pytest.mark.parametrize("matrices", [False, True])
def test_the_rows_of_the_contour(folder: Path, matrices: bool) -> None:
    model = ours.create(folder, "smplx", use_face_contour=True)
    chain = theirs.utils.find_joint_kin_chain(12, model.parents)
    assert [int(joint) for joint in chain] == model.neck_kin_chain.tolist()
    pose = torch.randn(50, 165) * 0.7
    if matrices:
        pose = theirs.lbs.batch_rodrigues(pose.reshape(-1, 3)).reshape(50, 55, 3, 3)
    tables = (model.dynamic_lmk_faces_idx, model.dynamic_lmk_bary_coords, model.neck_kin_chain)
    vertices = torch.zeros(50, models.VERTICES, 3)
    found, wanted = (
        m.lbs.find_dynamic_lmk_idx_and_bcoords(vertices, pose, *tables, pose2rot=not matrices) for m in (ours, theirs)
    )
    torch.testing.assert_close(found, wanted)
