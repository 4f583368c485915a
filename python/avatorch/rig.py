"""A rig: the operator's model tensors, what is prepared from them, and a module that keeps the two in step."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_plain_torch = False  # a global, not a context variable: compiled code must be able to read it


@contextmanager
def plain_torch() -> Iterator[None]:
    """Within it, in every thread, bodies are posed by `avatorch.reference`: in torch's own operators, which ONNX knows.

    with avatorch.plain_torch():
        torch.onnx.export(body, ...)
    """
    global _plain_torch
    before, _plain_torch = _plain_torch, True
    try:
        yield
    finally:
        _plain_torch = before


class Posed(NamedTuple):
    """What a body returns, for any leading batch dimensions `...`; V vertices, J joints.

    All but the first two are empty without intermediates.
    """

    vertices: Tensor
    """[..., V, 3], with translation"""
    joints: Tensor
    """[..., J, 3], posed, with translation"""
    v_shaped: Tensor
    """[..., V, 3], template and shape"""
    J_shaped: Tensor
    """[..., J, 3], joints at rest"""
    rot_mats: Tensor
    """[..., J, 3, 3], each joint's own rotation"""
    A_global: Tensor
    """[..., J, 4, 4], what moves a point of the rest shape with a joint; without translation"""
    v_posed: Tensor
    """[..., V, 3], what is skinned: v_shaped, offsets and pose correctives"""


class Rig(NamedTuple):
    """The tensors of one model under the operator's names, and what `smplx::prepare` made of them."""

    v_template: Tensor  # [V, 3]
    shapedirs: Tensor  # [V, 3, C]
    posedirs: Tensor | None  # [9 (J - 1), 3 V]
    J_regressor: Tensor | None  # [J, V], or the last two
    parents: Tensor  # [J], -1 at a root
    lbs_weights: Tensor  # [V, J]
    J_template: Tensor | None = None  # [J, 3]
    J_shapedirs: Tensor | None = None  # [J, 3, C]
    prepared: tuple[Tensor, ...] = ()
    fast: bool = False  # as it is to be prepared

    def prepare(self) -> "Rig":
        """The same rig with everything derived that only depends on the model."""
        made = torch.ops.smplx.prepare(
            self.v_template,
            self.shapedirs,
            self.J_regressor,
            self.parents,
            self.lbs_weights,
            self.J_template,
            self.J_shapedirs,
            self.posedirs,
            self.fast,
        )
        return self._replace(prepared=tuple(made))

    def pose(
        self,
        coefficients: Tensor,  # [B, C]
        pose: Tensor,  # [B, 3 J], [B, J, 3] or [B, J, 3, 3]
        transl: Tensor | None = None,  # [B, 3]
        *,
        vertex_offsets: Tensor | None = None,  # [B, V, 3]
        joint_offsets: Tensor | None = None,  # [B, J, 3]
        intermediates: bool = True,
    ) -> Posed:
        """Bodies of these shapes in these poses, by `torch.ops.smplx.forward`."""
        if _plain_torch:
            return self._by_reference(coefficients, pose, transl, vertex_offsets, joint_offsets)
        if self.v_template.shape[0] == 0:
            return self._skeleton(coefficients, pose, transl, joint_offsets)
        results = torch.ops.smplx.forward(
            coefficients,
            pose,
            transl,
            self.v_template,
            self.shapedirs,
            self.posedirs,
            self.J_regressor,
            self.parents,
            self.lbs_weights,
            self.J_template,
            self.J_shapedirs,
            vertex_offsets,
            joint_offsets,
            list(self.prepared),
            intermediates,
        )
        return Posed(*results)

    def _by_reference(
        self,
        coefficients: Tensor,
        pose: Tensor,
        transl: Tensor | None,
        vertex_offsets: Tensor | None,
        joint_offsets: Tensor | None,
    ) -> Posed:
        from avatorch import reference  # an ordinary call never needs it

        results = reference.forward(
            coefficients,
            pose,
            transl,
            self.v_template,
            self.shapedirs,
            self.posedirs,
            self.parents,
            self.lbs_weights,
            J_regressor=self.J_regressor,
            J_template=self.J_template,
            J_shapedirs=self.J_shapedirs,
            vertex_offsets=vertex_offsets,
            joint_offsets=joint_offsets,
        )
        return Posed(*results)

    def _skeleton(
        self, coefficients: Tensor, pose: Tensor, transl: Tensor | None, joint_offsets: Tensor | None
    ) -> Posed:
        """The same of a rig without vertices, by the stages."""
        smplx = torch.ops.smplx
        for name, tensor in (("transl", transl), ("joint_offsets", joint_offsets)):
            if tensor is not None:
                _check_like(name, tensor, self.v_template)
        rot_mats = (
            pose if pose.ndim == 4 else smplx.rodrigues(pose.reshape(pose.shape[0], self.parents.shape[0], 3))
        )  # [B, J, 3, 3]
        at_rest = smplx.blend_shapes(self.J_template, self.J_shapedirs, coefficients)  # [B, J, 3]
        if joint_offsets is not None:
            at_rest = at_rest + joint_offsets
        leading = [tensor.shape[:1] for tensor in (rot_mats, at_rest, transl) if tensor is not None]
        batch = torch.broadcast_shapes(*leading)
        rot_mats, at_rest = rot_mats.expand(*batch, -1, -1, -1), at_rest.expand(*batch, -1, -1)
        joints, transforms = smplx.kinematic_chain(rot_mats, at_rest, self.parents)
        joints = joints if transl is None else joints + transl[:, None]
        nothing = joints.new_empty(*batch, 0, 3)
        return Posed(nothing, joints, nothing, at_rest, rot_mats, transforms, nothing)

    def subset(self, vertices: Tensor) -> "Rig":
        """The rig with these vertices [N] alone and all its joints, prepared; constants, which no gradient reaches."""
        with torch.inference_mode(False), torch.no_grad():
            whole = self if self.prepared else self.prepare()
            _, joint_template, joint_dirs, *_ = whole.prepared
            posedirs = self.posedirs
            if posedirs is not None:
                posedirs = posedirs.unflatten(1, (-1, 3))[:, vertices].flatten(1)
            return Rig(
                v_template=self.v_template[vertices],
                shapedirs=self.shapedirs[vertices],
                posedirs=posedirs,
                J_regressor=None,
                parents=self.parents,
                lbs_weights=self.lbs_weights[vertices],
                J_template=joint_template,
                J_shapedirs=joint_dirs,
                fast=self.fast,
            ).prepare()

    def tensors(self) -> Iterator[Tensor]:
        """Those that there are, without the preparation."""
        return (tensor for tensor in self[:8] if tensor is not None)


