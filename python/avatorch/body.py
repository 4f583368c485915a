"""A body model as a module: load it, call it."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avatorch import _native, joint_names
from avatorch.pose import Rotations, check_rotations, check_tensor, joined_pose, numbers, side_by_side
from avatorch.rig import Posed, Rig, RiggedModule

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INDICES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_CONTENT = ("family", "num_betas", "num_expressions", "joint_names", "shape_names", "expression_names")
_NEEDED = ("v_template", "shapedirs", "parents", "lbs_weights", "faces")
_RIG = ("v_template", "shapedirs", "posedirs", "J_regressor", "parents", "lbs_weights", "J_template", "J_shapedirs")


class Body(RiggedModule):
    """SMPL, SMPL-H, SMPL-X, MANO, FLAME, the open body, or any rig with blend shapes, joints and linear skinning.

    The model's tensors are buffers under their usual names; a gradient reaches them when they ask for one. They may be
    written to: what is derived from them follows at the next call.
    """

    v_template: Tensor  # [V, 3]
    shapedirs: Tensor  # [V, 3, C], betas, then expression
    posedirs: Tensor | None  # [9 (J - 1), 3 V]
    J_regressor: Tensor | None  # [J, V], or the next two
    J_template: Tensor | None  # [J, 3]
    J_shapedirs: Tensor | None  # [J, 3, C]
    parents: Tensor  # [J], -1 at a root
    lbs_weights: Tensor  # [V, J]
    faces: Tensor  # [F, 3]

    def __init__(self, content: Mapping[str, Any], dtype: torch.dtype = torch.float32, *, fast: bool = False) -> None:
        """`content` is what a model file holds, as `Body.load` reads it; `fast` as there."""
        super().__init__(fast)
        if dtype not in _FLOATS:
            raise TypeError(f"Body: dtype is {dtype}, expected torch.float32 or another type of real numbers")
        missing = [name for name in (*_CONTENT, *_NEEDED) if name not in content]
        if missing:
            raise ValueError(
                f"Body: content lacks {', '.join(missing)}, expected what a model file holds: Body.load reads one"
            )
        self.family: str = content["family"]
        self.num_betas: int = content["num_betas"]
        self.num_expressions: int = content["num_expressions"]
        self.joint_names: list[str] = content["joint_names"] or joint_names.OF_FAMILY.get(self.family, [])
        self.shape_names: list[str] = content["shape_names"]
        self.expression_names: list[str] = content["expression_names"]
        for name in ("posedirs", "J_regressor", "J_template", "J_shapedirs"):
            self.register_buffer(name, None)
        for name, value in content.items():
            if isinstance(value, (_native.Array, Tensor)):
                tensor = value if isinstance(value, Tensor) else torch.from_dlpack(value)
                self.register_buffer(name, _narrowed(name, tensor, dtype) if tensor.is_floating_point() else tensor)
        self.prepare()

    @classmethod
    def load(
        cls,
        path: str | bytes | os.PathLike[str],
        *,
        family: str | None = None,
        gender: str | None = None,
        dtype: torch.dtype = torch.float32,
        fast: bool = False,
    ) -> Body:
        """Reads a model file (.npz, .pkl, .safetensors), or finds one in a folder by its usual name.

        `family` ("smplx", ...) and `gender` choose among the files of a folder; neutral is preferred. Nothing in a file
        is executed.

        `fast` lets five bodies or more, in float32 on a GPU, be posed with less work and less exactly: pose correctives
        come of numbers rounded to 11 bits (float16, with float32 sums). By calculation vertices of SMPL-X's sizes then
        err by 1 to 3 micrometres (root mean square) and rarely by 14, about 0.02 % of the corrective; float32 errs by
        about 1. Gradients are less exact from two bodies on. Elsewhere it changes nothing. It may be set later
        (`body.fast = True`); subsets and copies have it.
        """
        path = os.fsdecode(path)
        content = _native.load_model(path, family, gender)
        for sentence in content["warnings"]:
            warnings.warn(f"{path}: {sentence}", stacklevel=2)
        return cls(content, dtype, fast=fast)

    @property
    def num_joints(self) -> int:
        """J."""
        return self.lbs_weights.shape[1]

    def joint(self, name: str) -> int:
        """The index of a joint by its name: `posed.joints[..., body.joint("left_wrist"), :]`."""
        return self._index("joint", name, self.joint_names)

    def forward(
        self,
        betas: Tensor | Mapping[str, Tensor | float] | None = None,
        expression: Tensor | Mapping[str, Tensor | float] | None = None,
        pose: Tensor | Mapping[str, Tensor] | None = None,
        transl: Tensor | None = None,
        *,
        rotations: Rotations = "axis_angle",
        vertex_offsets: Tensor | None = None,
        joint_offsets: Tensor | None = None,
        intermediates: bool = True,
    ) -> Posed:
        """Bodies in a pose. What is left out is zero.

        Every argument may have any leading dimensions `...`; they broadcast against each other, and the results have
        them too.

        - `betas`: `[..., n]`, or a dict from names to numbers `[...]`; n may be less than the model has.
        - `expression`: the same: `expression={"jawOpen": 0.6}`.
        - `pose`: `[..., J, 3]` or `[..., 3 J]`, or a dict from joint names to rotations `[..., 3]`; joints that a dict
          leaves out keep their rest pose.
        - `transl`: `[..., 3]`.
        - `rotations`: what `pose` consists of: `"axis_angle"` `[..., J, 3]`, `"quaternion"` `[..., J, 4]` (w, x, y, z),
          `"sixd"` `[..., J, 6]` or `"matrix"` `[..., J, 3, 3]`.
        - `vertex_offsets`: `[..., V, 3]`, added before skinning; joints do not follow.
        - `joint_offsets`: `[..., J, 3]`, added to the joints at rest.
        - `intermediates`: whether the last five results are wanted.
        """
        given: dict[str, tuple[Tensor, int]] = {}  # arguments, and how many dimensions of each are not the batch
        check_rotations(rotations)
        if pose is not None:
            rotated = joined_pose(pose, rotations, self.num_joints, self.joint, like=self.v_template)
            given["pose"] = rotated, 3 if rotations != "axis_angle" else 2
        for name, coefficients, names, count in (
            ("betas", betas, self.shape_names, self.num_betas),
            ("expression", expression, self.expression_names, self.num_expressions),
        ):
            if coefficients is not None:
                given[name] = self._coefficients(name, coefficients, names, count), 1
        for name, tensor, sizes in (
            ("transl", transl, (3,)),
            ("vertex_offsets", vertex_offsets, (self.v_template.shape[0], 3)),
            ("joint_offsets", joint_offsets, (self.num_joints, 3)),
        ):
            if tensor is not None:
                given[name] = _shaped(name, tensor, sizes), len(sizes)
        batch = _common_batch(given)
        flat = {name: _flat(tensor, own, batch) for name, (tensor, own) in given.items()}
        zeros = self.v_template.new_zeros
        posed = self.rig().pose(
            _side_by_side(
                flat.get("betas", zeros(1, self.num_betas)), flat.get("expression", zeros(1, self.num_expressions))
            ),
            flat.get("pose", zeros(1, self.num_joints, 3)),
            flat.get("transl"),
            vertex_offsets=flat.get("vertex_offsets"),
            joint_offsets=flat.get("joint_offsets"),
            intermediates=intermediates,
        )
        if len(batch) == 1:
            return posed
        whole = len(posed) if intermediates else 2
        return Posed(*(x.unflatten(0, batch) if batch else x[0] for x in posed[:whole]), *posed[whole:])

    def subset(self, vertices: Tensor | Sequence[int]) -> Body:
        """A body with these vertices alone and every joint; with none, a skeleton: `body.subset([])`.

        Its mesh costs only what these vertices cost. Triangles that lose a corner are left out. Its tensors are copies.
        """
        try:
            chosen = torch.as_tensor(vertices, device=self.v_template.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"Body.subset: vertices is of type {type(vertices).__name__}, expected indices or a mask: {error}"
            ) from None
        if chosen.dtype == torch.bool and chosen.shape == self.v_template.shape[:1]:
            chosen = chosen.nonzero().flatten()
        if chosen.ndim != 1 or (chosen.numel() > 0 and chosen.dtype not in _INDICES):
            raise ValueError(
                f"Body.subset: vertices has shape {list(chosen.shape)} and dtype {chosen.dtype}, "
                f"expected indices [N], or a mask [{len(self.v_template)}]"
            )
        chosen, count = chosen.long(), len(self.v_template)
        if ((chosen < -count) | (chosen >= count)).any():  # on a GPU, looking there would end the process
            raise IndexError(
                f"Body.subset: vertices holds {int(chosen.max())} or {int(chosen.min())}, expected "
                f"{-count} to {count - 1}"
            )
        rig = self.rig().subset(chosen)
        place = torch.full(self.v_template.shape[:1], -1, device=chosen.device)  # of each vertex in the subset
        place[chosen] = torch.arange(len(chosen), device=chosen.device)
        faces = place[self.faces]
        content = {name: getattr(self, name) for name in _CONTENT} | dict(zip(_RIG, rig, strict=False))
        content = {name: value for name, value in content.items() if value is not None}
        return Body(content | {"faces": faces[(faces >= 0).all(1)]}, self.v_template.dtype, fast=self.fast)

    def _coefficients(
        self, name: str, given: Tensor | Mapping[str, Tensor | float], names: list[str], count: int
    ) -> Tensor:
        """[..., count], with zeros for what is not given."""
        if isinstance(given, Mapping):
            like, zero = self.v_template, self.v_template.new_zeros(())
            if not given:
                return like.new_zeros(count)
            named = {key: numbers(f"{name} {key!r}", value, like) for key, value in given.items()}
            values = {self._index(name, key, names): value for key, value in named.items()}
            return side_by_side(name, named, [values.get(index, zero) for index in range(count)], 0)
        given = check_tensor(name, given)
        if given.ndim == 0 or given.shape[-1] > count:
            raise ValueError(
                f"Body: {name} has shape {list(given.shape)}, expected [..., at most {count}]: the model has {count}"
            )
        return nn.functional.pad(given, (0, count - given.shape[-1]))

    def _index(self, kind: str, name: str, names: list[str]) -> int:
        if not isinstance(name, str):
            raise TypeError(f"Body: {kind} is {name!r}, expected a name")
        if name in names:
            return names.index(name)
        if not names:
            raise KeyError(f"Body: {kind} {name!r} was asked for by name, and this model has no names; use a tensor")
        nearest = difflib.get_close_matches(name, names, 3)
        hint = f"; did you mean {' or '.join(nearest)}?" if nearest else f", but {', '.join(names)}"
        raise KeyError(f"Body: the model has no {kind} {name!r}{hint}")

    def _sources(self) -> list[Tensor]:
        return list(self._assemble().tensors())

    def _assemble(self) -> Rig:
        return Rig(*(getattr(self, name) for name in _RIG))

    def _traced(self) -> Rig:
        # The buffers themselves: an exported program holds them once, and a state loaded into it is not overlooked.
        return self._assemble()._replace(prepared=self._kept.prepared if self._kept else ())


def _narrowed(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    narrow = tensor.to(dtype)
    if torch.finfo(dtype).max < torch.finfo(tensor.dtype).max and not tensor.is_meta and not narrow.isfinite().all():
        raise ValueError(f"Body: {name} holds numbers beyond {dtype}; the largest is {tensor.abs().max():.3g}")
    return narrow


def _common_batch(given: Mapping[str, tuple[Tensor, int]]) -> torch.Size:
    """The leading dimensions of all arguments together."""
    leading = {name: tensor.shape[: tensor.ndim - own] for name, (tensor, own) in given.items()}
    if not leading:
        return torch.Size([1])
    try:
        return torch.broadcast_shapes(*leading.values())
    except RuntimeError:
        each = ", ".join(f"{list(sizes)} of {name}" for name, sizes in leading.items())
        raise ValueError(f"Body: the leading dimensions do not broadcast: {each}") from None


def _shaped(name: str, tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
    tensor = check_tensor(name, tensor)
    if tensor.shape[-len(sizes) :] != sizes:
        expected = ", ".join(map(str, sizes))
        raise ValueError(f"Body: {name} has shape {list(tensor.shape)}, expected [..., {expected}]")
    return tensor


def _flat(tensor: Tensor, own: int, batch: torch.Size) -> Tensor:
    """[..., own dimensions] -> [B, ...], or [1, ...] where it is the same for all."""
    leading, rest = tensor.shape[: tensor.ndim - own], tensor.shape[tensor.ndim - own :]
    if len(leading) == len(batch) == 1:
        return tensor
    if all(size == 1 for size in leading):
        return tensor.reshape(1, *rest)
    return tensor.expand(*batch, *rest).reshape(-1, *rest)


def _side_by_side(betas: Tensor, expression: Tensor) -> Tensor:
    """[B|1, N], [B|1, M] -> [B|1, N + M]"""
    batch = betas.shape[0] if betas.shape[0] != 1 else expression.shape[0]
    dtype = torch.promote_types(betas.dtype, expression.dtype)  # autocast refuses to join unequal ones
    return torch.cat(
        [part.to(dtype).expand(batch if part.shape[0] == 1 else -1, -1) for part in (betas, expression)], 1
    )


def open_body(dtype: torch.dtype = torch.float32) -> Body:
    """A whole human body that may be shared: 13 718 vertices, 104 joints, 20 betas, 52 ARKit face units (CC0)."""
    return Body.load(Path(__file__).parent / "data" / "open_body.safetensors", dtype=dtype)
