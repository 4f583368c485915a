"""smplx::kinematic_chain and its backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from avatorch import reference
from contract import NodeTests, OperatorTests
from transforms import assert_equal, joined

smplx = torch.ops.smplx
double = torch.double

SMALL = torch.tensor([-1, 0, 1, 0, -1])  # two trees; a chain, a branch, and a root alone
SMPLX = torch.tensor(
    [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
    + [
        20,
        25,
        26,
        20,
        28,
        29,
        20,
        31,
        32,
        20,
        34,
        35,
        20,
        37,
        38,
        21,
        40,
        41,
        21,
        43,
        44,
        21,
        46,
        47,
        21,
        49,
        50,
        21,
        52,
        53,
    ]
)
TREES = {
    "a joint alone": torch.tensor([-1]),
    "two joints": torch.tensor([-1, 0]),
    "five joints": SMALL,
    "roots alone": torch.full((7,), -1),
    "SMPL": SMPLX[:24].clamp(max=22),
    "SMPL-X": SMPLX,
    "a chain of 104": torch.arange(104) - 1,
    "a star of 104": torch.tensor([-1] + [0] * 103),
}


def random(*size: int) -> Tensor:
    return torch.randn(*size, dtype=double)


def rotations(*size: int) -> Tensor:
    return reference.rodrigues(random(*size, 3))


class TestKinematicChain(NodeTests):
    name = "kinematic_chain"
    batched = (0, 1)
    differentiable = (0, 1)

    def inputs(self, batch: int) -> list[Any]:
        return [rotations(batch, 5), random(batch, 5, 3), SMALL]

    def reference(self, *inputs: Any) -> Any:
        return reference.kinematic_chain(*inputs)


def pulled_back(
    grad_posed: Tensor | None, grad_transforms: Tensor | None, rot_mats: Tensor, joints: Tensor, parents: Tensor
) -> Any:
    results, pull = torch.func.vjp(lambda R, J: reference.kinematic_chain(R, J, parents), rot_mats, joints)
    given = (grad_posed, grad_transforms)
    return pull(tuple(torch.zeros_like(r) if g is None else g for g, r in zip(given, results, strict=True)))


class TestKinematicChainBackward(OperatorTests):
    name = "kinematic_chain_backward"
    batched = (0, 1, 2, 3)
    differentiable = (0, 1, 2, 3)
    leading = 2

    def inputs(self, batch: int) -> list[Any]:
        return [random(batch, 3, 3), random(batch, 3, 4, 4), rotations(batch, 3), random(batch, 3, 3), SMALL[:3]]

    def reference(self, *inputs: Any) -> Any:
        return pulled_back(*inputs)


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("batch", [0, 1, 17])
def test_trees(tree: str, batch: int, device: str) -> None:
    parents = TREES[tree].to(device)
    leaves = [x.to(device).requires_grad_() for x in (rotations(batch, len(parents)), random(batch, len(parents), 3))]
    found, expected = smplx.kinematic_chain(*leaves, parents), reference.kinematic_chain(*leaves, parents)
    assert_equal(found, expected, 1e-11)
    cotangents = [torch.randn_like(x) for x in expected]
    for which in (slice(0, 1), slice(1, 2), slice(0, 2)):
        first = [slopes(y[which], leaves, cotangents[which]) for y in (found, expected)]
        for one, other in zip(*first, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        second = [slopes([joined(lambda x=x: x)().sin().sum()], leaves, [None]) for x in first]
        for one, other in zip(*second, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-8)


def slopes(values: Sequence[Tensor], leaves: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> list[Tensor]:
    """Gradients that can be differentiated again; zero where a value does not depend on a leaf."""
    if not any(value.requires_grad for value in values):
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(values, leaves, cotangents, create_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


@pytest.mark.parametrize("tree", ["a joint alone", "five joints", "a chain of 104"])
def test_forward_mode_of_trees(tree: str, device: str) -> None:
    parents = TREES[tree].to(device)
    inputs = tuple(x.to(device) for x in (rotations(2, len(parents)), random(2, len(parents), 3)))
    tangents = tuple(torch.randn_like(x) for x in inputs)
    found, expected = (
        torch.func.jvp(lambda R, J, f=f: f(R, J, parents), inputs, tangents)  # type: ignore[misc]
        for f in (smplx.kinematic_chain, reference.kinematic_chain)
    )
    for one, other in zip(joined(lambda: found)(), joined(lambda: expected)(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("absent", [0, 1])
def test_backward_with_one_gradient_absent(absent: int, device: str) -> None:
    inputs = [x.to(device) for x in (random(2, 5, 3), random(2, 5, 4, 4), rotations(2, 5), random(2, 5, 3), SMALL)]
    given = [None if at == absent else x for at, x in enumerate(inputs)]
    assert_equal(smplx.kinematic_chain_backward(*given), pulled_back(*given))
    mapped = [None if x is None else torch.stack([x, x.flip(0)]) for x in given[:4]]
    found = torch.func.vmap(
        smplx.kinematic_chain_backward, in_dims=(*(None if x is None else 0 for x in mapped), None)
    )(*mapped, given[4])
    expected = [pulled_back(*given), pulled_back(*(None if x is None else x.flip(0) for x in given[:4]), given[4])]
    assert_equal(found, [torch.stack(same) for same in zip(*expected, strict=True)])


def test_vmap_over_the_tree(device: str) -> None:
    rot_mats, joints = rotations(2, 4).to(device), random(2, 4, 3).to(device)
    trees = torch.tensor([[-1, 0, 1, 2], [-1, -1, 0, 1], [-1, 0, 0, 0]], device=device)
    found = torch.func.vmap(smplx.kinematic_chain, in_dims=(None, None, 0))(rot_mats, joints, trees)
    expected = [reference.kinematic_chain(rot_mats, joints, tree) for tree in trees]
    assert_equal(found, [torch.stack(same) for same in zip(*expected, strict=True)])


def test_vmap_over_one_of_the_two(device: str) -> None:
    rot_mats, joints, parents = rotations(3, 1, 5).to(device), random(1, 5, 3).to(device), SMALL.to(device)
    found = torch.func.vmap(smplx.kinematic_chain, in_dims=(0, None, None))(rot_mats, joints, parents)
    assert_equal(
        found,
        [
            torch.stack(same)
            for same in zip(*(reference.kinematic_chain(R, joints, parents) for R in rot_mats), strict=True)
        ],
    )


def test_the_last_row_of_a_transform(device: str) -> None:
    _, transforms = smplx.kinematic_chain(rotations(3, 5).to(device), random(3, 5, 3).to(device), SMALL.to(device))
    assert torch.equal(transforms[:, :, 3], torch.tensor([0.0, 0, 0, 1], dtype=double, device=device).expand(3, 5, 4))


def test_wrong_shapes_are_sentences(device: str) -> None:
    rot_mats, joints, parents = (
        torch.zeros(2, 5, 3, 3, device=device),
        torch.zeros(2, 5, 3, device=device),
        SMALL.to(device),
    )
    for given, sentence in (
        ((rot_mats[0], joints, parents), r"rot_mats has shape \[5, 3, 3\], expected \[\*, \*, 3, 3\]"),
        ((rot_mats, joints[:1], parents), r"joints has shape \[1, 5, 3\], expected \[2, 5, 3\]"),
        ((rot_mats, joints[:, :4], parents), r"joints has shape \[2, 4, 3\], expected \[2, 5, 3\]"),
        ((rot_mats, joints, parents[:4]), r"parents has shape \[4\], expected \[5\]"),
    ):
        with pytest.raises(ValueError, match=f"smplx::kinematic_chain: {sentence}"):
            smplx.kinematic_chain(*given)
    with pytest.raises(TypeError, match="smplx::kinematic_chain: parents is int32, expected int64"):
        smplx.kinematic_chain(rot_mats, joints, parents.int())


@pytest.mark.parametrize(
    ("parents", "sentence"),
    [
        ([0, 0], r"parents\[0\] is 0, expected -1"),
        ([-1, 1], r"parents\[1\] is 1, expected -1 for a root or an earlier joint"),
        ([-1, 2, 0], r"parents\[1\] is 2"),
        ([-1, -2], r"parents\[1\] is -2"),
    ],
)
def test_bad_parents_are_index_errors(parents: list[int], sentence: str) -> None:
    count = len(parents)
    with pytest.raises(IndexError, match=sentence):
        smplx.kinematic_chain(torch.zeros(1, count, 3, 3), torch.zeros(1, count, 3), torch.tensor(parents))
    with pytest.raises(IndexError, match=sentence):
        smplx.kinematic_chain_backward(
            torch.zeros(1, count, 3), None, torch.zeros(1, count, 3, 3), torch.zeros(1, count, 3), torch.tensor(parents)
        )
