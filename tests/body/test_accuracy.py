"""Errors at full SMPL-X size: at most twice those of the same formula in float32 torch, against float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avatorch import reference
from rigs import Rig, rig

VERTICES, JOINTS, SHAPES = 10475, 55, 20
MICROMETRE = 1e-6


@pytest.fixture(scope="module")
def person() -> Rig:
    """SMPL-X's sizes and magnitudes: 1.8 m tall, centimetres of shape, millimetres of correctives."""
    model = rig(VERTICES, JOINTS, SHAPES, 4)
    generator = torch.Generator().manual_seed(7)
    scale = torch.tensor([0.3, 0.9, 0.2], dtype=torch.double)
    template = (torch.rand(VERTICES, 3, generator=generator, dtype=torch.double) * 2 - 1) * scale
    assert model.posedirs is not None
    return replace(model, v_template=template, shapedirs=0.1 * model.shapedirs, posedirs=0.01 * model.posedirs)


def run(
    function: str,
    model: Rig,
    inputs: dict[str, Tensor],
    cotangent: Tensor,
    only_inputs: bool = False,
    fast: bool = False,
) -> dict[str, Tensor]:
    """Vertices, joints and every gradient; of the inputs alone, with the model prepared."""
    names = [name for name, tensor in vars(model).items() if tensor is not None and tensor.is_floating_point()]
    leaves = {name: getattr(model, name).detach().clone().requires_grad_() for name in names}
    if only_inputs:
        leaves = {name: getattr(model, name) for name in names}
    asking = {name: tensor.detach().clone().requires_grad_() for name, tensor in inputs.items()}
    leaves |= asking
    if function == "operator":
        results = torch.ops.smplx.forward(
            *(leaves[name] for name in ("shape_coefficients", "pose", "transl", "v_template", "shapedirs", "posedirs")),
            leaves["J_regressor"], model.parents, leaves["lbs_weights"],
            prepared=model.prepared(fast) if only_inputs else None,
        )  # fmt: skip
    else:
        results = reference.forward(
            *(leaves[name] for name in ("shape_coefficients", "pose", "transl", "v_template", "shapedirs", "posedirs")),
            model.parents, leaves["lbs_weights"], J_regressor=leaves["J_regressor"],
        )  # fmt: skip
    asking = asking if only_inputs else leaves
    gradients = torch.autograd.grad(results[0], list(asking.values()), cotangent)
    found = {"vertices": results[0].detach(), "joints": results[1].detach()}
    return found | {f"gradient of {name}": gradient for name, gradient in zip(asking, gradients, strict=True)}


# A few bodies, and so many that a GPU takes them in slabs.
@pytest.mark.parametrize(("batch", "only_inputs"), [(4, False), (33, True)], ids=["everything", "inputs"])
def test_float32_errs_at_most_twice_as_much_as_torch(person: Rig, batch: int, only_inputs: bool, device: str) -> None:
    person = person.to(device)
    inputs = {name: tensor.to(device) for name, tensor in person.inputs(batch).items()}
    cotangent = torch.randn(batch, VERTICES, 3, dtype=torch.double, device=device)
    exact = run("reference", person, inputs, cotangent, only_inputs)
    narrow = person.to(device, torch.float32), {n: t.float() for n, t in inputs.items()}, cotangent.float()
    ours, torchs = (run(function, *narrow, only_inputs) for function in ("operator", "reference"))
    lines = []
    for name, truth in exact.items():
        size = truth.norm()
        one, other = ((found[name].double() - truth).norm() / size for found in (ours, torchs))
        largest = (ours[name].double() - truth).abs().max()
        lines.append(f"| {name} | {one:.1e} | {other:.1e} | {largest:.1e} |")
        assert one <= 2 * other, f"{name}: {one} against {other}"
    print("\n".join(["", f"| {device} | relative error | torch's | largest |", "|---|---|---|---|", *lines]))
    assert (ours["vertices"].double() - exact["vertices"]).abs().max() <= MICROMETRE


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("batch", [32, 33])
def test_the_fast_mode_errs_by_micrometres(person: Rig, batch: int) -> None:
    person = person.to("cuda")
    inputs = {name: tensor.to("cuda") for name, tensor in person.inputs(batch).items()}
    cotangent = torch.randn(batch, VERTICES, 3, dtype=torch.double, device="cuda")
    exact = run("reference", person, inputs, cotangent, only_inputs=True)
    narrow = person.to("cuda", torch.float32), {n: t.float() for n, t in inputs.items()}, cotangent.float()
    ours = run("operator", *narrow, only_inputs=True, fast=True)
    errors = {name: (ours[name].double() - truth).norm() / truth.norm() for name, truth in exact.items()}
    distances = (ours["vertices"].double() - exact["vertices"]).norm(dim=2) / MICROMETRE
    rms, largest = distances.square().mean().sqrt(), distances.max()
    print("\n".join(["", f"| fast, {batch} bodies | relative error |", "|---|---|"]))
    print("\n".join(f"| {name} | {error:.1e} |" for name, error in errors.items()))
    print(f"vertices: {rms:.2f} micrometres (rms), {largest:.2f} at most")
    assert rms <= 4 and largest <= 20 and errors["gradient of pose"] <= 2e-5
    assert all(error <= 1e-6 for name, error in errors.items() if name not in ("vertices", "gradient of pose"))
