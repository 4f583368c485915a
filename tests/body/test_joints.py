"""smplx::joints; and joints from directions, which are smplx::blend_shapes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatorch import reference
from contract import OperatorTests

smplx = torch.ops.smplx


def random(*size: int) -> Tensor:
    return torch.randn(*size, dtype=torch.double)


class TestJoints(OperatorTests):
    name = "joints"
    batched = (0,)
    differentiable = (0, 1)

    def inputs(self, batch: int) -> list[Tensor]:
        return [random(batch, 5, 3), random(2, 5)]

    def reference(self, v_shaped: Tensor, J_regressor: Tensor) -> Tensor:
        return reference.joints_from_vertices(v_shaped, J_regressor)


@pytest.mark.parametrize(("vertices", "joints"), [(0, 2), (1, 1), (4, 0), (1031, 55)])
@pytest.mark.parametrize("batch", [0, 1, 7])
def test_sizes(vertices: int, joints: int, batch: int, device: str) -> None:
    v_shaped, J_regressor = random(batch, vertices, 3).to(device), random(joints, vertices).to(device)
    torch.testing.assert_close(
        smplx.joints(v_shaped, J_regressor), reference.joints_from_vertices(v_shaped, J_regressor)
    )


def test_folded_directions_are_blend_shapes(device: str) -> None:
    """Regressing the shaped body and blending the regressed template and directions is the same."""
    template, dirs, coefficients, J_regressor = (
        x.to(device) for x in (random(9, 3), random(9, 3, 4), random(5, 4), random(3, 9))
    )
    J_template, J_shapedirs = J_regressor @ template, torch.einsum("jv,vxc->jxc", J_regressor, dirs)
    found = smplx.blend_shapes(J_template, J_shapedirs, coefficients)
    torch.testing.assert_close(found, reference.joints_from_directions(coefficients, J_template, J_shapedirs))
    torch.testing.assert_close(found, smplx.joints(smplx.blend_shapes(template, dirs, coefficients), J_regressor))


def test_wrong_shapes_are_sentences(device: str) -> None:
    with pytest.raises(ValueError, match=r"smplx::joints: v_shaped has shape \[5, 3\], expected \[\*, \*, 3\]"):
        smplx.joints(torch.zeros(5, 3, device=device), torch.zeros(2, 5, device=device))
    with pytest.raises(ValueError, match=r"smplx::joints: J_regressor has shape \[2, 4\], expected \[\*, 5\]"):
        smplx.joints(torch.zeros(1, 5, 3, device=device), torch.zeros(2, 4, device=device))
