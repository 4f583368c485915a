"""smplx::blend_shapes and smplx::pose_correctives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatorch import reference
from contract import OperatorTests

smplx = torch.ops.smplx


def random(*size: int) -> Tensor:
    return torch.randn(*size, dtype=torch.double)


class TestBlendShapes(OperatorTests):
    name = "blend_shapes"
    batched = (2,)
    differentiable = (0, 1, 2)

    def inputs(self, batch: int) -> list[Tensor]:
        return [random(4, 3), random(4, 3, 2), random(batch, 2)]

    def reference(self, template: Tensor, dirs: Tensor, coefficients: Tensor) -> Tensor:
        return reference.blend_shapes(coefficients, template, dirs)


class TestBlendShapesOfATemplateForEachBody(TestBlendShapes):
    batched = (0, 2)

    def inputs(self, batch: int) -> list[Tensor]:
        return [random(batch, 3, 3), random(3, 3, 2), random(batch, 2)]


class TestPoseCorrectives(OperatorTests):
    name = "pose_correctives"
    batched = (0,)
    differentiable = (0, 1)

    def inputs(self, batch: int) -> list[Tensor]:
        return [random(batch, 3, 3, 3), random(18, 6)]

    def reference(self, rot_mats: Tensor, posedirs: Tensor) -> Tensor:
        return reference.pose_offsets(rot_mats, posedirs)

    def test_one_nan_stays_alone(self, device: str) -> None:
        """The root's rotation corrects nothing, so the NaN lies in another joint."""
        rot_mats, posedirs = self.on(device, 31)
        clean = smplx.pose_correctives(rot_mats, posedirs)
        rot_mats[17, 1, 0, 2] = torch.nan
        rot_mats[18, 0] = torch.nan
        dirty = smplx.pose_correctives(rot_mats, posedirs)
        others = torch.arange(31, device=device) != 17
        assert torch.equal(dirty[others], clean[others]) and dirty[17].isnan().all()


@pytest.mark.parametrize("template", [(), (1,), (5,)])
@pytest.mark.parametrize("coefficients", [1, 5])
def test_a_batch_of_one_broadcasts(template: tuple[int, ...], coefficients: int, device: str) -> None:
    given = [x.to(device).requires_grad_() for x in (random(*template, 7, 3), random(7, 3, 4), random(coefficients, 4))]
    found, expected = smplx.blend_shapes(*given), reference.blend_shapes(given[2], given[0], given[1])
    assert found.shape == (5 if 5 in (*template, coefficients) else 1, 7, 3)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y.sin().sum(), given) for y in (found, expected)))


@pytest.mark.parametrize(("vertices", "count"), [(0, 3), (1, 1), (5, 0), (1031, 400)])
def test_sizes(vertices: int, count: int, device: str) -> None:
    given = [x.to(device) for x in (random(vertices, 3), random(vertices, 3, count), random(3, count))]
    torch.testing.assert_close(smplx.blend_shapes(*given), reference.blend_shapes(given[2], given[0], given[1]))


@pytest.mark.parametrize(("joints", "vertices"), [(1, 4), (2, 0), (2, 1), (55, 103)])
def test_sizes_of_pose_correctives(joints: int, vertices: int, device: str) -> None:
    rot_mats, posedirs = (x.to(device) for x in (random(3, joints, 3, 3), random(9 * (joints - 1), 3 * vertices)))
    found = smplx.pose_correctives(rot_mats, posedirs)
    assert found.shape == (3, vertices, 3)
    torch.testing.assert_close(found, reference.pose_offsets(rot_mats, posedirs).reshape(3, vertices, 3))


def test_wrong_shapes_are_sentences(device: str) -> None:
    def zeros(*size: int) -> Tensor:
        return torch.zeros(size, device=device)

    template, dirs, coefficients = zeros(7, 3), zeros(7, 3, 4), zeros(5, 4)
    for given, sentence in (
        ((zeros(3), dirs, coefficients), r"template has shape \[3\], expected 2 or 3 dimensions"),
        ((zeros(6, 3), dirs, coefficients), r"template has shape \[6, 3\], expected \[7, 3\]"),
        ((zeros(2, 7, 3), dirs, coefficients), r"template has shape \[2, 7, 3\], expected \[5, 7, 3\]"),
        ((template, zeros(7, 2, 4), coefficients), r"dirs has shape \[7, 2, 4\], expected \[\*, 3, \*\]"),
        ((template, dirs, zeros(5, 3)), r"coefficients has shape \[5, 3\], expected \[\*, 4\]"),
        ((template, dirs, zeros(4)), r"coefficients has shape \[4\], expected \[\*, 4\]"),
    ):
        with pytest.raises(ValueError, match=rf"smplx::blend_shapes: {sentence}"):
            smplx.blend_shapes(*given)
    for given, sentence in (
        ((zeros(2, 3, 9), zeros(18, 6)), r"rot_mats has shape \[2, 3, 9\], expected \[\*, \*, 3, 3\]"),
        ((zeros(2, 3, 3, 3), zeros(17, 6)), r"posedirs has shape \[17, 6\], expected \[18, \*\]"),
        ((zeros(2, 3, 3, 3), zeros(18, 7)), r"posedirs has shape \[18, 7\], expected \[\*, 6\]"),
    ):
        with pytest.raises(ValueError, match=rf"smplx::pose_correctives: {sentence}"):
            smplx.pose_correctives(*given)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16, torch.float32])
def test_vmap_under_autocast_computes_in_float32(narrow: torch.dtype, device: str) -> None:
    template, dirs, coefficients = (random(*size).to(device, narrow) for size in ((40, 3), (40, 3, 2), (6, 5, 2)))
    wide = [tensor.float() for tensor in (template, dirs, coefficients)]
    with torch.autocast(device, dtype=torch.bfloat16):
        found = torch.vmap(smplx.blend_shapes, (None, None, 0))(template, dirs, coefficients)
    wanted = smplx.blend_shapes(wide[0], wide[1], wide[2].flatten(0, 1)).unflatten(0, (6, 5))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
