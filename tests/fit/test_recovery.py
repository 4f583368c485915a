"""Known parameters are found again, and bad data do no more harm than they must."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import avatorch
from avatorch import fit

EVERYTHING = [fit.Stage(("betas", "pose", "transl"), 12)]
NAMES = ["root", "spine01", "neck01", "head", "upperarm01.L", "lowerarm01.L", "wrist.L", "upperarm01.R", "lowerarm01.R",
         "wrist.R", "upperleg01.L", "lowerleg01.L", "foot.L", "upperleg01.R", "lowerleg01.R", "foot.R"]  # fmt: skip


def someone(body: avatorch.Body, frames: int, bent: float = 0.15) -> dict[str, Tensor]:
    like = body.v_template
    return {
        "betas": torch.randn(frames, body.num_betas).to(like),
        "pose": bent * torch.randn(frames, 3 * body.num_joints).to(like),
        "transl": torch.randn(frames, 3).to(like),
    }


def worst(found: Tensor, target: Tensor) -> float:
    """Millimetres."""
    return 1000 * float((found - target).norm(dim=-1).max())


def mean(found: Tensor, target: Tensor) -> float:
    return 1000 * float((found - target).norm(dim=-1).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_joints_and_vertices(device: str, dtype: torch.dtype) -> None:
    body, frames = avatorch.open_body(dtype).to(device), 2 if dtype == torch.float32 else 1
    target = body(**someone(body, frames))
    terms = [fit.Joints(target.joints, sigma=0.001), fit.Vertices(target.vertices, sigma=0.001)]
    found = fit.solve(fit.Problem(body, terms, frames=frames), schedule=EVERYTHING)
    limit = 0.01 if dtype == torch.float32 else 1e-6
    assert worst(found.posed().vertices, target.vertices) < limit
    assert found.x.dtype == dtype and found.steps <= 12


def test_four_views(device: str) -> None:
    body = avatorch.open_body().to(device)
    target = body(**someone(body, 1))
    eyes = torch.tensor([[3.0, 0.3, 0.0], [0.0, 0.3, 3.0], [-3.0, 0.3, 0.5], [0.5, 0.5, -3.0]])
    camera = fit.Camera.looking_at(eyes, torch.zeros(3), 900.0, (1000, 1000))
    camera.distortion = torch.tensor([[0.05, -0.02, 0.001, 0.001, 0.0]]).expand(4, -1)
    pixels = camera.to(target.joints).project(target.joints)
    priors = [fit.Values("betas", sigma=10.0), fit.Values("pose", sigma=10.0)]
    problem = fit.Problem(body, [fit.Keypoints(pixels, camera, sigma=1.0, robust=None), *priors], frames=1)
    found = fit.solve(problem, schedule=fit.default_schedule(problem, (5, 0, 40)))
    assert worst(found.posed().joints, target.joints) < 1.0


def test_camera_is_found() -> None:
    body = avatorch.open_body()
    target = body(**someone(body, 1, bent=0.0))
    eyes = torch.tensor([[2.5, 0.3, 2.0]])
    camera = fit.Camera.looking_at(eyes + target.joints[0, :1], target.joints[0, 0], 900.0, (1000, 1000))
    turned = torch.ops.smplx.rodrigues(torch.tensor([[[0.01, 0.03, -0.02]]]))[0] @ camera.rotation
    wrong = fit.Camera(camera.focal * 1.05, camera.centre, turned, camera.translation + 0.02)
    term = fit.Keypoints(camera.project(target.joints), wrong, robust=None)
    fixed = {"transl": target.joints[:, 0] - body().joints[:, 0]}
    problem = fit.Problem(body, [term], frames=1, unknowns=("camera", "betas"), fixed=fixed)
    found = fit.solve(problem, schedule=[fit.Stage(("camera", "betas"), 12)])
    assert float(found.costs.sum()) < 1e-2 and found.camera is not None and found.camera.shape == (1, 7)


def test_noise_outliers_and_missing_points(device: str) -> None:
    body = avatorch.open_body().to(device)
    target = body(**someone(body, 2)).vertices
    seen = torch.randperm(target.shape[1])[:300].to(device)
    clean = target[:, seen] + 0.002 * torch.randn(2, 300, 3).to(device)
    bad = clean.clone()
    bad[:, :40] += 0.5 * torch.randn(2, 40, 3).to(device)
    bad[:, 40:80] = torch.nan
    bad[1, 160:] = torch.nan
    errors = []
    for points in (clean, bad):
        term = fit.Vertices(points, seen, sigma=0.003, robust="geman_mcclure")
        problem = fit.Problem(body, [term, *fit.usual_priors(body)], frames=2)
        found = fit.solve(problem, schedule=fit.default_schedule(problem, (3, 8, 12)))
        assert found.x.isfinite().all() and found.costs.isfinite().all()
        errors.append([mean(v, t) for v, t in zip(found.posed().vertices, target, strict=True)])
    assert max(errors[0]) < 6
    assert errors[1][0] < 8 and errors[1][1] < 40  # the last frame has 80 points that are right


def test_nothing_but_bad_data() -> None:
    body = avatorch.open_body()
    seen = torch.arange(0, 13718, 200)
    target = torch.full((2, len(seen), 3), torch.nan)
    target[1] = 1e30  # squares overflow
    problem = fit.Problem(body, [fit.Vertices(target, seen), *fit.usual_priors(body)], frames=2)
    for solver in (fit.LevenbergMarquardt(), fit.FirstOrder()):
        schedule = [fit.Stage(("betas", "pose", "transl"), 4)]
        assert fit.solve(problem, {}, solver=solver, schedule=schedule).x.isfinite().all()


def test_one_shape_for_a_smooth_motion() -> None:
    body = avatorch.open_body()
    part = torch.linspace(0, 1, 6)[:, None]
    one = someone(body, 1, bent=0.25)
    target = body(betas=one["betas"], pose=part * one["pose"], transl=part * one["transl"]).vertices
    seen = torch.randperm(target.shape[1])[:200]
    markers = target[:, seen] + 0.004 * torch.randn(6, 200, 3)
    errors = []
    for smooth in (False, True):
        terms = [fit.Vertices(markers, seen, sigma=0.004), *fit.usual_priors(body, smooth=smooth)]
        problem = fit.Problem(body, terms, frames=6, shared=("betas",))
        found = fit.solve(problem, schedule=[fit.Stage(("betas", "pose", "transl"), 12)])
        assert torch.equal(found.values["betas"], found.values["betas"][:1].expand(6, -1))
        errors.append(mean(found.posed().vertices, target))
    assert errors[1] < errors[0] < 10


def test_a_scan_without_correspondence() -> None:
    body = avatorch.open_body()
    target = body(**someone(body, 1, bent=0.08)).vertices
    points = target[:, torch.randperm(13348)[:700]] + 0.002 * torch.randn(1, 700, 3)
    problem = fit.Problem(body, [fit.PointCloud(points, sigma=0.003), *fit.usual_priors(body)], frames=1)
    start = fit.first_guess(problem)
    found = fit.solve(problem, start, schedule=fit.default_schedule(problem, (5, 12, 12)))
    surface = problem.terms[0].surface  # type: ignore[attr-defined]
    near = surface.nearest(points, found.posed().vertices)
    reached = (found.posed().vertices[0][near.corners[0]] * near.shares[0, ..., None]).sum(1)
    away = 1000 * (reached - points[0]).norm(dim=-1)
    assert away.median() < 2  # the noise across the surface is 2 mm
    assert mean(found.posed().vertices, target) < 0.3 * mean(body(**start).vertices, target)


def test_expressions_and_landmarks() -> None:
    body = avatorch.open_body()
    weights = torch.rand(2, 52).square()
    target = body(expression=weights)
    problem = fit.Problem(body, [fit.Values("expression", weights, sigma=0.01)], frames=2, unknowns=["expression"])
    torch.testing.assert_close(fit.solve(problem).values["expression"], weights)
    jaw = body.shapedirs[:, :, 20 + body.expression_names.index("jawOpen")].norm(dim=1)
    triangles = (jaw[body.faces].sum(1) > 0.5 * jaw[body.faces].sum(1).max()).nonzero().flatten()[::10]
    shares = torch.full((len(triangles), 3), 1 / 3)
    places = (target.vertices[:, body.faces[triangles]] * shares[..., None]).sum(2)
    terms = [fit.Landmarks(places, triangles, shares, sigma=0.0005), *fit.usual_priors(body, ["expression"])]
    found = fit.solve(fit.Problem(body, terms, frames=2, unknowns=["expression"]))
    posed = found.posed().vertices[:, body.faces[triangles]]
    assert worst((posed * shares[..., None]).sum(2), places) < 1.0


def test_offsets_by_adam() -> None:
    body = avatorch.open_body()
    target = body().vertices + 0.02 * torch.randn(1, 13718, 3)
    problem = fit.Problem(body, [fit.Vertices(target, sigma=0.01)], frames=1, unknowns=["vertex_offsets"])
    with pytest.raises(ValueError, match="vertex_offsets are too many"):
        fit.solve(problem)
    solver = fit.FirstOrder(lambda x: torch.optim.Adam(x, lr=0.005))
    found = fit.solve(problem, solver=solver, schedule=[fit.Stage(["vertex_offsets"], 60)])
    assert mean(found.posed().vertices, target) < 1
    assert found.values["vertex_offsets"].shape == (1, 13718, 3)
