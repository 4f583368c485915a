"""The whole body: its limits, its arguments, and its derivatives against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from avatorch.reference import Body, forward, rodrigues


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def arguments(model: dict[str, torch.Tensor], batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Shape coefficients [B, C], pose [B, 3 J] and transl [B, 3]."""
    num_coefficients, num_joints = model["shapedirs"].shape[-1], len(model["parents"])
    return (
        randn(batch, num_coefficients, seed=1),
        randn(batch, 3 * num_joints, seed=2),
        randn(batch, 3, seed=3),
    )


def assert_same(one: Body, other: Body, atol: float = 1e-14) -> None:
    for name, a, b in zip(Body._fields, one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_shapes(smplx_model, batch):
    body = forward(*arguments(smplx_model, batch), **smplx_model)
    assert [tuple(tensor.shape[1:]) for tensor in body] == [
        (137, 3), (55, 3), (137, 3), (55, 3), (55, 3, 3), (55, 4, 4), (137, 3),
    ]  # fmt: skip
    assert all(len(tensor) == batch for tensor in body)


def test_no_pose_leaves_the_shaped_body(smplx_model):
    coefficients, pose, _ = arguments(smplx_model, 2)
    body = forward(coefficients, torch.zeros_like(pose), None, **smplx_model)
    torch.testing.assert_close(body.vertices, body.v_shaped, rtol=0, atol=1e-13)
    torch.testing.assert_close(body.joints, body.J_shaped, rtol=0, atol=1e-13)
    torch.testing.assert_close(body.v_posed, body.v_shaped, rtol=0, atol=0)


def test_root_rotation_turns_the_body_about_its_root_joint(smplx_model):
    coefficients, pose, _ = arguments(smplx_model, 2)
    still = forward(coefficients, pose, None, **smplx_model)
    turn = rodrigues(randn(2, 3, seed=4))  # [B, 3, 3]
    rot_mats = still.rot_mats.clone()
    rot_mats[:, 0] = turn @ rot_mats[:, 0]
    turned = forward(coefficients, rot_mats, None, **smplx_model)
    root = still.J_shaped[:, :1]
    expected = torch.einsum("bxy,bvy->bvx", turn, still.vertices - root) + root
    torch.testing.assert_close(turned.vertices, expected, rtol=0, atol=1e-12)


def test_a_chain_written_out_by_hand():
    """Two joints on the x axis, each turned by a right angle about z; a point beyond the second."""
    quarter = torch.tensor([[[0.0, 0.0, torch.pi / 2]] * 2], dtype=torch.float64)
    body = forward(
        torch.zeros(1, 0, dtype=torch.float64),
        quarter,
        torch.tensor([[0.0, 0.0, 5.0]], dtype=torch.float64),
        v_template=torch.tensor([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64),
        shapedirs=torch.zeros(2, 3, 0, dtype=torch.float64),
        posedirs=None,
        parents=torch.tensor([-1, 0]),
        lbs_weights=torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64),
        J_template=torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]], dtype=torch.float64),
        J_shapedirs=torch.zeros(2, 3, 0, dtype=torch.float64),
    )
    joints = torch.tensor([[[1.0, 0.0, 5.0], [1.0, 1.0, 5.0]]], dtype=torch.float64)
    vertices = torch.tensor([[[0.0, 1.0, 5.0], [0.5, 1.5, 5.0]]], dtype=torch.float64)
    torch.testing.assert_close(body.joints, joints, rtol=0, atol=1e-15)
    torch.testing.assert_close(body.vertices, vertices, rtol=0, atol=1e-15)


def test_the_forms_of_the_pose_agree(smplx_model):
    coefficients, pose, transl = arguments(smplx_model, 3)
    flat = forward(coefficients, pose, transl, **smplx_model)
    assert_same(flat, forward(coefficients, pose.unflatten(-1, (-1, 3)), transl, **smplx_model))
    assert_same(flat, forward(coefficients, flat.rot_mats, transl, **smplx_model))


