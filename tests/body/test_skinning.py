"""smplx::skinning, smplx::skinning_transforms, smplx::skinning_weights: one form and its partial gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avatorch import reference
from contract import NodeTests, of_some
from transforms import assert_equal, joined

smplx = torch.ops.smplx
double = torch.double


def random(*size: int) -> Tensor:
    return torch.randn(*size, dtype=double)


def dense(weights: Tensor, joints: Tensor | None, joint_count: int) -> Tensor:
    """[V, K] weights of the joints [V, K], -1 for none, as [V, J]."""
    if joints is None:
        return weights
    columns = joints.long() % (joint_count + 1)  # -1 becomes one column more
    return weights.new_zeros(len(weights), joint_count + 1).scatter_add(1, columns, weights)[:, :joint_count]


def homogeneous(vertices: Tensor) -> Tensor:
    return torch.cat([vertices, torch.ones_like(vertices[..., :1])], -1)


def skinning(vertices: Tensor, transforms: Tensor, weights: Tensor, joints: Tensor | None = None) -> Tensor:
    return reference.skinning(vertices, transforms, dense(weights, joints, transforms.shape[1]))


def skinning_transforms(
    vectors: Tensor, vertices: Tensor, weights: Tensor, joints: Tensor | None, joint_count: int
) -> Tensor:
    upper = torch.einsum("vj,bvx,bvy->bjxy", dense(weights, joints, joint_count), vectors, homogeneous(vertices))
    return torch.nn.functional.pad(upper, (0, 0, 0, 1))


def skinning_weights(vectors: Tensor, vertices: Tensor, transforms: Tensor, joints: Tensor | None = None) -> Tensor:
    every = torch.einsum("bvx,bjxy,bvy->vj", vectors, transforms[:, :, :3], homogeneous(vertices))
    if joints is None:
        return every
    return torch.where(joints >= 0, every.gather(1, joints.long().clamp(min=0)), 0)


# Two influences for each of three vertices of four joints; the last vertex has one, the other is padding.
JOINTS = torch.tensor([[0, 3], [2, 1], [1, -1]], dtype=torch.int32)


class TestSkinning(NodeTests):
    name = "skinning"
    batched = (0, 1)
    differentiable = (0, 1, 2)

    def inputs(self, batch: int) -> list[Any]:
        return [random(batch, 3, 3), random(batch, 2, 4, 4), random(3, 2)]

    def reference(self, *inputs: Any) -> Tensor:
        return skinning(*inputs)


class TestSparseSkinning(TestSkinning):
    def inputs(self, batch: int) -> list[Any]:
        return [random(batch, 3, 3), random(batch, 4, 4, 4), random(3, 2), JOINTS]


class TestSkinningTransforms(NodeTests):
    name = "skinning_transforms"
    batched = (0, 1)
    differentiable = (0, 1, 2)

    def inputs(self, batch: int) -> list[Any]:
        return [random(batch, 3, 3), random(batch, 3, 3), random(3, 2), None, 2]

    def reference(self, *inputs: Any) -> Tensor:
        return skinning_transforms(*inputs)


class TestSparseSkinningTransforms(TestSkinningTransforms):
    def inputs(self, batch: int) -> list[Any]:
        return [random(batch, 3, 3), random(batch, 3, 3), random(3, 2), JOINTS, 4]


class TestSkinningWeights(NodeTests):
    name = "skinning_weights"
    batched = (0, 1, 2)
    differentiable = (0, 1, 2)
    sums_over_batch = True

    def inputs(self, batch: int) -> list[Any]:
        return [random(batch, 3, 3), random(batch, 3, 3), random(batch, 2, 4, 4)]

    def reference(self, *inputs: Any) -> Tensor:
        return skinning_weights(*inputs)


class TestSparseSkinningWeights(TestSkinningWeights):
    def inputs(self, batch: int) -> list[Any]:
        return [random(batch, 3, 3), random(batch, 3, 3), random(batch, 4, 4, 4), JOINTS]


def chosen(vertices: int, joint_count: int, influences: int) -> Tensor:
    """Different joints for each vertex, some of them padding."""
    joints = (
        torch.stack([torch.randperm(joint_count)[:influences] for _ in range(vertices)])
        if vertices
        else torch.zeros(0, influences)
    )
    return joints.masked_fill(torch.rand(joints.shape) < 0.2, -1).int()


SIZES = [
    # bodies, vertices, joints, influences; None: dense
    (1, 1, 1, None),
    (1, 1, 1, 1),
    (3, 1, 5, 5),
    (2, 17, 24, 4),
    (2, 9, 104, 104),
    (2, 5, 7, 0),
    (2, 0, 7, 3),
    (0, 9, 7, 3),
    (2, 1025, 3, 2),
    (2, 2049, 55, None),
]


@pytest.mark.parametrize(("bodies", "vertices", "joint_count", "influences"), SIZES)
def test_sizes(bodies: int, vertices: int, joint_count: int, influences: int | None, device: str) -> None:
    joints = None if influences is None else chosen(vertices, joint_count, influences).to(device)
    g, v = random(bodies, vertices, 3).to(device), random(bodies, vertices, 3).to(device)
    A = random(bodies, joint_count, 4, 4).to(device)
    w = random(vertices, joint_count if influences is None else influences).to(device)
    for operator, function, given in (
        (smplx.skinning, skinning, (v, A, w, joints)),
        (smplx.skinning_transforms, skinning_transforms, (g, v, w, joints, joint_count)),
        (smplx.skinning_weights, skinning_weights, (g, v, A, joints)),
    ):
        given = [x.requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in given]
        leaves = [x for x in given if isinstance(x, Tensor) and x.requires_grad]
        found, expected = operator(*given), function(*given)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
        slopes = (torch.autograd.grad(y.sin().sum(), leaves, allow_unused=True) for y in (found, expected))
        for one, other, leaf in zip(*slopes, leaves, strict=True):
            torch.testing.assert_close(one, torch.zeros_like(leaf) if other is None else other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("single", [0, 1, 2])
def test_a_batch_of_one_broadcasts(single: int, sparse: bool, device: str) -> None:
    joints = JOINTS.to(device) if sparse else None
    count = 4 if sparse else 2
    w = random(3, 2).to(device).requires_grad_()
    g, v, A = (x.to(device) for x in (random(5, 3, 3), random(5, 3, 3), random(5, count, 4, 4)))
    g, v, A = (x[:1] if at == single else x for at, x in enumerate((g, v, A)))
    g, v, A = (x.detach().clone().requires_grad_() for x in (g, v, A))
    for operator, function, given in (
        (smplx.skinning, skinning, (v, A, w, joints)),
        (smplx.skinning_transforms, skinning_transforms, (g, v, w, joints, count)),
        (smplx.skinning_weights, skinning_weights, (g, v, A, joints)),
    ):
        leaves = [x for x in given if isinstance(x, Tensor) and x.requires_grad]
        found, expected = operator(*given), function(*given)
        assert_equal(found, expected)
        first = [torch.autograd.grad(y.sin().sum(), leaves, create_graph=True) for y in (found, expected)]
        assert_equal(*first)
        second = [torch.autograd.grad(joined(lambda x=x: x)().sin().sum(), leaves) for x in first]  # type: ignore[misc]
        assert_equal(*second)
        positions = [at for at, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
        primals, tangents = (tuple(f(x) for x in leaves) for f in (Tensor.detach, torch.randn_like))
        jvps = [torch.func.jvp(of_some(f, given, positions), primals, tangents) for f in (operator, function)]
        assert_equal(*jvps)


@pytest.mark.parametrize("single", [0, 1])
def test_vmap_keeps_a_shared_batch_of_one(single: int, device: str) -> None:
    inputs = [x.to(device) for x in (random(3, 2, 3, 3), random(3, 2, 4, 4, 4), random(3, 2), JOINTS)]
    inputs[single] = inputs[single][0, :1]
    in_dims = tuple(None if at == single or at > 1 else 0 for at in range(4))
    found = torch.func.vmap(smplx.skinning, in_dims=in_dims)(*inputs)
    assert_equal(
        found,
        torch.stack(
            [skinning(*(x if dim is None else x[i] for x, dim in zip(inputs, in_dims, strict=True))) for i in range(3)]
        ),
    )


@pytest.mark.parametrize("mapped", [2, 3])
def test_vmap_over_the_weights_or_their_joints(mapped: int, device: str) -> None:
    inputs = [x.to(device) for x in (random(2, 3, 3), random(2, 4, 4, 4), random(3, 2), JOINTS)]
    inputs[mapped] = torch.stack([inputs[mapped], inputs[mapped].flip(0), inputs[mapped].flip(1)])
    in_dims = tuple(0 if at == mapped else None for at in range(4))
    found = torch.func.vmap(smplx.skinning, in_dims=in_dims)(*inputs)
    assert_equal(found, torch.stack([skinning(*inputs[:mapped], x, *inputs[mapped + 1 :]) for x in inputs[mapped]]))


def test_the_last_row_of_a_transform_does_not_matter(device: str) -> None:
    v, A, w = (x.to(device) for x in (random(2, 3, 3), random(2, 2, 4, 4), random(3, 2)))
    A.requires_grad_()
    found = smplx.skinning(v, A, w)
    (g,) = torch.autograd.grad(found.sum(), A)
    assert (g[:, :, 3] == 0).all()
    with torch.no_grad():
        A[:, :, 3] = torch.nan
    assert torch.equal(smplx.skinning(v, A, w), found)


def test_padding_is_never_read(device: str) -> None:
    v, A, w = (x.to(device) for x in (random(2, 3, 3), random(2, 4, 4, 4), random(3, 2)))
    joints = JOINTS.to(device)
    found = smplx.skinning(v, A, w, joints)
    w[2, 1] = torch.nan
    assert torch.equal(smplx.skinning(v, A, w, joints), found)
    assert (smplx.skinning_weights(v, v, A, joints)[2, 1] == 0).all()


def test_wrong_arguments_are_sentences(device: str) -> None:
    def zeros(*size: int) -> Tensor:
        return torch.zeros(size, device=device)

    v, A, w, joints = zeros(2, 3, 3), zeros(2, 4, 4, 4), zeros(3, 2), JOINTS.to(device)
    for operator, name, given, sentence in (
        (smplx.skinning, "skinning", (v, A, w), r"weights has shape \[3, 2\], expected \[\*, 4\]"),
        (
            smplx.skinning,
            "skinning",
            (v, A[:, :, :3], w, joints),
            r"transforms has shape \[2, 4, 3, 4\], expected \[2, \*, 4, 4\]",
        ),
        (
            smplx.skinning,
            "skinning",
            (v, zeros(3, 4, 4, 4), w, joints),
            r"transforms has shape \[3, 4, 4, 4\], expected \[2, \*, 4, 4\]",
        ),
        (smplx.skinning, "skinning", (v[:, :2], A, w, joints), r"vertices has shape \[2, 2, 3\], expected \[2, 3, 3\]"),
        (smplx.skinning, "skinning", (v[0], A, w, joints), r"vertices has shape \[3, 3\], expected 3 dimensions"),
        (smplx.skinning, "skinning", (v, A, w, joints[:, :1]), r"joints has shape \[3, 1\], expected \[3, 2\]"),
        (
            smplx.skinning_transforms,
            "skinning_transforms",
            (v, v, w, None, 3),
            r"weights has shape \[3, 2\], expected \[\*, 3\]",
        ),
        (
            smplx.skinning_transforms,
            "skinning_transforms",
            (v, zeros(3, 3, 3), w, None, 2),
            r"vertices has shape \[3, 3, 3\], expected \[2, 3, 3\]",
        ),
        (
            smplx.skinning_transforms,
            "skinning_transforms",
            (v, v, w, joints, -3),
            "joint_count is -3, expected 0 or more",
        ),
        (
            smplx.skinning_weights,
            "skinning_weights",
            (v, v[:, :2], A),
            r"vertices has shape \[2, 2, 3\], expected \[2, 3, 3\]",
        ),
        (
            smplx.skinning_weights,
            "skinning_weights",
            (v, v, A, joints[:2]),
            r"joints has shape \[2, 2\], expected \[3, 2\]",
        ),
    ):
        with pytest.raises(ValueError, match=f"smplx::{name}: {sentence}"):
            operator(*given)
    with pytest.raises(TypeError, match="smplx::skinning: joints is int64, expected int32"):
        smplx.skinning(v, A, w, joints.long())


@pytest.mark.parametrize("wrong", [4, -2])
def test_joints_out_of_range_are_index_errors(wrong: int) -> None:
    v, A, w = torch.zeros(2, 3, 3), torch.zeros(2, 4, 4, 4), torch.zeros(3, 2)
    joints = JOINTS.clone()
    joints[1, 0] = wrong
    for call in (
        lambda: smplx.skinning(v, A, w, joints),
        lambda: smplx.skinning_transforms(v, v, w, joints, 4),
        lambda: smplx.skinning_weights(v, v, A, joints),
    ):
        with pytest.raises(IndexError, match=rf"joints holds {wrong}, expected -1 to 3 for 4 joints"):
            call()
