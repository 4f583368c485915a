"""Normal matrices in closed form are those of forward-mode differentiation; so are the sums over frames."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import avatorch
from avatorch import fit
from avatorch.fit import linear
from avatorch.fit.jacobian import left_jacobian
from avatorch.fit.moments import ConstantMoments, WeightedMoments
from avatorch.fit.terms import Columns, Term, columns_of
from model import synthetic


def small_body(kind: str, tmp_path: Path) -> avatorch.Body:
    """One without pose correctives, one with."""
    if kind == "open":
        body = avatorch.open_body(torch.float64)
        return body.subset(torch.arange(0, 13718, 40))
    file = synthetic.save_npz(tmp_path / "SMPLX_NEUTRAL.npz", synthetic.smplx(vertices=300, faces=400, columns=20))
    return avatorch.Body.load(file, dtype=torch.float64)


def problem_of(body: avatorch.Body) -> tuple[fit.Problem, torch.Tensor, Columns]:
    torch.manual_seed(3)
    like, frames = body.v_template, 2
    start = {name: 0.3 * torch.randn(frames, size).to(like) for name, size in (
        ("betas", body.num_betas), ("expression", body.num_expressions), ("pose", 3 * body.num_joints), ("transl", 3),
    )}  # fmt: skip
    posed = body(**start)
    near = posed.vertices + 0.01 * torch.randn_like(posed.vertices)
    camera = fit.Camera.looking_at(torch.tensor([[3.0, 0.3, 1.0], [0.0, 0.3, 4.0]]), torch.zeros(3), 500.0, (600, 400))
    chosen = torch.arange(0, len(like), 25)
    terms = [
        fit.Joints(posed.joints + 0.01, robust="huber"),
        fit.Vertices(near[:, chosen], chosen, robust="cauchy"),
        fit.Vertices(near, confidence=torch.rand(frames, len(like)), name="weighted"),
        fit.Vertices(near, name="whole"),
        fit.Keypoints(camera.to(like).project(posed.joints) + 5, camera, robust="geman_mcclure"),
        *fit.usual_priors(body, ("betas", "pose")),
    ]
    unknowns = ("betas", "expression", "pose", "transl", "camera")
    problem = fit.Problem(body, terms, frames=frames, unknowns=unknowns)
    x = problem.unknowns.join(start) + 0.02 * torch.randn(frames, problem.unknowns.N).to(like)
    some = torch.zeros(problem.unknowns.N, dtype=torch.bool)
    for name, first, count in (("betas", 2, 3), ("pose", 0, 30), ("transl", 0, 3), ("camera", 0, 14)):
        begin = problem.unknowns.slices[name].start + first
        some[begin : begin + count] = True
    return problem, x, columns_of(problem.unknowns, some.nonzero().flatten())


@pytest.mark.parametrize("kind", ["open", "smplx"])
def test_closed_forms(kind: str, tmp_path: Path) -> None:
    problem, x, columns = problem_of(small_body(kind, tmp_path))
    if kind == "smplx":  # of whole meshes the curvature of correctives is left out on purpose
        problem.terms = [term for term in problem.terms if term.name not in ("weighted", "whole")]
    with torch.no_grad():
        state = problem.state(x).part(slice(0, 2))
        for term in problem.terms:
            expected = Term.curvature(term, state, columns)
            found = term.curvature(state, columns)
            assert (found - expected).abs().max() <= 1e-7 * expected.abs().max() + 1e-12, term.name


def test_sums_made_once(tmp_path: Path) -> None:
    """A mesh whose vertices all frames trust alike: sums that only depend on the model, against a visit of each."""
    body = small_body("open", tmp_path)
    torch.manual_seed(4)
    start = {"betas": torch.randn(3, body.num_betas), "pose": 0.3 * torch.randn(3, 3 * body.num_joints)}
    with torch.no_grad():
        target = body(**{name: value.double() for name, value in start.items()}).vertices
    confidence = torch.rand(1, len(body.v_template))
    once, visited = fit.Vertices(target, confidence=confidence), fit.Vertices(target, confidence=confidence)
    problem = fit.Problem(body, [once, visited], frames=3)
    assert isinstance(once._moments, ConstantMoments)
    visited._moments = WeightedMoments(body)
    columns = columns_of(problem.unknowns, problem.unknowns.columns(("betas", "pose", "transl")))
    with torch.no_grad():
        state = problem.state(problem.unknowns.join({**start, "transl": torch.randn(3, 3)})).part(slice(0, 3))
        expected = visited.curvature(state, columns)
        found = once.curvature(state, columns)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.max()))


def test_left_jacobian() -> None:
    theta = torch.tensor([[0.0, 0.0, 0.0], [1e-3, 0.0, 2e-3], [0.009, 0.0, 0.0], [0.8, -1.0, 2.0]]).double()
    for one in theta:
        matrix = torch.ops.smplx.rodrigues(one[None, None])[0, 0]
        moved = torch.func.jacfwd(lambda r: torch.ops.smplx.rodrigues(r[None, None])[0, 0])(one)
        spin = torch.einsum("ija,kj->aik", moved, matrix)  # [axis, 3, 3], antisymmetric
        columns = torch.stack([spin[:, 2, 1], spin[:, 0, 2], spin[:, 1, 0]])
        torch.testing.assert_close(left_jacobian(one), columns, rtol=1e-9, atol=1e-10)


def test_steps_of_tied_frames() -> None:
    """Schur's complement and conjugate gradients against one dense system."""
    body = avatorch.open_body(torch.float64).subset([])
    frames = 4
    sequence = torch.tensor([0, 0, 0, 1])
    tie = fit.Smooth("transl", sigma=0.5)
    terms = [fit.Joints(torch.zeros(frames, 104, 3).double()), tie]
    problem = fit.Problem(
        body, terms, frames=frames, unknowns=("betas", "transl"), shared=("betas",), sequence=sequence
    )
    columns = problem.unknowns.columns(("betas", "transl"))
    n = len(columns)
    A = torch.randn(frames, 2 * n, n).double()
    H, g = A.mT @ A, torch.randn(frames, n).double()
    damping = torch.zeros(frames).double()
    ties = torch.zeros(frames, n, frames, n).double()
    for i in range(3):  # between frames alone; what is within one is in H already
        for a, row in ((0, 1.0), (1, -2.0), (2, 1.0)):
            for b, column in ((0, 1.0), (1, -2.0), (2, 1.0)):
                if a != b and i == 0:
                    ties[a, 20 + torch.arange(3), b, 20 + torch.arange(3)] += row * column / 0.25
    dense = torch.block_diag(*H).reshape(frames, n, frames, n) + ties
    select = torch.zeros(frames, n, 2 * 20 + 3 * frames).double()
    for frame in range(frames):
        select[frame, torch.arange(20), 20 * sequence[frame] + torch.arange(20)] = 1
        select[frame, 20 + torch.arange(3), 40 + 3 * frame + torch.arange(3)] = 1
    select = select.flatten(0, 1)
    H_all, g_all = select.T @ dense.flatten(2).flatten(0, 1) @ select, select.T @ g.flatten()
    expected = (select @ torch.linalg.solve(H_all, -g_all)).reshape(frames, n)
    found = linear.step(problem.unknowns, columns, H, g, damping, [(tie, 1.0)])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert torch.equal(found[0, :20], found[1, :20])


def test_a_prior_of_ones_own() -> None:
    """A function of the unknowns, as a pose prior made of a network."""
    body = avatorch.open_body()
    layer = torch.nn.Linear(312, 8)
    prior = fit.Residuals(lambda values, posed: torch.tanh(layer(values["pose"])), sigma=0.1, uses_body=False)
    target = body.subset([])(pose=0.1 * torch.randn(2, 312)).joints
    terms = [fit.Joints(target, sigma=0.01), prior, fit.Values("pose")]
    found = fit.solve(fit.Problem(body, terms, frames=2, unknowns=["pose"]))
    assert found.history[-1] < found.history[0] and found.x.isfinite().all()
