"""Surface points against a loop, and the contour's row against the rule written out degree by degree."""

from __future__ import annotations

import math

import pytest
import torch

from avatorch.reference import contour_row, landmarks, rodrigues


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_landmarks_are_weighted_corners(batch, batched):
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(batch, 11, 3, generator=generator, dtype=torch.float64)
    faces = torch.randint(11, (17, 3), generator=generator)
    lead = (batch,) if batched else ()
    faces_idx = torch.randint(17, (*lead, 5), generator=generator)
    bary_coords = torch.rand(*lead, 5, 3, generator=generator, dtype=torch.float64)

    points = landmarks(vertices, faces, faces_idx, bary_coords)
    assert points.shape == (batch, 5, 3)
    for b in range(batch):
        for k in range(5):
            face, share = (faces_idx[b, k], bary_coords[b, k]) if batched else (faces_idx[k], bary_coords[k])
            expected = sum(share[c] * vertices[b, faces[face, c]] for c in range(3))
            torch.testing.assert_close(points[b, k], expected, rtol=0, atol=1e-14)


def turned_head(degrees: list[float]) -> torch.Tensor:
    """Rotations [B, J, 3, 3] of three joints, of which the last is turned about y."""
    axis_angle = torch.zeros(len(degrees), 3, 3, dtype=torch.float64)
    axis_angle[:, 2, 1] = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return rodrigues(axis_angle)


def test_the_row_of_each_turn():
    """Rows 0 to 39 for a = 0 to -39 degrees and beyond about y, 40 to 78 for a = 1 to 39 and beyond."""
    degrees = [0.0, -1.0, -20.2, -39.0, -60.0, 1.0, 20.2, 38.6, 39.0, 39.4, 39.6, 60.0, 89.0]
    expected = [0, 1, 20, 39, 39, 40, 59, 78, 78, 78, 78, 78, 78]
    assert contour_row(turned_head(degrees), [2, 1, 0]).tolist() == expected


def test_the_turn_is_that_of_the_whole_neck():
    half = turned_head([-15.0])
    half[:, 0] = half[:, 2]  # the root turns as much
    assert contour_row(half, [2, 1, 0]).tolist() == [30]


def test_bending_does_not_count_as_turning():
    nod = torch.zeros(1, 3, 3, dtype=torch.float64)
    nod[0, 2, 0] = math.radians(30)
    assert contour_row(rodrigues(nod), [2, 1, 0]).tolist() == [0]