def test_a_batch_of_one_broadcasts(smplx_model):
    coefficients, pose, transl = arguments(smplx_model, 3)
    for one in range(3):
        mixed = [tensor[:1] if i == one else tensor for i, tensor in enumerate((coefficients, pose, transl))]
        repeated = [tensor[:1].expand(3, -1) if i == one else tensor for i, tensor in enumerate(mixed)]
        assert_same(forward(*mixed, **smplx_model), forward(*repeated, **smplx_model), atol=1e-12)


def test_joint_directions_agree_with_the_regressor(smplx_model):
    inputs = arguments(smplx_model, 2)
    regressed = forward(*inputs, **smplx_model)
    others = {name: tensor for name, tensor in smplx_model.items() if name != "J_regressor"}
    J_regressor = smplx_model["J_regressor"]
    J_template = J_regressor @ smplx_model["v_template"]
    J_shapedirs = torch.einsum("jv,vxc->jxc", J_regressor, smplx_model["shapedirs"])
    precomputed = forward(*inputs, **others, J_template=J_template, J_shapedirs=J_shapedirs)
    assert_same(regressed, precomputed, atol=1e-12)


def test_offsets_and_a_template_for_each_body(smplx_model):
    coefficients, pose, transl = arguments(smplx_model, 2)
    vertex_offsets, joint_offsets = randn(2, 137, 3, seed=5), randn(2, 55, 3, seed=6)
    plain = forward(coefficients, pose, transl, **smplx_model)
    offset = forward(
        coefficients, pose, transl, **smplx_model, vertex_offsets=vertex_offsets, joint_offsets=joint_offsets
    )
    torch.testing.assert_close(offset.v_shaped, plain.v_shaped)
    torch.testing.assert_close(offset.v_posed, plain.v_posed + vertex_offsets)
    torch.testing.assert_close(offset.J_shaped, plain.J_shaped + joint_offsets)

    templates = smplx_model["v_template"] + vertex_offsets  # the joints follow a template
    own = forward(coefficients, pose, transl, **smplx_model | {"v_template": templates})
    moved = torch.einsum("jv,bvx->bjx", smplx_model["J_regressor"], vertex_offsets)
    same = forward(coefficients, pose, transl, **smplx_model, vertex_offsets=vertex_offsets, joint_offsets=moved)
    # Offsets come after the shaped body, a template before it.
    assert_same(own, same._replace(v_shaped=same.v_shaped + vertex_offsets), atol=1e-12)


def test_first_derivatives_reach_every_tensor(small_model):
    names = ["v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights"]
    parents = small_model["parents"]

    def run(coefficients, pose, transl, vertex_offsets, joint_offsets, *tensors):
        model = dict(zip(names, tensors, strict=True))
        return forward(
            coefficients,
            pose,
            transl,
            parents=parents,
            vertex_offsets=vertex_offsets,
            joint_offsets=joint_offsets,
            **model,
        )

    inputs = [*arguments(small_model, 2), randn(2, 3, 3, seed=5), randn(2, 4, 3, seed=6)]
    tensors = [tensor.clone().requires_grad_() for tensor in (*inputs, *(small_model[name] for name in names))]
    assert gradcheck(lambda *tensors: tuple(run(*tensors)), tensors)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_second_derivatives(small_model, scale):
    coefficients, pose, transl = arguments(small_model, 1)
    inputs = [tensor.requires_grad_() for tensor in (coefficients, scale * pose, transl)]
    assert gradgradcheck(lambda *inputs: forward(*inputs, **small_model)[:2], inputs)


def test_second_derivatives_through_rotation_matrices(small_model):
    coefficients, pose, _ = arguments(small_model, 1)
    rot_mats = rodrigues(pose.unflatten(-1, (-1, 3))).requires_grad_()
    inputs = [coefficients.requires_grad_(), rot_mats]
    assert gradgradcheck(lambda c, R: forward(c, R, None, **small_model).vertices, inputs)


def test_float32_follows_float64(smplx_model):
    inputs = arguments(smplx_model, 2)
    exact = forward(*inputs, **smplx_model)
    narrow = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in smplx_model.items()}
    body = forward(*(tensor.float() for tensor in inputs), **narrow)
    assert all(tensor.dtype == torch.float32 for tensor in body)
    assert (body.vertices - exact.vertices).abs().max() < 2e-5 * exact.vertices.abs().max()
