"""SMPL, and what every other model shares with it: reading, parameters, buffers, posing."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avatorch.rig import Posed, Rig, RiggedModule

from . import model_file
from .arguments import ArgumentCheck, check_options
from .lbs import rooted, widened
from .surface import Surface
from .utils import ModelOutput, SMPLOutput, Struct, to_np, to_tensor
from .vertex_ids import vertex_ids as VERTEX_IDS
from .vertex_joint_selector import VertexJointSelector

Value = Tensor | np.ndarray | list[Any] | float
SHORT_SHAPE_SPACE = 10  # betas of a file that has fewer than SHAPE_SPACE_DIM, and where its expressions begin


class SMPL(RiggedModule):
    """A body of 24 joints, posed by axis-angle vectors. The other models are its subclasses."""

    NUM_JOINTS = 23
    NUM_BODY_JOINTS = 23
    SHAPE_SPACE_DIM = 300

    # What a subclass says of itself: its file, and the arguments that make up a pose, with the joints of each.
    _FAMILY = "smpl"
    _PARTS: tuple[tuple[str, int], ...] = (("global_orient", 1), ("body_pose", 23))
    _takes_matrices = False  # of a layer

    shapedirs: Tensor  # [V, 3, betas]
    faces_tensor: Tensor  # [F, 3]
    v_template: Tensor  # [V, 3]
    J_regressor: Tensor  # [J, V]
    posedirs: Tensor  # [9 (J - 1), 3 V]
    parents: Tensor  # [J]
    lbs_weights: Tensor  # [V, J]

    def __init__(
        self,
        model_path: str,
        kid_template_path: str = "",
        data_struct: Struct | None = None,
        create_betas: bool = True,
        betas: Value | None = None,
        num_betas: int = 10,
        create_global_orient: bool = True,
        global_orient: Value | None = None,
        create_body_pose: bool = True,
        body_pose: Value | None = None,
        create_transl: bool = True,
        transl: Value | None = None,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 1,
        joint_mapper: Any = None,
        gender: str = "neutral",
        age: str = "adult",
        vertex_ids: dict[str, int] | None = None,
        v_template: Value | None = None,
        **kwargs: Any,
    ) -> None:
        """`model_path` is a file, or a folder of files with their usual names; `data_struct` its content instead.

        Every `create_*` makes a parameter [batch_size, ...], used where a call leaves that argument out.
        """
        super().__init__()
        check_options(self.name(), dtype, num_betas=num_betas, batch_size=batch_size)
        self.gender = gender
        self.age = age
        data = data_struct or self._read(model_path, gender, **kwargs)
        self.batch_size = batch_size
        self.dtype = dtype
        self.joint_mapper = joint_mapper
        self._points: tuple[Tensor, Surface, Rig] | None = None  # see `_needed`
        shapedirs = self._shape_space(data, num_betas, kid_template_path)
        self.vertex_joint_selector = self._selector(vertex_ids, **kwargs)
        self._create("betas", create_betas, betas, self.num_betas)
        self._create("global_orient", create_global_orient, global_orient, 3)
        self._create("body_pose", create_body_pose, body_pose, 3 * self.NUM_BODY_JOINTS)
        self._create("transl", create_transl, transl, 3)
        self.faces = np.asarray(data.f).astype(np.uint32)
        parents = np.asarray(data.kintree_table)[0].astype(np.int64)
        parents[0] = -1
        self._store("shapedirs", shapedirs)
        self.register_buffer("faces_tensor", torch.from_numpy(self.faces.astype(np.int64)))
        self._store("v_template", data.v_template if v_template is None else v_template)
        self._store("J_regressor", data.J_regressor)
        self._store("posedirs", model_file.pose_directions(to_np(data.posedirs)))
        self.register_buffer("parents", torch.from_numpy(parents))
        self._store("lbs_weights", data.weights)
        if self._FAMILY == "smpl":  # a subclass prepares when it has all its buffers
            self.prepare()

    def _read(self, model_path: str, gender: str, **kwargs: Any) -> Struct:
        name = f"{self._FAMILY.upper()}_{gender.upper()}"
        return model_file.read(model_path, self._FAMILY, name, kwargs.get("ext", "pkl"))

    def _selector(self, vertex_ids: dict[str, int] | None, **kwargs: Any) -> VertexJointSelector:
        return VertexJointSelector(vertex_ids=vertex_ids or VERTEX_IDS["smplh"], **kwargs)

    def _shape_space(self, data: Struct, num_betas: int, kid_template_path: str) -> np.ndarray:
        """The directions [V, 3, betas] of the file, and how many were asked for."""
        shapedirs = to_np(data.shapedirs)
        available = self.SHAPE_SPACE_DIM if shapedirs.shape[-1] >= self.SHAPE_SPACE_DIM else SHORT_SHAPE_SPACE
        available = min(available, shapedirs.shape[-1])
        if num_betas > available:
            warnings.warn(f"{self.name()}: num_betas is {num_betas}, the file has {available}", stacklevel=4)
        self._num_betas = min(num_betas, available)
        shapedirs = shapedirs[:, :, : self._num_betas]
        if self.age == "kid":
            kid = model_file.read_kid_template(kid_template_path, len(shapedirs))
            shapedirs = np.concatenate([shapedirs, to_np(kid - data.v_template)[:, :, None]], 2)
            self._num_betas += 1
        return shapedirs

    def _create(self, name: str, wanted: bool, given: Value | None, size: int) -> None:
        """A parameter [batch_size, size]."""
        if not wanted:
            return
        if given is None:
            value = torch.zeros(self.batch_size, size, dtype=self.dtype)
        else:
            value = to_tensor(given, dtype=self.dtype).detach().clone()
        self.register_parameter(name, nn.Parameter(value, requires_grad=True))

    def _store(self, name: str, array: Any, rounded: bool = True) -> None:
        """A buffer; with `rounded`, of values that float32 can hold, whatever the model's dtype."""
        values = torch.from_numpy(to_np(array) if rounded else np.array(array))
        self.register_buffer(name, values.to(self.dtype).contiguous())

    @property
    def num_betas(self) -> int:
        """Shape coefficients."""
        return self._num_betas

    @property
    def num_expression_coeffs(self) -> int:
        """Expression coefficients."""
        return 0

    def create_mean_pose(self, data_struct: Struct) -> Any:
        """No mean pose."""

    def name(self) -> str:
        """What the model is called."""
        return "SMPL"

    @torch.no_grad()
    def reset_params(self, **params_dict: Any) -> None:
        """Sets the named parameters to these values, and all others to zero."""
        for name, parameter in self.named_parameters():
            if name in params_dict:
                parameter[:] = torch.as_tensor(params_dict[name])
            else:
                parameter.zero_()

    def get_num_verts(self) -> int:
        """V."""
        return self.v_template.shape[0]

    def get_num_faces(self) -> int:
        """F."""
        return self.faces.shape[0]

    def extra_repr(self) -> str:
        """Gender and sizes."""
        return "\n".join(
            [f"Gender: {self.gender.upper()}", f"Number of joints: {len(self.J_regressor)}", f"Betas: {self.num_betas}"]
        )

    def forward_shape(self, betas: Tensor | None = None) -> SMPLOutput:
        """The body at rest."""
        betas = self._argument("betas", betas)
        v_shaped = self._shaped(betas)
        return SMPLOutput(vertices=v_shaped, betas=betas, v_shaped=v_shaped)

    def forward(
        self,
        betas: Tensor | None = None,  # [B, num_betas]
        body_pose: Tensor | None = None,  # [B, 69]
        global_orient: Tensor | None = None,  # [B, 3]
        transl: Tensor | None = None,  # [B, 3]
        return_verts: bool = True,
        return_full_pose: bool = False,
        pose2rot: bool = True,
        *,
        vertex_offsets: Tensor | None = None,  # [B, V, 3]
        joint_offsets: Tensor | None = None,  # [B, J, 3]
        **kwargs: Any,
    ) -> SMPLOutput:
        """Bodies in a pose. Without `pose2rot`, and in a layer, rotations are matrices: [B, 1, 3, 3], [B, 23, 3, 3]."""
        output = SMPLOutput()
        pose = {"global_orient": global_orient, "body_pose": body_pose}
        return self._fill(
            output, pose, betas, transl, return_verts, return_full_pose, pose2rot, vertex_offsets, joint_offsets
        )

    # What the models share.

    def _fill(
        self,
        output: Any,
        pose: dict[str, Tensor | None],
        betas: Tensor | None,
        transl: Tensor | None,
        return_verts: bool,
        return_full_pose: bool,
        pose2rot: bool,
        vertex_offsets: Tensor | None,
        joint_offsets: Tensor | None,
        expression: Tensor | None = None,
        on_surface: bool = True,
    ) -> Any:
        """Writes the results of one call into `output`."""
        matrices = self._takes_matrices or not pose2rot
        self._check(pose, matrices, betas, expression, transl, vertex_offsets, joint_offsets)
        full_pose, parts = self._matrices(pose) if matrices else self._vectors(pose)
        betas = self._argument("betas", betas, of=full_pose)
        coefficients = betas
        if self.num_expression_coeffs or expression is not None:
            expression = self._argument("expression", expression, of=full_pose)
            coefficients = _joined({"betas": betas, "expression": expression})
        shift = getattr(self, "transl", None) if transl is None and not self._takes_matrices else transl
        others = {"transl": shift, "vertex_offsets": vertex_offsets, "joint_offsets": joint_offsets}
        _common_batch(
            {"the pose": full_pose, "betas": betas} | {name: x for name, x in others.items() if x is not None}
        )
        posed, surface = self._pose(
            coefficients, full_pose, shift, vertex_offsets, joint_offsets, whole=return_verts or not on_surface
        )
        joints, vertices = posed.joints, posed.vertices
        if on_surface:
            joints = torch.cat([joints, *surface.points(vertices, posed.rot_mats)], 1)
        if self.joint_mapper is not None:
            joints = self._mapped(joints, vertices)
            if shift is not None:
                joints, vertices = joints + shift[:, None], vertices + shift[:, None]
        batch = posed.joints.shape[0]
        for name, part in parts.items():
            if hasattr(output, name):  # the eyes are no field
                shared = pose[name] is None and part.shape[0] != batch
                setattr(output, name, part.expand(batch, *part.shape[1:]) if shared else part)
        dtype = self.v_template.dtype
        output.vertices = _like(vertices, dtype) if return_verts else None
        output.joints = _like(joints, dtype)
        output.betas = betas.expand(batch, -1)
        if hasattr(output, "expression"):
            output.expression = None if expression is None else expression.expand(batch, -1)
        if return_full_pose:
            output.full_pose = full_pose.expand(batch, *full_pose.shape[1:])
        output.A_global, output._shift = _like(posed.A_global, dtype), shift
        return output

    def _pose(
        self,
        coefficients: Tensor,
        full_pose: Tensor,
        shift: Tensor | None,
        vertex_offsets: Tensor | None,
        joint_offsets: Tensor | None,
        whole: bool,
    ) -> tuple[Posed, Surface]:
        """Runs the operator: over the whole mesh, or over the vertices that the joints on the surface depend on."""
        needed = None if whole or self.joint_mapper is not None else self._needed()
        if needed is None:
            rig, surface = self.rig(), self._surface()
        else:
            vertices, surface, rig = needed
            vertex_offsets = None if vertex_offsets is None else vertex_offsets.index_select(1, vertices)
        posed = rig.pose(
            widened(coefficients),
            widened(full_pose),
            None if shift is None or self.joint_mapper is not None else widened(shift),  # a mapper sees joints without
            vertex_offsets=None if vertex_offsets is None else widened(vertex_offsets),
            joint_offsets=None if joint_offsets is None else widened(joint_offsets),
        )
        return posed, surface

    def _argument(self, name: str, given: Tensor | None, of: Tensor | None = None) -> Tensor:
        """A call's argument, or the parameter in its place; of a layer, zeros."""
        if given is not None:
            return given
        if self._takes_matrices:
            size = self.num_betas if name == "betas" else self.num_expression_coeffs
            return self.v_template.new_zeros(1 if of is None else of.shape[0], size)
        if (parameter := getattr(self, name, None)) is not None:
            return parameter
        raise AttributeError(
            f"{type(self).__name__}: {name} is missing: give it, or construct the model with create_{name}=True"
        )

    def _check(
        self,
        pose: dict[str, Tensor | None],
        matrices: bool,
        betas: Tensor | None,
        expression: Tensor | None,
        transl: Tensor | None,
        vertex_offsets: Tensor | None,
        joint_offsets: Tensor | None,
    ) -> None:
        """A sentence for an argument that is no tensor, on another device, or of another type or shape."""
        check = ArgumentCheck(type(self).__name__, self.v_template)
        directions = self._directions()
        vertices, joints = self.v_template.shape[-2], self.parents.shape[0]
        check.shape("betas", betas, directions[0].shape[2])
        if len(directions) > 1:
            check.shape("expression", expression, directions[1].shape[2])
        check.shape("transl", transl, 3)
        check.shape("vertex_offsets", vertex_offsets, vertices, 3)
        check.shape("joint_offsets", joint_offsets, joints, 3)
        for name, count in self._PARTS:
            if matrices:
                check.matrices(name, pose[name], count)
            else:
                check.vectors(name, pose[name], count, self._components(name))

    def _components(self, name: str) -> int | None:
        """How many numbers this part of the pose has where they are components."""
        return None

    def _vectors(self, pose: dict[str, Tensor | None]) -> tuple[Tensor, dict[str, Tensor]]:
        """The full pose [B, 3 J] and each part of it, as vectors."""
        parts = {name: self._expanded(name, self._argument(name, given)) for name, given in pose.items()}
        full = _joined({name: parts[name].reshape(-1, 3 * joints) for name, joints in self._PARTS})
        mean = self._buffers.get("pose_mean")
        return full if mean is None else full + mean, parts

    def _matrices(self, pose: dict[str, Tensor | None]) -> tuple[Tensor, dict[str, Tensor]]:
        """The full pose [B, J, 3, 3] and each part of it. What is not given is the parameter, or identity."""
        parts, first = {}, 0
        for name, joints in self._PARTS:
            given = pose[name]
            if given is not None:
                parts[name] = given.reshape(-1, joints, 3, 3)
            elif self._takes_matrices:
                identity = torch.eye(3, dtype=self.v_template.dtype, device=self.v_template.device)
                parts[name] = identity.expand(1, joints, 3, 3)
            else:
                vectors = self._expanded(name, self._argument(name, None)).reshape(-1, 3 * joints)
                mean = self._buffers.get("pose_mean")
                vectors = vectors if mean is None else vectors + mean[3 * first : 3 * (first + joints)]
                rotations = torch.ops.smplx.rodrigues(widened(vectors).unflatten(1, (joints, 3)))
                parts[name] = rotations.to(vectors.dtype)
            first += joints
        as_given = {name: given for name, given in pose.items() if given is not None}
        return _joined(parts), parts | as_given

    def _expanded(self, name: str, part: Tensor) -> Tensor:
        """A part of the pose with 3 numbers a joint."""
        return part

    def _shaped(self, betas: Tensor) -> Tensor:
        """The template with these betas, [B, V, 3]."""
        template = widened(self.v_template)
        own = template.ndim == 3  # a template for each body
        tensors = torch.zeros_like(template[0]) if own else template, widened(self.shapedirs), widened(betas)
        shaped = torch.ops.smplx.blend_shapes(*tensors)
        return (template + shaped if own else shaped).to(self.v_template.dtype)

    def _mapped(self, joints: Tensor, vertices: Tensor) -> Tensor:
        return self.joint_mapper(joints)

    def _directions(self) -> list[Tensor]:
        """The buffers of blend shapes, in the order of the coefficients."""
        return [self.shapedirs]

    def _surface(self) -> Surface:
        return Surface(self.vertex_joint_selector.extra_joints_idxs, self.faces_tensor)

    def _sources(self) -> list[Tensor]:
        model = [self.v_template, self.posedirs, self.J_regressor, self.parents, self.lbs_weights]
        return [*model, *self._directions(), *(tensor for tensor in self._surface() if tensor is not None)]

    def _assemble(self) -> Rig:
        directions = self._directions()
        return Rig(
            v_template=widened(self.v_template),
            shapedirs=widened(directions[0] if len(directions) == 1 else torch.cat(directions, 2)),
            posedirs=widened(self.posedirs),
            J_regressor=widened(self.J_regressor),
            parents=rooted(self.parents, self.parents.device),
            lbs_weights=widened(self.lbs_weights),
        )

    def prepare(self) -> None:
        """Derives again what the operator uses of the buffers."""
        self._points = None
        super().prepare()

    def _needed(self) -> tuple[Tensor, Surface, Rig] | None:
        """The vertices that joints on the surface depend on, with the surface and the rig that have these alone."""
        if torch.compiler.is_compiling():
            return self._points
        rig = self.rig()
        if not rig.prepared or (torch.is_grad_enabled() and any(t.requires_grad for t in self._sources())):
            return None
        if self._points is None:
            with torch.inference_mode(False):  # as in `prepare`
                vertices, surface = self._surface().on_needed_vertices()
                self._points = vertices, surface, rig.subset(vertices)
        return self._points

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_points": None}


