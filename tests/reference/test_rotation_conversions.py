"""Rotation formats: there and back, against SciPy, and their derivatives at the identity."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from avatorch.reference import rotation_conversions as convert

ANGLES = [0.0, 1e-9, 1e-4, 0.1, 1.0, 2.0, 3.0, math.pi - 1e-3]


def axis_angles(angle: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    axis = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    return angle * axis / axis.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("angle", ANGLES)
def test_there_and_back(angle):
    r = axis_angles(angle)
    R = convert.axis_angle_to_matrix(r)
    torch.testing.assert_close(convert.matrix_to_axis_angle(R), r, rtol=0, atol=1e-12)
    torch.testing.assert_close(convert.quaternion_to_matrix(convert.matrix_to_quaternion(R)), R, rtol=0, atol=1e-14)
    torch.testing.assert_close(
        convert.quaternion_to_matrix(-2.5 * convert.matrix_to_quaternion(R)), R, rtol=0, atol=1e-14
    )
    torch.testing.assert_close(convert.six_d_to_matrix(convert.matrix_to_six_d(R)), R, rtol=0, atol=1e-14)


def test_half_turns():
    R = convert.axis_angle_to_matrix(axis_angles(math.pi))
    r = convert.matrix_to_axis_angle(R)
    torch.testing.assert_close(r.norm(dim=-1), torch.full((50,), math.pi, dtype=r.dtype), rtol=0, atol=1e-7)
    torch.testing.assert_close(convert.axis_angle_to_matrix(r), R, rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", ANGLES)
def test_against_scipy(angle):
    transform = pytest.importorskip("scipy.spatial.transform", reason="SciPy is not installed")
    r = axis_angles(angle)
    theirs = transform.Rotation.from_rotvec(r.numpy())
    matrix = torch.from_numpy(theirs.as_matrix())
    quaternion = torch.from_numpy(theirs.as_quat(canonical=True))[:, [3, 0, 1, 2]]
    torch.testing.assert_close(convert.axis_angle_to_matrix(r), matrix, rtol=0, atol=1e-14)
    torch.testing.assert_close(convert.axis_angle_to_quaternion(r), quaternion, rtol=0, atol=1e-14)
    torch.testing.assert_close(convert.quaternion_to_axis_angle(quaternion), r, rtol=0, atol=1e-13)


def test_six_numbers_that_are_no_rotation_become_one():
    six = torch.randn(20, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    R = convert.six_d_to_matrix(six)
    torch.testing.assert_close(R.mT @ R, torch.eye(3, dtype=R.dtype).expand_as(R), rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(20, dtype=R.dtype), rtol=0, atol=1e-14)
    along = torch.nn.functional.normalize(six[:, :3], dim=-1)
    torch.testing.assert_close(R[:, :, 0], along, rtol=0, atol=1e-14)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.15, 0.25, 1.0, 3.0])
def test_derivatives_match_finite_differences(angle):
    r = axis_angles(angle)[:4]
    quaternion = convert.axis_angle_to_quaternion(r)
    six = convert.matrix_to_six_d(convert.axis_angle_to_matrix(r))
    assert gradcheck(convert.quaternion_to_axis_angle, quaternion.requires_grad_())
    assert gradcheck(convert.quaternion_to_matrix, quaternion)
    assert gradcheck(convert.six_d_to_matrix, six.requires_grad_())
    assert gradcheck(lambda r: convert.matrix_to_axis_angle(convert.axis_angle_to_matrix(r)), r.requires_grad_())
