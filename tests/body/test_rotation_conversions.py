"""Conversions between rotation matrices, axis-angle vectors, quaternions and 6D columns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.func import jacfwd, jacrev

from avatorch.reference import rodrigues, rotation_conversions
from contract import NodeTests, OperatorTests

smplx = torch.ops.smplx
double = torch.double
ANGLES = [0.0, 1e-300, 1e-12, 1e-8, 1e-4, 1e-2, 0.19, 0.2, 1.0, math.pi / 2, 2.0, 3.0, math.pi - 1e-4, math.pi - 1e-8]


def vectors(count: int, angle: float | None = None) -> Tensor:
    """Axis-angle vectors about random axes and the three coordinate axes, of this angle or of random ones up to 2.5."""
    axes = (
        torch.cat([torch.eye(3, dtype=double), torch.randn(count, 3, dtype=double)])[-count:]
        if count
        else torch.zeros(0, 3, dtype=double)
    )
    angles = (
        torch.full((count, 1), angle, dtype=double) if angle is not None else 2.5 * torch.rand(count, 1, dtype=double)
    )
    return angles * torch.nn.functional.normalize(axes, dim=-1)


class TestMatrixToRotvec(OperatorTests):
    name = "matrix_to_rotvec"
    tolerance = 1e-8

    def inputs(self, batch: int) -> list[Tensor]:
        return [rodrigues(vectors(batch))]

    def reference(self, matrix: Tensor) -> Tensor:
        return rotation_conversions.matrix_to_axis_angle(matrix)


class TestMatrixToQuaternion(OperatorTests):
    name = "matrix_to_quaternion"

    def inputs(self, batch: int) -> list[Tensor]:
        return [rodrigues(vectors(batch))]

    def reference(self, matrix: Tensor) -> Tensor:
        return rotation_conversions.matrix_to_quaternion(matrix)


class TestRotvecToQuaternion(NodeTests):
    name = "rotvec_to_quaternion"

    def inputs(self, batch: int) -> list[Tensor]:
        return [vectors(batch)]

    def reference(self, rotvec: Tensor) -> Tensor:
        return rotation_conversions.axis_angle_to_quaternion(rotvec)


class TestQuaternionToRotvec(OperatorTests):
    name = "quaternion_to_rotvec"
    tolerance = 1e-8

    def inputs(self, batch: int) -> list[Tensor]:
        return [torch.randn(batch, 4, dtype=double)]

    def reference(self, quaternion: Tensor) -> Tensor:
        return rotation_conversions.quaternion_to_axis_angle(quaternion)


class TestQuaternionToMatrix(OperatorTests):
    name = "quaternion_to_matrix"

    def inputs(self, batch: int) -> list[Tensor]:
        return [torch.randn(batch, 4, dtype=double)]

    def reference(self, quaternion: Tensor) -> Tensor:
        return rotation_conversions.quaternion_to_matrix(quaternion)


class TestSixdToMatrix(OperatorTests):
    name = "sixd_to_matrix"

    def inputs(self, batch: int) -> list[Tensor]:
        columns = rotation_conversions.matrix_to_six_d(rodrigues(vectors(batch)))
        return [columns + 0.2 * torch.randn(batch, 6, dtype=double)]  # not nearly parallel: that would be ill-posed

    def reference(self, sixd: Tensor) -> Tensor:
        return rotation_conversions.six_d_to_matrix(sixd)


class TestMatrixToSixd(OperatorTests):
    name = "matrix_to_sixd"

    def inputs(self, batch: int) -> list[Tensor]:
        return [rodrigues(vectors(batch))]

    def reference(self, matrix: Tensor) -> Tensor:
        return rotation_conversions.matrix_to_six_d(matrix)


CONVERSIONS = {
    "matrix_to_rotvec": ((3, 3), (3,)),
    "matrix_to_quaternion": ((3, 3), (4,)),
    "matrix_to_sixd": ((3, 3), (6,)),
    "rotvec_to_quaternion": ((3,), (4,)),
    "quaternion_to_rotvec": ((4,), (3,)),
    "quaternion_to_matrix": ((4,), (3, 3)),
    "sixd_to_matrix": ((6,), (3, 3)),
}


@pytest.mark.parametrize("name", CONVERSIONS)
@pytest.mark.parametrize("leading", [(), (0,), (1,), (31,), (2, 0), (4, 5), (2, 3, 4)])
def test_any_leading_dimensions(name: str, leading: tuple[int, ...], device: str) -> None:
    taken, returned = CONVERSIONS[name]
    x = torch.randn(*leading, *taken, dtype=double, device=device, requires_grad=True)
    operator = getattr(smplx, name)
    y = operator(x)
    assert y.shape == (*leading, *returned)
    assert torch.equal(y, operator(x.reshape(-1, *taken)).reshape(y.shape))
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape


@pytest.mark.parametrize("name", CONVERSIONS)
def test_wrong_shapes_are_sentences(name: str, device: str) -> None:
    taken, _ = CONVERSIONS[name]
    argument = name.split("_to_")[0]
    expected = ", ".join(map(str, taken))
    for shape in ((), taken[1:], (2, 5), (*taken, 2)):
        found = ", ".join(map(str, shape))
        with pytest.raises(
            ValueError, match=rf"smplx::{name}: {argument} has shape \[{found}\], expected \[\.\.\., {expected}\]"
        ):
            getattr(smplx, name)(torch.zeros(shape, device=device))


def test_agree_with_their_definitions(device: str) -> None:
    """The matrix is the exponential of the cross product matrix, the quaternion that of half the vector."""
    rotvec = vectors(500) * 1.25
    x, y, z = rotvec.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    angle = rotvec.norm(dim=-1, keepdim=True)
    quaternion = torch.cat([(angle / 2).cos(), (angle / 2).sin() * rotvec / angle], -1)
    matrix = torch.linalg.matrix_exp(cross)
    rotvec, quaternion, matrix = rotvec.to(device), quaternion.to(device), matrix.to(device)
    for found, expected in (
        (smplx.matrix_to_rotvec(matrix), rotvec),
        (smplx.matrix_to_quaternion(matrix), quaternion),
        (smplx.rotvec_to_quaternion(rotvec), quaternion),
        (smplx.quaternion_to_rotvec(quaternion), rotvec),
        (smplx.quaternion_to_rotvec(-3 * quaternion), rotvec),
        (smplx.quaternion_to_matrix(-3 * quaternion), matrix),
        (smplx.matrix_to_sixd(matrix), torch.cat([matrix[:, :, 0], matrix[:, :, 1]], -1)),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("dtype", [torch.float32, double])
def test_there_and_back(angle: float, dtype: torch.dtype, device: str) -> None:
    rounding = torch.finfo(dtype).eps
    r = vectors(20, angle).to(device, dtype)
    R = smplx.rodrigues(r)
    # Small angles are as accurate as large ones: the error is relative. Near pi a float32 may round beyond it.
    found = smplx.matrix_to_rotvec(R)
    close = {"rtol": 8 * rounding, "atol": 8 * rounding * angle}
    if angle < 3.1:
        torch.testing.assert_close(found, r, **close)
        torch.testing.assert_close(smplx.quaternion_to_rotvec(smplx.rotvec_to_quaternion(r)), r, **close)
    torch.testing.assert_close(smplx.rodrigues(found), R, rtol=0, atol=8 * rounding)
    torch.testing.assert_close(smplx.quaternion_to_matrix(smplx.matrix_to_quaternion(R)), R, rtol=0, atol=8 * rounding)
    torch.testing.assert_close(smplx.quaternion_to_matrix(smplx.rotvec_to_quaternion(r)), R, rtol=0, atol=8 * rounding)
    torch.testing.assert_close(smplx.sixd_to_matrix(smplx.matrix_to_sixd(R)), R, rtol=0, atol=8 * rounding)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("through", ["matrix", "quaternion"])
def test_the_logarithm_undoes_the_exponential_to_second_order(angle: float, through: str, device: str) -> None:
    """log(exp r) = r, so its first derivative is the identity and its second zero: at the identity and up to pi."""

    def identity(r: Tensor) -> Tensor:
        if through == "matrix":
            return smplx.matrix_to_rotvec(smplx.rodrigues(r))
        return smplx.quaternion_to_rotvec(smplx.rotvec_to_quaternion(r))

    for r in vectors(4, angle).to(device):
        eye = torch.eye(3, dtype=double, device=device)
        for first in (jacrev(identity)(r), jacfwd(identity)(r)):
            torch.testing.assert_close(first, eye, rtol=0, atol=1e-13)
        for second in (jacrev(jacrev(identity))(r), jacfwd(jacrev(identity))(r), jacfwd(jacfwd(identity))(r)):
            torch.testing.assert_close(second, torch.zeros_like(second), rtol=0, atol=1e-12)


def test_derivatives_of_the_logarithm_of_a_product_at_the_identity(device: str) -> None:
    """Against the series of the matrix logarithm, to third order."""

    def series(matrix: Tensor) -> Tensor:
        D = matrix - torch.eye(3, dtype=double, device=device)
        log = D - D @ D / 2 + D @ D @ D / 3
        return torch.stack([log[2, 1], log[0, 2], log[1, 0]])

    def product(t: Tensor) -> Tensor:
        return smplx.rodrigues(t) @ smplx.rodrigues(2 * t.flip(0))

    zero = torch.zeros(3, dtype=double, device=device)
    for order in (jacfwd, lambda f: jacfwd(jacrev(f)), lambda f: jacfwd(jacfwd(jacrev(f)))):
        found = order(lambda t: smplx.matrix_to_rotvec(product(t)))(zero)
        expected = order(lambda t: series(product(t)))(zero)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, double])
def test_at_pi_the_largest_component_is_positive_and_everything_finite(dtype: torch.dtype, device: str) -> None:
    axes = torch.nn.functional.normalize(
        torch.cat([torch.eye(3), -torch.eye(3), torch.randn(30, 3)]).to(device, double), dim=-1
    )
    exact = (
        (2 * axes.unsqueeze(-1) * axes.unsqueeze(-2) - torch.eye(3, dtype=double, device=device))
        .to(dtype)
        .requires_grad_()
    )
    exact_w = torch.cat([torch.zeros_like(axes[:, :1]), axes], -1).to(dtype).requires_grad_()
    largest = axes.abs().argmax(-1, keepdim=True)
    expected = (math.pi * axes * axes.gather(-1, largest).sign()).to(dtype)
    from_matrix, from_quaternion = smplx.matrix_to_rotvec(exact), smplx.quaternion_to_rotvec(exact_w)
    torch.testing.assert_close(from_matrix, expected, rtol=0, atol=20 * torch.finfo(dtype).eps)
    torch.testing.assert_close(from_quaternion, (math.pi * axes).to(dtype), rtol=0, atol=8 * torch.finfo(dtype).eps)
    for x, y in ((exact, from_matrix), (exact_w, from_quaternion)):
        (g,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        (h,) = torch.autograd.grad(g.sum(), x)
        assert g.isfinite().all() and h.isfinite().all()


def test_just_below_pi_the_vector_keeps_its_side(device: str) -> None:
    r = vectors(50, math.pi - 1e-7).to(device)
    torch.testing.assert_close(smplx.matrix_to_rotvec(smplx.rodrigues(r)), r, rtol=0, atol=1e-13)
    torch.testing.assert_close(smplx.matrix_to_rotvec(smplx.rodrigues(-r)), -r, rtol=0, atol=1e-13)


@pytest.mark.parametrize("factor", [1e-40, 1e-30, 1e-10, 1.0, 1e10, 1e30, 1e38])
def test_length_does_not_matter(factor: float, device: str) -> None:
    q = torch.randn(10, 4, device=device)
    a = (smplx.matrix_to_sixd(smplx.rodrigues(torch.randn(10, 3))) + 0.2 * torch.randn(10, 6)).to(device)
    for operator, x in ((smplx.quaternion_to_matrix, q), (smplx.quaternion_to_rotvec, q), (smplx.sixd_to_matrix, a)):
        scaled = (x.double() * factor).clamp(-3e38, 3e38).float().requires_grad_()
        y = operator(scaled)
        torch.testing.assert_close(y, operator(scaled.detach().double()).float(), rtol=0, atol=2e-6)
        if 1e-38 < factor < 1e38:
            (g,) = torch.autograd.grad(y.sin().sum(), scaled)
            (expected,) = torch.autograd.grad(operator(x := x.clone().requires_grad_()).sin().sum(), x)
            torch.testing.assert_close(g.double() * factor, expected.double(), rtol=1e-4, atol=1e-5)


def test_results_are_rotations(device: str) -> None:
    sixd = torch.randn(1000, 6, dtype=double, device=device)
    quaternion = torch.randn(1000, 4, dtype=double, device=device)
    for R in (smplx.sixd_to_matrix(sixd), smplx.quaternion_to_matrix(quaternion)):
        torch.testing.assert_close(
            R @ R.mT, torch.eye(3, dtype=double, device=device).expand(1000, 3, 3), rtol=0, atol=1e-11
        )
        torch.testing.assert_close(
            torch.linalg.det(R), torch.ones(1000, dtype=double, device=device), rtol=0, atol=1e-11
        )


def test_beyond_pi_the_quaternion_goes_on_smoothly(device: str) -> None:
    r = vectors(5, 5.0).to(device)
    found = smplx.rotvec_to_quaternion(r)
    expected = torch.cat([torch.full_like(r[:, :1], math.cos(2.5)), math.sin(2.5) / 5 * r], -1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(smplx.quaternion_to_rotvec(found), r * (5 - 2 * math.pi) / 5, rtol=0, atol=1e-14)


def test_degenerate_input_is_nan_and_stays_alone(device: str) -> None:
    q, a = torch.randn(5, 4, device=device), torch.randn(5, 6, device=device)
    q[2] = 0
    a[2, :3] = 0
    for y in (smplx.quaternion_to_matrix(q), smplx.quaternion_to_rotvec(q), smplx.sixd_to_matrix(a)):
        assert y[2].isnan().any() and y[[0, 1, 3, 4]].isfinite().all()