class SMPLLayer(SMPL):
    """SMPL without parameters, posed by rotation matrices."""

    _takes_matrices = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        off = {"create_betas": False, "create_global_orient": False, "create_body_pose": False, "create_transl": False}
        super().__init__(*args, **{**kwargs, **off})


def _joined(parts: dict[str, Tensor]) -> Tensor:
    """Parts [B|1, n, ...] side by side: [B, sum of n, ...]."""
    batch = _common_batch(parts)
    return torch.cat([part.expand(batch, *part.shape[1:]) for part in parts.values()], 1)


def _common_batch(parts: dict[str, Tensor]) -> int:
    """The first dimension of all, where it is not 1."""
    sizes = {name: part.shape[0] for name, part in parts.items()}
    batch = next((size for size in sizes.values() if size != 1), 1)
    wrong = [f"{name} {size}" for name, size in sizes.items() if size not in (1, batch)]
    if wrong:
        raise ValueError(f"the arguments of a call have different batches: {batch}, but {', '.join(wrong)}")
    return batch


def _like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Results of a 16-bit model are 16-bit, though computed in float32."""
    return tensor.to(dtype) if dtype in (torch.float16, torch.bfloat16) else tensor


__all__ = ["SMPL", "ModelOutput", "SMPLLayer", "SMPLOutput"]