class RiggedModule(nn.Module):
    """A module whose buffers are a rig. Buffers may be moved, replaced or written to at any time.

    A subclass says what its rig is in `_assemble`; `rig` returns it prepared. It is prepared again as soon as a tensor
    is another one, or was written to in place. Compiled code does not look: there, call `prepare` after a change.
    """

    _fast = False  # of what was pickled before there was a choice

    def __init__(self, fast: bool = False) -> None:
        super().__init__()
        self._fast = _true_or_false(fast)
        self._kept: Rig | None = None  # prepared
        self._kept_for: list[tuple[int, int]] = []  # identity and version of each source it was made from
        self.register_load_state_dict_post_hook(_prepare_again)

    @property
    def fast(self) -> bool:
        """Whether many bodies on a GPU are posed faster and less exactly: `Body.load` says how much. It may be set."""
        return self._fast

    @fast.setter
    def fast(self, fast: bool) -> None:
        self._fast = _true_or_false(fast)
        self._prepare_if_possible()

    def _sources(self) -> list[Tensor]:
        """The module's own tensors of which its rig is made."""
        raise NotImplementedError

    def _assemble(self) -> Rig:
        """The rig, unprepared."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Derives again what the operator uses of the model's tensors."""
        sources = self._sources()
        # As they are before they are looked at: a write meanwhile makes the next call prepare again.
        self._kept, self._kept_for = None, _identities(sources)
        if _plain(sources):
            with torch.inference_mode(False), torch.no_grad():  # what is kept may serve a backward pass later
                rig = self._assemble()._replace(fast=self._fast)
                # A template for each body is an argument rather than a model: nothing can be prepared of it.
                self._kept = rig.prepare() if rig.v_template.ndim == 2 else None

    def rig(self) -> Rig:
        """The model's tensors as they are now, prepared where that is possible."""
        if torch.compiler.is_compiling():
            # Plain torch looks at the values of `parents` while it is traced.
            return self._kept or self._assemble() if _plain_torch else self._traced()
        sources = self._sources()
        if getattr(self, "_is_replica", False) or not _plain(sources):
            return self._assemble()  # a copy of DataParallel for one call, a traced or a meta tensor
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in sources):
            now = self._assemble()
            known = {id(tensor) for tensor in sources}
            if any(id(tensor) not in known for tensor in now.tensors()):
                return now  # a gradient must reach the sources through what is assembled of them
        if _identities(sources) != self._kept_for:
            self.prepare()
        return self._kept or self._assemble()

    def _traced(self) -> Rig:
        """The rig in compiled and exported code, posed by the operator."""
        return self._kept or self._assemble()

    def _apply(self, fn: Any, recurse: bool = True) -> "RiggedModule":
        # Moved or converted tensors are new ones: what was derived from the old ones is derived again.
        super()._apply(fn, recurse)
        self._prepare_if_possible()
        return self

    def _prepare_if_possible(self) -> None:
        self._kept, self._kept_for = None, []
        with suppress(IndexError, ValueError):  # `to_empty` leaves anything in memory; a call says what is wrong
            self.prepare()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None, "_kept_for": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.prepare()


def _true_or_false(fast: object) -> bool:
    if not isinstance(fast, bool):
        raise TypeError(f"Body: fast is {fast!r}, expected True or False")
    return fast


def _prepare_again(module: RiggedModule, _: Any) -> None:
    """After a state was loaded into the tensors in place."""
    module.prepare()


def _check_like(name: str, tensor: Tensor, model: Tensor) -> None:
    """What the operator refuses, where torch's own arithmetic would go on with something else."""
    has_autocast = model.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(model.device.type)
    narrow = (torch.float16, torch.bfloat16) if has_autocast else ()
    found, expected = (torch.float32 if dtype in narrow else dtype for dtype in (tensor.dtype, model.dtype))
    if found != expected:
        raise TypeError(f"Body: {name} is {str(found)[6:]}, expected {str(expected)[6:]} as v_template")
    if tensor.device != model.device:
        raise ValueError(f"Body: {name} is on {tensor.device}, expected {model.device} as v_template")


def _identities(tensors: list[Tensor]) -> list[tuple[int, int]]:
    """Which tensors these are, and how often each was written to; a tensor of inference mode does not tell."""
    return [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]


def _plain(tensors: list[Tensor]) -> bool:
    """Whether the tensors have values that can be looked at."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return not any(tensor.is_meta or wrapped(tensor) for tensor in tensors)
