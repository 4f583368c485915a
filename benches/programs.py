"""The programs that turn shape, pose and translation into the vertices of one SMPL-X file, each under its name."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from expert import ExpertBody
from torch import Tensor

import avatorch
from avatorch import reference
from model import synthetic

BETAS = EXPRESSIONS = 10
# Where the file's columns of shape stand that are not zero.
COLUMNS = [*range(BETAS), *range(300, 300 + EXPRESSIONS)]
SIZES = {"global_orient": 3, "body_pose": 63, "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3, "left_hand_pose": 45}

Vertices = Callable[[Tensor, Tensor, Tensor], Tensor]  # [B, C], [B, 3 J], [B, 3] -> [B, V, 3]


@dataclass(frozen=True)
class Program:
    """`run` computes vertices; within `setting`, if there is one, and as a CUDA graph where `captured`.

    The pose blend is `products` of halves, where tensor cores compute it.
    """

    run: Vertices
    tf32: bool = False
    captured: bool = False
    takes_expressions: bool = True
    products: int = 3

    @contextlib.contextmanager
    def setting(self) -> Iterator[None]:
        """Matrix products as this program wants them."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def save_model(folder: Path) -> Path:
    """A file of SMPL-X's sizes that every program reads, of invented content."""
    arrays = synthetic.smplx(seed=1, dtype=np.float32)
    used = np.zeros(arrays["shapedirs"].shape[2], dtype=bool)
    used[COLUMNS] = True
    arrays["shapedirs"] = arrays["shapedirs"] * used
    # Some programs add the mean pose of the hands, others do not.
    arrays |= {f"hands_mean{side}": np.zeros(45, np.float32) for side in "lr"}
    names = {f"joint{j:02d}": j for j in range(55)}
    path = folder / "SMPLX_NEUTRAL.npz"
    np.savez(path, **(arrays | {"joint2num": np.array(names, dtype=object)}))
    np.save(folder / "kid_template.npy", np.zeros_like(arrays["v_template"]))
    return path


def model_tensors(path: Path, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    """Under the operator's names, with the columns of shape that are used."""
    body = avatorch.Body.load(path, dtype=dtype)
    names = ("v_template", "shapedirs", "posedirs", "J_regressor", "parents", "lbs_weights")
    tensors = {name: getattr(body, name).to(device) for name in names}
    return tensors | {"shapedirs": tensors["shapedirs"][:, :, COLUMNS].contiguous()}


def ours(model: dict[str, Tensor], fast: bool = False) -> Vertices:
    """The operator, prepared; intermediates are kept where a backward pass follows."""
    prepared = torch.ops.smplx.prepare(
        model["v_template"], model["shapedirs"], model["J_regressor"], model["parents"], model["lbs_weights"],
        posedirs=model["posedirs"], fast=fast,
    )  # fmt: skip

    # By position, as `avatorch.Body` calls it: sorting as many keywords takes torch 5 us more.
    names = ("v_template", "shapedirs", "posedirs", "J_regressor", "parents", "lbs_weights")
    rig = [*(model[name] for name in names), *(None,) * 4]

    def run(shape: Tensor, pose: Tensor, transl: Tensor) -> Tensor:
        return torch.ops.smplx.forward(shape, pose, transl, *rig, prepared, torch.is_grad_enabled())[0]

    return run


def eager(model: dict[str, Tensor]) -> Vertices:
    """The project's reference, in torch's operators."""
    return lambda shape, pose, transl: reference.forward(shape, pose, transl, **model).vertices


def smplx_package(path: Path, device: str) -> Vertices:
    """PyPI's smplx."""
    import smplx

    options = {"use_pca": False, "flat_hand_mean": True, "num_betas": BETAS, "num_expression_coeffs": EXPRESSIONS}
    module = smplx.create(str(path), "smplx", **options).to(device)

    def run(shape: Tensor, pose: Tensor, transl: Tensor) -> Tensor:
        parts = pose.split([*SIZES.values(), 45], 1)
        given = dict(zip([*SIZES, "right_hand_pose"], parts, strict=True))
        return module(betas=shape[:, :BETAS], expression=shape[:, BETAS:], transl=transl, **given).vertices

    return run


def smplfitter(path: Path, device: str) -> Vertices:
    """PyPI's smplfitter, which has no expressions."""
    from smplfitter.pt import BodyModel

    module = BodyModel("smplx", "neutral", model_root=str(path.parent), num_betas=BETAS).to(device)

    def run(shape: Tensor, pose: Tensor, transl: Tensor) -> Tensor:
        return module(pose_rotvecs=pose, shape_betas=shape[:, :BETAS], trans=transl)["vertices"]

    return run


def body_models(path: Path, device: str) -> Vertices:
    """PyPI's body-models."""
    from body_models.smplx.torch import SMPLX

    module = SMPLX(model_path=path).to(device)

    def run(shape: Tensor, pose: Tensor, transl: Tensor) -> Tensor:
        joints = pose.view(len(pose), 55, 3)
        return module.forward_vertices(
            pelvis_rotation=joints[:, 0],
            body_pose=joints[:, 1:22],
            head_pose=joints[:, 22:25],
            hand_pose=joints[:, 25:],
            shape=torch.nn.functional.pad(shape[:, :BETAS], (0, 300 - BETAS)),
            expression=torch.nn.functional.pad(shape[:, BETAS:], (0, 100 - EXPRESSIONS)),
            global_translation=transl,
        )

    return run


def all_programs(path: Path, device: str, compiled: bool) -> dict[str, Program]:
    """Those that are installed; smplx, the usual one, last."""
    model = model_tensors(path, torch.float32, device)
    operator = ours(model)
    programs, expert = {"avatorch": Program(operator)}, ExpertBody(**model)
    if device != "cpu":
        faster = ours(model, fast=True)
        programs["avatorch, CUDA graph"] = Program(operator, captured=True)
        programs["avatorch, fast"] = Program(faster, products=1)
        programs["avatorch, fast, CUDA graph"] = Program(faster, captured=True, products=1)
        programs["expert's PyTorch, CUDA graph"] = Program(expert, captured=True)
    if compiled:
        programs["avatorch, compiled"] = Program(torch.compile(operator, fullgraph=True, dynamic=False))
        programs["expert's PyTorch, compiled"] = Program(torch.compile(expert, fullgraph=True, dynamic=False))
        if device != "cpu":
            programs["expert's PyTorch, compiled, TF32"] = Program(
                torch.compile(expert, fullgraph=True, dynamic=False), tf32=True
            )
    else:
        programs["expert's PyTorch"] = Program(expert)
    programs["eager PyTorch"] = Program(eager(model))
    for name, make, expressions in (
        ("smplfitter", smplfitter, False),
        ("body_models", body_models, True),
        ("smplx", smplx_package, True),
    ):
        if importlib.util.find_spec(name):
            run = make(path, device)
            if compiled and name == "smplfitter":
                programs["smplfitter, compiled"] = Program(
                    torch.compile(run, dynamic=False), takes_expressions=expressions
                )
            else:
                programs[name] = Program(run, takes_expressions=expressions)
    return programs
