"""Small body models of every form the operator takes, with random but valid contents."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rig:
    """The tensors of one model, under the operator's names."""

    v_template: Tensor  # [V, 3]
    shapedirs: Tensor  # [V, 3, C]
    posedirs: Tensor | None  # [9 (J - 1), 3 V]
    J_regressor: Tensor | None  # [J, V]
    parents: Tensor  # [J]
    lbs_weights: Tensor  # [V, J]
    J_template: Tensor | None = None  # [J, 3]
    J_shapedirs: Tensor | None = None  # [J, 3, C]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Vertices, joints, shape coefficients."""
        return (*self.lbs_weights.shape, self.shapedirs.shape[2])  # type: ignore[return-value]

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> Rig:
        """The same model elsewhere."""
        moved = {
            name: tensor.to(device, dtype if tensor.is_floating_point() else None)
            for name, tensor in vars(self).items()
            if tensor is not None
        }
        return replace(self, **moved)

    def prepared(self, fast: bool = False) -> list[Tensor]:
        """What `smplx::prepare` derives from it."""
        return torch.ops.smplx.prepare(
            self.v_template,
            self.shapedirs,
            self.J_regressor,
            self.parents,
            self.lbs_weights,
            self.J_template,
            self.J_shapedirs,
            self.posedirs,
            fast,
        )

    def inputs(self, batch: int, seed: int = 3, matrices: bool = False) -> dict[str, Tensor]:
        """Random inputs for a batch of bodies."""
        g = torch.Generator().manual_seed(seed)
        _, joints, shapes = self.sizes
        pose = (
            torch.randn(batch, joints, 3, 3, generator=g, dtype=torch.double)
            if matrices
            else 0.6 * torch.randn(batch, 3 * joints, generator=g, dtype=torch.double)
        )
        like = self.v_template
        return {
            "shape_coefficients": torch.randn(batch, shapes, generator=g, dtype=torch.double).to(like),
            "pose": pose.to(like),
            "transl": torch.randn(batch, 3, generator=g, dtype=torch.double).to(like),
        }


def rig(
    vertices: int,
    joints: int,
    shapes: int,
    influences: int,
    *,
    posed: bool = True,
    regressed: bool = True,
    seed: int = 1,
) -> Rig:
    """A tree in which every joint hangs on a random earlier one."""
    g = torch.Generator().manual_seed(seed)

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, dtype=torch.double)

    parents = torch.tensor([-1] + [int(torch.randint(max(0, j - 4), j, (1,), generator=g)) for j in range(1, joints)])
    chosen = torch.stack([torch.randperm(joints, generator=g)[: min(influences, joints)] for _ in range(vertices)])
    weights = torch.zeros(vertices, joints, dtype=torch.double).scatter(
        1, chosen, torch.rand(chosen.shape, generator=g, dtype=torch.double) + 0.1
    )
    regressor = torch.rand(joints, vertices, generator=g, dtype=torch.double).softmax(1)
    return Rig(
        v_template=random(vertices, 3),
        shapedirs=0.1 * random(vertices, 3, shapes),
        posedirs=0.1 * random(9 * (joints - 1), 3 * vertices) if posed else None,
        J_regressor=regressor if regressed else None,
        parents=parents,
        lbs_weights=weights / weights.sum(1, keepdim=True),
        J_template=None if regressed else random(joints, 3),
        J_shapedirs=None if regressed else 0.1 * random(joints, 3, shapes),
    )


def rigs() -> dict[str, Rig]:
    """From the least that is a body to more than SMPL-X has."""
    return {
        "one vertex, one joint": rig(1, 1, 1, 1),
        "five joints": rig(7, 5, 3, 4),
        "no pose correctives": rig(9, 6, 4, 9, posed=False),
        "no shapes": rig(6, 4, 0, 2),
        "joint directions": rig(8, 7, 3, 3, regressed=False, posed=False),
    }


# With pose correctives, for batches that slabs serve on a GPU.
POSED_RIGS = {
    "one vertex": rig(1, 3, 2, 2),
    "smpl": rig(301, 24, 10, 4),
    "smplx": rig(400, 55, 20, 4),
    "two chunks of coordinates": rig(1000, 5, 3, 3),
    "six weights": rig(190, 30, 7, 6),
    "seventy joints": rig(150, 70, 6, 4),
}
