"""What is looked for, as columns of one matrix: a row for each frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from avatorch.body import Body

# In the order of the columns, which is also that of the model's shape directions.
BODY = ("betas", "expression", "pose", "transl")
CAMERA = 7  # columns of one view: rotation 3, translation 3, logarithm of the focal lengths' factor


class Unknowns:
    """Names and places of the columns; `N` in all, for `frames` B rows.

    A shared unknown has the same values in all frames of a sequence.
    """

    def __init__(
        self, body: Body, names: Iterable[str], shared: Iterable[str], frames: int, sequence: Tensor | None, views: int
    ) -> None:
        wanted, shared = set(names), set(shared)
        sizes = {
            "betas": body.num_betas,
            "expression": body.num_expressions,
            "pose": 3 * body.num_joints,
            "transl": 3,
            "camera": CAMERA * views,
            "vertex_offsets": 3 * len(body.v_template),
        }
        for name in sorted(wanted | shared):
            if name not in sizes:
                raise ValueError(f"fit: there is no unknown {name!r}, expected some of {', '.join(sizes)}")
            if name in shared and name not in wanted:
                raise ValueError(f"fit: {name!r} is shared and is not among the unknowns")
        if "camera" in wanted and not views:
            raise ValueError("fit: 'camera' is an unknown, and no term looks through a camera")
        self.sizes = {name: size for name, size in sizes.items() if name in wanted and size > 0}
        self.slices: dict[str, slice] = {}
        self.N = 0
        for name, size in self.sizes.items():
            self.slices[name] = slice(self.N, self.N + size)
            self.N += size
        self.frames, self.body = frames, body
        device = body.v_template.device
        self.sequence = _numbered(sequence, frames).to(device)  # [B], 0 to S - 1
        self.sequences = int(self.sequence.max()) + 1 if frames else 0
        self.shared = torch.zeros(self.N, dtype=torch.bool, device=device)
        for name in shared & set(self.sizes):
            self.shared[self.slices[name]] = True
        self.is_shared = bool(self.shared.any())
        self._parted: tuple[Tensor, Tensor, Tensor] | None = None

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """[..., N] -> {name: [..., size]}"""
        return {name: x[..., place] for name, place in self.slices.items()}

    def join(self, values: Mapping[str, Tensor]) -> Tensor:
        """[B, N] from what is given, with zeros for the rest; one row serves all frames."""
        like = self.body.v_template
        x = like.new_zeros(self.frames, self.N)
        for name, value in values.items():
            if name not in self.slices:
                continue
            value = torch.as_tensor(value).to(like)
            rows = value.reshape(1, -1) if value.ndim <= 1 else value.flatten(1)
            if rows.shape[0] not in (1, self.frames) or rows.shape[1] > self.sizes[name]:
                raise ValueError(
                    f"fit: the start of {name} has shape {list(value.shape)}, expected "
                    f"[{self.frames} or 1, at most {self.sizes[name]}]"
                )
            x[:, self.slices[name]][:, : rows.shape[1]] = rows
        return self.averaged(x)

    def averaged(self, x: Tensor) -> Tensor:
        """Shared columns get the mean of their sequence."""
        if not self.is_shared:
            return x
        count = self.summed(torch.ones_like(x[:, :1])).clamp_min(1)
        return torch.where(self.shared, (self.summed(x) / count)[self.sequence], x)

    def summed(self, rows: Tensor) -> Tensor:
        """Sums over each sequence, [B, ...] -> [S, ...]"""
        return rows.new_zeros(self.sequences, *rows.shape[1:]).index_add(0, self.sequence, rows)

    def parted(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Which of some columns are a frame's own, and which are shared; looked up once for a stage."""
        if self._parted is None or self._parted[0] is not columns:
            shared = self.shared[columns]
            self._parted = columns, (~shared).nonzero().flatten(), shared.nonzero().flatten()
        return self._parted[1], self._parted[2]

    def columns(self, free: Iterable[str]) -> Tensor:
        """Indices of what a stage moves.

        Each of `free` is an unknown, `"root"` for the joints without parent, or `"pose:left_knee,right_knee"`.
        """
        chosen = torch.zeros(self.N, dtype=torch.bool)
        for item in free:
            name, _, joints = item.partition(":")
            if name == "root" or joints:
                if "pose" not in self.slices:
                    raise ValueError(f"fit: a stage frees {item!r}, and pose is not among the unknowns")
                parents = self.body.parents.tolist()
                roots = [index for index, parent in enumerate(parents) if parent < 0]
                for joint in [self.body.joint(word) for word in joints.split(",")] if joints else roots:
                    first = self.slices["pose"].start + 3 * joint
                    chosen[first : first + 3] = True
            elif name in self.slices:
                chosen[self.slices[name]] = True
            elif name not in (*BODY, "camera", "vertex_offsets"):
                raise ValueError(f"fit: a stage frees {item!r}, which is no unknown, 'root' or 'pose:joint,joint'")
        return chosen.nonzero().flatten().to(self.shared.device)


def _numbered(sequence: Tensor | None, frames: int) -> Tensor:
    """Sequences counted from 0; by default there is one."""
    if sequence is None:
        return torch.zeros(frames, dtype=torch.long)
    sequence = torch.as_tensor(sequence)
    if sequence.shape != (frames,):
        raise ValueError(
            f"fit: sequence has shape {list(sequence.shape)}, expected [{frames}], a number for each frame"
        )
    return torch.unique(sequence, return_inverse=True)[1]
