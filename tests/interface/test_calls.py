"""How a body may be called: by name, with any leading dimensions, with any kind of rotation."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor

import avatorch
from model import synthetic

J, V = 55, 60


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> avatorch.Body:
    path = tmp_path_factory.mktemp("model") / "SMPLX_NEUTRAL.npz"
    synthetic.save_npz(path, synthetic.smplx(vertices=V, faces=40))
    return avatorch.Body.load(path, dtype=torch.double)


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def same(found: avatorch.Posed, wanted: avatorch.Posed) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (2, 1, 3), (0,), (2, 0)])
def test_leading_dimensions(body: avatorch.Body, batch: tuple[int, ...]) -> None:
    betas, pose, transl = random(*batch, 7), 0.5 * random(*batch, J, 3), random(*batch, 3)
    offsets = random(*batch, V, 3)
    found = body(betas=betas, pose=pose, transl=transl, vertex_offsets=offsets)
    assert found.vertices.shape == (*batch, V, 3) and found.A_global.shape == (*batch, J, 4, 4)
    wanted = body(
        betas=betas.reshape(-1, 7),
        pose=pose.reshape(-1, 3 * J),
        transl=transl.reshape(-1, 3),
        vertex_offsets=offsets.reshape(-1, V, 3),
    )
    same(avatorch.Posed(*(x.reshape(y.shape) for x, y in zip(found, wanted, strict=True))), wanted)


def test_leading_dimensions_broadcast(body: avatorch.Body) -> None:
    betas, pose, transl = random(5, 1, 10), 0.5 * random(4, J, 3), random(3)
    found = body(betas=betas, pose=pose, transl=transl)
    assert found.joints.shape == (5, 4, J, 3)
    one = body(betas=betas[2, 0], pose=pose[3], transl=transl)
    assert one.joints.shape == (J, 3)
    torch.testing.assert_close(found.vertices[2, 3], one.vertices)
    with pytest.raises(ValueError, match=r"do not broadcast: \[4\] of pose, \[3\] of betas"):
        body(betas=random(3, 10), pose=random(4, J, 3))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"transl": [0.0, 0.0, 0.0]}, "transl is of type list, expected a tensor"),
        ({"betas": 1.0}, "betas is of type float, expected a tensor"),
        ({"pose": [0.0] * 3 * J}, "pose is of type list, expected a tensor"),
        ({"pose": {"jaw": None}}, "the pose of jaw is of type NoneType, expected numbers"),
        ({"pose": {"jaw": "open"}}, "the pose of jaw is of type str, expected numbers"),
    ],
)
def test_what_is_no_tensor_is_named(body: avatorch.Body, arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        body(**arguments)


def test_names_that_are_none(body: avatorch.Body) -> None:
    with pytest.raises(TypeError, match="joint is 3, expected a name"):
        body.joint(3)
    with pytest.raises(ValueError, match="rotations is 'euler', expected one of axis_angle"):
        body(rotations="euler")
    with pytest.raises(ValueError, match=r"rotations is \['matrix'\], expected one of axis_angle"):
        body(rotations=["matrix"])


def test_entries_of_a_dict_that_do_not_fit_are_named(body: avatorch.Body) -> None:
    with pytest.raises(
        ValueError, match=r"dimensions of pose do not broadcast: \[4, 3\] of jaw, \[2, 3\] of left_wrist"
    ):
        body(pose={"jaw": torch.zeros(4, 3), "left_wrist": torch.zeros(2, 3)})
    face = avatorch.open_body().subset([])
    with pytest.raises(
        ValueError, match=r"dimensions of expression do not broadcast: \[4\] of jawOpen, \[3\] of cheekPuff"
    ):
        face(expression={"jawOpen": [0.0] * 4, "cheekPuff": [0.0] * 3})
    with pytest.raises(TypeError, match="expression 'jawOpen' is of type NoneType, expected numbers"):
        face(expression={"jawOpen": None})
    assert face(betas={}).joints.shape == (104, 3)


@pytest.mark.parametrize("argument", ["transl", "joint_offsets"])
def test_a_skeleton_takes_what_a_body_takes(body: avatorch.Body, argument: str) -> None:
    skeleton = body.subset([])
    given = torch.zeros(2, 3) if argument == "transl" else torch.zeros(2, J, 3)
    for dtype in (torch.bool, torch.int64, torch.float16, torch.complex128):
        with pytest.raises(
            TypeError, match=f"{argument} is {str(dtype)[6:]}, expected {str(body.v_template.dtype)[6:]}"
        ):
            skeleton(**{argument: given.to(dtype)})
    with pytest.raises(ValueError, match=f"{argument} is on meta, expected cpu as v_template"):
        skeleton(**{argument: given.to("meta", body.v_template.dtype)})


def test_a_write_while_a_body_is_prepared_is_noticed(body: avatorch.Body, monkeypatch: pytest.MonkeyPatch) -> None:
    own = copy.deepcopy(body)
    prepare = avatorch.rig.Rig.prepare

    def meanwhile(rig: avatorch.rig.Rig) -> avatorch.rig.Rig:
        made = prepare(rig)
        own.lbs_weights.mul_(2)  # another thread's
        return made

    with monkeypatch.context() as patched:
        patched.setattr(avatorch.rig.Rig, "prepare", meanwhile)
        own.prepare()
    torch.testing.assert_close(own().vertices, 2 * body().vertices)


def test_without_intermediates(body: avatorch.Body) -> None:
    found = body(pose=random(2, 2, J, 3), intermediates=False)
    assert found.vertices.shape == (2, 2, V, 3) and found.v_posed.numel() == 0


def test_kinds_of_rotation(body: avatorch.Body) -> None:
    vectors = 0.8 * random(2, 3, J, 3)
    wanted = body(pose=vectors)
    matrices = torch.ops.smplx.rodrigues(vectors)
    same(body(pose=matrices, rotations="matrix"), wanted)
    same(body(pose=torch.ops.smplx.rotvec_to_quaternion(vectors) * 1.7, rotations="quaternion"), wanted)
    same(body(pose=torch.ops.smplx.matrix_to_sixd(matrices), rotations="sixd"), wanted)
    with pytest.raises(ValueError, match=r"pose has shape \[2, 3, 55, 3, 3\].*it would fit rotations='matrix'"):
        body(pose=matrices)
    with pytest.raises(ValueError, match=r"expected \[\.\.\., 55, 4\] for rotations='quaternion'"):
        body(pose=vectors[..., :2], rotations="quaternion")
    with pytest.raises(ValueError, match="rotations is 'euler', expected one of axis_angle"):
        body(pose=vectors, rotations="euler")  # type: ignore[arg-type]


def test_a_rig_of_three_joints_is_not_ambiguous(tmp_path: Path) -> None:
    synthetic.save_npz(tmp_path / "rig.npz", synthetic.generic(vertices=9, joints=3))
    body = avatorch.Body.load(tmp_path / "rig.npz", dtype=torch.double)
    vectors = random(3, 3, 3)
    assert body(pose=vectors).vertices.shape == (3, 9, 3)
    assert body(pose=vectors, rotations="matrix").vertices.shape == (9, 3)


@pytest.mark.parametrize("kind", ["axis_angle", "quaternion", "sixd", "matrix"])
def test_joints_by_name(body: avatorch.Body, kind: str) -> None:
    elbow, jaw = 0.5 * random(4, 3), torch.tensor([0.2, 0.0, 0.0]).double()
    vectors = torch.zeros(4, J, 3).double()
    vectors[:, body.joint("left_elbow")], vectors[:, body.joint("jaw")] = elbow, jaw
    matrices = torch.ops.smplx.rodrigues
    change = {
        "axis_angle": lambda r: r,
        "quaternion": torch.ops.smplx.rotvec_to_quaternion,
        "sixd": lambda r: torch.ops.smplx.matrix_to_sixd(matrices(r)),
        "matrix": matrices,
    }[kind]
    elbow.requires_grad_()
    found = body(pose={"left_elbow": change(elbow), "jaw": change(jaw)}, rotations=kind)
    same(found, body(pose=vectors))
    found.vertices.sum().backward()
    assert elbow.grad is not None and elbow.grad.abs().sum() > 0


def test_wrong_names_are_sentences(body: avatorch.Body, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no joint 'left_elbo'; did you mean left_elbow"):
        body(pose={"left_elbo": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"the pose of jaw has shape \[4\], expected \[\.\.\., 3\]"):
        body(pose={"jaw": torch.zeros(4)})
    with pytest.raises(KeyError, match="has no names; use a tensor"):
        body(expression={"jawOpen": 1.0})
    with pytest.raises(ValueError, match=r"transl has shape \[2\], expected \[\.\.\., 3\]"):
        body(transl=torch.zeros(2))


def test_coefficients_by_name() -> None:
    body = avatorch.open_body()
    expression = torch.zeros(3, 52)
    expression[:, body.expression_names.index("jawOpen")] = torch.tensor([0.1, 0.5, 0.9])
    expression[:, body.expression_names.index("eyeBlinkLeft")] = 1.0
    found = body(expression={"jawOpen": torch.tensor([0.1, 0.5, 0.9]), "eyeBlinkLeft": 1.0})
    torch.testing.assert_close(found.vertices, body(expression=expression).vertices)


def test_every_published_joint_has_a_name(tmp_path: Path) -> None:
    for family in ("smpl", "smplh", "smplx", "mano", "flame"):
        path = synthetic.save_npz(tmp_path / f"{family}.npz", getattr(synthetic, family)(vertices=9, faces=5))
        body = avatorch.Body.load(path)
        assert len(body.joint_names) == len(set(body.joint_names)) == body.num_joints


def test_subsets(body: avatorch.Body) -> None:
    given = {"betas": random(2, 10), "pose": 0.5 * random(2, J, 3), "transl": random(2, 3)}
    whole = body(**given)
    chosen = [5, 2, 40]
    part = body.subset(chosen)
    found = part(**given)
    torch.testing.assert_close(found.vertices, whole.vertices[:, chosen], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.joints, whole.joints, rtol=1e-12, atol=1e-12)
    assert all(face in torch.tensor(chosen)[part.faces].tolist() for face in [
        face for face in body.faces.tolist() if set(face) <= set(chosen)
    ])  # fmt: skip
    skeleton = body.subset([])(**given)
    assert skeleton.vertices.shape == (2, 0, 3)
    torch.testing.assert_close(skeleton.joints, whole.joints, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(skeleton.A_global, whole.A_global, rtol=1e-12, atol=1e-12)
    assert part.joint("jaw") == body.joint("jaw")


def test_compiled_and_mapped(body: avatorch.Body) -> None:
    elbow = 0.5 * random(4, 3)

    def call(elbow: Tensor) -> Tensor:
        return body(pose={"left_elbow": elbow}).joints

    torch.testing.assert_close(torch.compile(call, fullgraph=True, backend="aot_eager")(elbow), call(elbow))
    torch.testing.assert_close(torch.func.vmap(call)(elbow), call(elbow))


class Vertices(torch.nn.Module):
    """A body in a network."""

    def __init__(self, body: avatorch.Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, pose: Tensor) -> Tensor:
        return self.body(pose=pose).vertices


def test_an_exported_body_holds_its_model_once_and_as_buffers(body: avatorch.Body) -> None:
    pose = torch.zeros(2, J, 3, dtype=body.v_template.dtype)
    written = io.BytesIO()
    torch.export.save(torch.export.export(Vertices(body), (pose,)), written)
    model = sum(buffer.numel() * buffer.element_size() for buffer in body.buffers())
    prepared = sum(tensor.numel() * tensor.element_size() for tensor in body.rig().prepared)
    assert model < len(written.getvalue()) < 1.5 * model + prepared + 200_000
    program = torch.export.load(io.BytesIO(written.getvalue())).module()
    torch.testing.assert_close(program(pose), body(pose=pose).vertices)
    changed = {name: value + 1 if name == "body.v_template" else value for name, value in program.state_dict().items()}
    program.load_state_dict(changed)
    with pytest.raises(
        ValueError, match=r"v_template is not the tensor that smplx::prepare looked at|was changed in place"
    ):
        program(pose)


def test_a_buffer_that_is_replaced_is_followed(body: avatorch.Body) -> None:
    pose = 0.5 * random(1, J, 3)
    before = body(pose=pose).vertices
    template = body.v_template
    body.v_template = template + 1
    moved = body(pose=pose).vertices
    body.v_template = template
    assert not torch.allclose(before, moved)
    torch.testing.assert_close(body(pose=pose).vertices, before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    body = avatorch.open_body()
    pose, expression = {"wrist.L": torch.tensor([0.3, -0.2, 0.1])}, {"jawOpen": torch.tensor([0.2, 0.8])}
    wanted = body(pose=pose, expression=expression, intermediates=False)
    body.cuda()
    for part, chosen in ((body, range(13718)), (body.subset([7, 3000]), [7, 3000]), (body.subset([]), [])):
        found = part(pose=pose, expression=expression, intermediates=False)
        torch.testing.assert_close(found.vertices.cpu(), wanted.vertices[:, list(chosen)], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.joints.cpu(), wanted.joints, rtol=1e-5, atol=1e-5)


def test_a_skeleton_of_no_poses(body: avatorch.Body) -> None:
    joints = body.num_joints
    for shape in ((0, joints, 3), (0, 3 * joints), (2, 0, joints, 3)):
        pose = torch.zeros(shape, dtype=body.v_template.dtype)
        assert body.subset([])(pose=pose).joints.shape == body(pose=pose).joints.shape


def test_a_skeleton_without_memory(body: avatorch.Body) -> None:
    pose, transl = torch.zeros(4, J, 3, dtype=torch.double, device="meta"), random(4, 3).to("meta")
    joints = copy.deepcopy(body).subset([]).to("meta")(pose=pose, transl=transl).joints
    assert joints.is_meta and joints.shape == (4, J, 3)


def test_a_subset_by_mask_or_indices_and_nothing_else() -> None:
    body = avatorch.open_body()
    mask = torch.zeros(len(body.v_template), dtype=torch.bool)
    mask[[5, 9]] = True
    torch.testing.assert_close(body.subset(mask)().vertices, body().vertices[:, [5, 9]])
    for wrong in ([0.9], mask[:3], [[1, 2]]):
        with pytest.raises(ValueError, match=r"Body\.subset: vertices has shape"):
            body.subset(wrong)
    for wrong in (None, "all", {1, 2}):
        with pytest.raises(TypeError, match=r"Body\.subset: vertices is of type"):
            body.subset(wrong)
    for wrong in ([13718], [0, -13719]):
        with pytest.raises(IndexError, match=r"Body\.subset: vertices holds .* expected -13718 to 13717"):
            body.subset(wrong)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_autocast_of_every_mixture(narrow: torch.dtype) -> None:
    for body in (avatorch.open_body(), avatorch.open_body().to(narrow)):
        for dtype in (narrow, torch.float32):
            with torch.autocast("cpu", dtype=narrow):
                posed = body(betas=torch.ones(2, 3, dtype=dtype), pose=torch.zeros(2, 312, dtype=dtype))
            assert posed.vertices.dtype == torch.float32 and posed.vertices.isfinite().all()


def test_content_that_lacks_something() -> None:
    with pytest.raises(ValueError, match=r"Body: content lacks family, num_betas, .*faces, expected what a model file"):
        avatorch.Body({})
