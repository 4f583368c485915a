"""Runs every kernel on small odd sizes, forward and backward: what the sanitizers watch.

`python tools/exercise_kernels.py [body] [slabs] [mel] [face] [float32] [float64]` runs the kernels of these parts in
these types, by default of all: sanitizers are slow, and several processes share the work.
`--no-tensor-cores` leaves out the products of cuBLAS that write through the bulk copy engine: initcheck does not see
what that writes, and takes it for uninitialised.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "body"))

import torch

import avatorch
from avatorch.audio import MelSpectrogram
from rigs import Rig, rig

smplx = torch.ops.smplx
PARTS, TYPES = {"body", "slabs", "mel", "face"}, {"float32", "float64"}
DIALECTS = ("whisper", "whisper loudest=batch", "whisper loudest=so_far", "nemo", "kaldi framing=mirrored")


def main(parts: set[str], types: set[str], tensor_cores: bool) -> None:
    """Calls each operator; the sanitizer judges."""
    avatorch.warm_up("cuda")
    for dtype in (getattr(torch, name) for name in sorted(types)):
        if "body" in parts:
            bodies(dtype)
        if "slabs" in parts and dtype == torch.float32:
            for model in rigs(dtype):
                if model.posedirs is None:
                    in_slabs(model)
                elif tensor_cores:
                    in_slabs(model)
                    in_slabs(model, fast=True)
            if tensor_cores:
                in_slabs(rig(700, 24, 12, 6).to("cuda", dtype), ((1100, False),))  # several runs of vertices to a block
                in_slabs(rig(200, 65, 20, 4).to("cuda", dtype))  # more joints than a group of warps takes
        if "mel" in parts:
            for dialect in DIALECTS:
                spectrogram(dialect, dtype)
        if "face" in parts:
            for size, tracks, frames in ((1, 3, 5), (43, 3, 2), (260, 1, 1)):  # the last may not fit shared memory
                blend_shape_weights(size, tracks, frames, dtype)
    torch.cuda.synchronize()
    print(f"every kernel ran: {', '.join(sorted(parts | types))}")


def rigs(dtype: torch.dtype) -> list[Rig]:
    """Of one joint and many, with and without pose correctives, regressors and shapes."""
    made = (
        rig(1, 1, 1, 1),
        rig(301, 55, 20, 4),
        rig(130, 104, 0, 9, posed=False),
        rig(65, 33, 3, 2, regressed=False, posed=False),
    )
    return [model.to("cuda", dtype) for model in made]


def bodies(dtype: torch.dtype) -> None:
    """The body operator on small models, with and without constants prepared, and rotations."""
    for model in rigs(dtype):
        for prepared in (None, model.prepared()):
            for count, matrices in ((1, False), (3, False), (3, True)):
                run(model, prepared, count, matrices)
    rotvec = torch.randn(777, 3, device="cuda", dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(smplx.rodrigues(rotvec).sin().sum(), rotvec, create_graph=True)
    gradient.sum().backward()


def spectrogram(dialect: str, dtype: torch.dtype) -> None:
    """Three clips of different lengths, their gradient, and a transform of another size."""
    for sizes in ("", " n_fft=430 win_length=400", " n_fft=1024"):
        mel = MelSpectrogram(dialect + sizes).to("cuda")
        clips = torch.randn(3, 5003, device="cuda", dtype=dtype, requires_grad=True)
        mel(clips, torch.tensor([5003, 0, 1777], device="cuda")).sin().sum().backward()
        mel(clips).sin().sum().backward()
        if not sizes:
            mel(clips.detach().repeat(100, 1))  # several tiles to a block


def blend_shape_weights(size: int, tracks: int, frames: int, dtype: torch.dtype) -> None:
    """Bounds that are reached, cancel pairs, and a matrix of high condition where a sanitizer has the time."""
    spread = torch.logspace(0, -3 if size < 100 else -1, size, dtype=torch.float64)
    factors = torch.randn(size, size, dtype=torch.float64) * spread
    normal = (factors @ factors.mT + 1e-4 * torch.eye(size)).to("cuda", dtype)[None]
    rhs = torch.randn(tracks, frames, size, device="cuda", dtype=dtype)
    for pairs in ([], [[0, size - 1]]):
        torch.ops.audio2face.solve(
            normal, rhs, torch.zeros(tracks, size, device="cuda", dtype=dtype), torch.full((tracks,), 0.1).to(rhs),
            torch.ones(size).to(rhs), torch.tensor(pairs, dtype=torch.int64, device="cuda").reshape(-1, 2),
        )  # fmt: skip


def run(model, prepared, count: int, matrices: bool) -> None:  # type: ignore[no-untyped-def]
    """Forward, backward to everything, and a second derivative."""
    vertices = len(model.lbs_weights)
    inputs = {name: tensor.requires_grad_() for name, tensor in model.inputs(count, matrices=matrices).items()}
    offsets = torch.zeros(1, vertices, 3, device="cuda", dtype=model.v_template.dtype, requires_grad=True)
    weights = model.lbs_weights.clone().requires_grad_() if prepared is None else model.lbs_weights
    results = smplx.forward(
        *inputs.values(), model.v_template, model.shapedirs, model.posedirs, model.J_regressor, model.parents, weights,
        model.J_template, model.J_shapedirs, offsets, None, prepared,
    )  # fmt: skip
    loss = sum(result.sin().sum() for result in results)
    leaves = [*inputs.values(), offsets, *([weights] if prepared is None else [])]
    gradients = torch.autograd.grad(loss, leaves, create_graph=True)
    torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), leaves)


def in_slabs(model: Rig, batches: tuple[tuple[int, bool], ...] = ((5, False), (45, True)), fast: bool = False) -> None:
    """So many bodies that they are taken in slabs."""
    prepared = model.prepared(fast)
    for bodies, matrices in batches:
        inputs = {name: tensor.requires_grad_() for name, tensor in model.inputs(bodies, matrices=matrices).items()}
        arguments = (
            *inputs.values(), model.v_template, model.shapedirs, model.posedirs, model.J_regressor, model.parents,
            model.lbs_weights, model.J_template, model.J_shapedirs, None, None, prepared,
        )  # fmt: skip
        smplx.forward(*arguments, False)
        vertices, joints, *_ = smplx.forward(*arguments)
        torch.autograd.grad(vertices.sin().sum() + joints.sum(), list(inputs.values()))


if __name__ == "__main__":
    words = set(sys.argv[1:])
    main(words & PARTS or PARTS, words & TYPES or TYPES, "--no-tensor-cores" not in words)
