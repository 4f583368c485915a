"""smplx::landmarks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from avatorch import reference
from contract import OperatorTests

smplx = torch.ops.smplx
double = torch.double


class TestLandmarks(OperatorTests):
    """The same landmarks on every body."""

    name = "landmarks"
    run_to_run = 1e-12
    batched = (0,)
    differentiable = (0, 3)

    def inputs(self, batch: int) -> list[Any]:
        faces, chosen = torch.randint(5, (7, 3)), torch.randint(7, (4,))
        return [torch.randn(batch, 5, 3, dtype=double), faces, chosen, torch.rand(4, 3, dtype=double)]

    def reference(self, *inputs: Tensor) -> Tensor:
        return reference.landmarks(*inputs)


class TestLandmarksOfEachBody(TestLandmarks):
    """Faces and shares chosen for each body, as contours are."""

    batched = (0, 2, 3)

    def inputs(self, batch: int) -> list[Any]:
        faces, chosen = torch.randint(5, (7, 3)), torch.randint(7, (batch, 4))
        return [torch.randn(batch, 5, 3, dtype=double), faces, chosen, torch.rand(batch, 4, 3, dtype=double)]


@pytest.mark.parametrize("vertices", [1, 3])
@pytest.mark.parametrize("faces", [(), (1,), (3,)])
@pytest.mark.parametrize("shares", [(), (1,), (3,)])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_batch_of_one_broadcasts(
    vertices: int, faces: tuple[int, ...], shares: tuple[int, ...], count: int, device: str
) -> None:
    batch = max((vertices, *faces, *shares))
    points = torch.randn(vertices, 8, 3, dtype=double, device=device, requires_grad=True)
    weights = torch.rand(*shares, count, 3, dtype=double, device=device, requires_grad=True)
    table, chosen = torch.randint(8, (6, 3), device=device), torch.randint(6, (*faces, count), device=device)
    found = smplx.landmarks(points, table, chosen, weights)
    assert found.shape == (batch, count, 3)
    expected = reference.landmarks(points.expand(batch, -1, -1), table, chosen, weights)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y.sin().sum(), (points, weights)) for y in (found, expected)))


def test_a_vertex_used_often_gathers_every_gradient(device: str) -> None:
    vertices = torch.randn(2, 3, 3, dtype=double, device=device, requires_grad=True)
    faces = torch.tensor([[0, 0, 1]], device=device)
    chosen, shares = (
        torch.zeros(1000, dtype=torch.long, device=device),
        torch.full((1000, 3), 0.25, dtype=double, device=device),
    )
    (g,) = torch.autograd.grad(smplx.landmarks(vertices, faces, chosen, shares).sum(), vertices)
    expected = torch.tensor([500.0, 250.0, 0.0], dtype=double, device=device)
    torch.testing.assert_close(g, expected[None, :, None].expand(2, 3, 3))


def test_wrong_arguments_are_sentences(device: str) -> None:
    vertices, shares = torch.zeros(2, 8, 3, device=device), torch.zeros(5, 3, device=device)
    faces, chosen = torch.zeros(6, 3, dtype=torch.long, device=device), torch.zeros(5, dtype=torch.long, device=device)
    for given, sentence in (
        ((vertices[0], faces, chosen, shares), r"vertices has shape \[8, 3\], expected \[\*, \*, 3\]"),
        ((vertices, faces[:, :2], chosen, shares), r"faces has shape \[6, 2\], expected \[\*, 3\]"),
        ((vertices, faces, chosen[0], shares), r"face_indices has shape \[\], expected 1 or 2 dimensions"),
        ((vertices, faces, chosen.expand(3, 5), shares), r"face_indices has shape \[3, 5\], expected \[2, 5\]"),
        ((vertices, faces, chosen, shares[:4]), r"barycentric has shape \[4, 3\], expected \[5, 3\]"),
        ((vertices, faces, chosen, shares.expand(3, 5, 3)), r"barycentric has shape \[3, 5, 3\], expected \[2, 5, 3\]"),
    ):
        with pytest.raises(ValueError, match=rf"smplx::landmarks: {sentence}"):
            smplx.landmarks(*given)
    with pytest.raises(TypeError, match="smplx::landmarks: faces is int32, expected int64"):
        smplx.landmarks(vertices, faces.int(), chosen, shares)
    with pytest.raises(TypeError, match="smplx::landmarks: face_indices is float32, expected int64"):
        smplx.landmarks(vertices, faces, chosen.float(), shares)


def test_a_face_that_does_not_exist_is_an_index_error() -> None:
    vertices, shares = torch.zeros(2, 8, 3), torch.zeros(1, 3)
    for faces, chosen, sentence in (
        ([[0, 1, 2]], 1, "face_indices holds 1, expected 0 to 0"),
        ([[0, 1, 2]], -1, "face_indices holds -1, expected 0 to 0"),
        ([[0, 1, 8]], 0, "faces holds 8, expected 0 to 7"),
    ):
        for indices in (torch.tensor([chosen]), torch.tensor([[chosen], [chosen]])):
            with pytest.raises(IndexError, match=f"smplx::landmarks: {sentence}"):
                smplx.landmarks(vertices, torch.tensor(faces), indices, shares)
    with pytest.raises(TypeError, match="smplx::landmarks: faces is missing, expected a tensor"):
        smplx.landmarks(vertices, None, indices, shares)
