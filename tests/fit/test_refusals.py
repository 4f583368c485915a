"""What is missing does no harm, what is wrong is refused with a sentence, and what is unusual works."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import avatorch
from avatorch import cli, fit
from avatorch.fit import checkpoint
from avatorch.fit.moments import WeightedMoments

NAN, INF = float("nan"), float("inf")
EVERYTHING = [fit.Stage(("betas", "pose", "transl"), 3)]


@pytest.fixture(scope="module")
def body() -> avatorch.Body:
    return avatorch.open_body().subset(range(0, 13718, 60))


def solved(body: avatorch.Body, terms: list[fit.Term], frames: int = 2, **others: Any) -> fit.Fit:
    return fit.solve(fit.Problem(body, terms, frames=frames, **others), schedule=EVERYTHING)


def seen(body: avatorch.Body, kind: str) -> tuple[Tensor, Callable[..., fit.Term]]:
    """Targets of two frames, and a term of them."""
    posed = body(pose=0.1 * torch.randn(2, 3 * body.num_joints))
    return (posed.joints, fit.Joints) if kind == "joints" else (
        posed.vertices, fit.Vertices if kind == "vertices" else fit.PointCloud
    )  # fmt: skip


KINDS = pytest.mark.parametrize("kind", ["joints", "vertices", "points"])


@KINDS
def test_missing(body: avatorch.Body, kind: str) -> None:
    target, term = seen(body, kind)
    one_empty, holes, trust = target.clone(), target.clone(), torch.ones(target.shape[:2])
    one_empty[1] = NAN
    holes[:, ::2], trust[:, ::2] = NAN, NAN  # a detector that says NaN of both
    terms = [
        term(one_empty), term(holes, confidence=trust), term(NAN * target), term(target[:, :0]) if kind == "points" else
        term(target, confidence=torch.zeros(1, target.shape[1])),
    ]  # fmt: skip
    for one in terms:
        found = solved(body, [one, *fit.usual_priors(body)])
        assert found.x.isfinite().all() and found.costs.isfinite().all()


@KINDS
@pytest.mark.parametrize("wrong", [-1.0, NAN, INF])
def test_confidence_that_is_none(body: avatorch.Body, kind: str, wrong: float) -> None:
    target, term = seen(body, kind)
    trust = torch.ones(2, target.shape[1])
    trust[0, 3] = wrong
    with pytest.raises(ValueError, match="confidence holds negative, infinite or NaN"):
        term(target, confidence=trust)


@KINDS
def test_shapes_of_confidence(body: avatorch.Body, kind: str) -> None:
    target, term = seen(body, kind)
    for shape in ((3, target.shape[1]), (2, 5), (target.shape[1],)):
        with pytest.raises(ValueError, match="confidence has shape"):
            term(target, confidence=torch.ones(shape))
    with pytest.raises(ValueError, match="confidence has shape"):  # it would have made three frames of one
        solved(body, [term(target[:1], confidence=torch.ones(3, target.shape[1]))], 1)
    for shape in ((3, 20), (2, 5)):
        with pytest.raises(ValueError, match="confidence"):
            solved(body, [fit.Values("betas", confidence=torch.ones(shape))])


@KINDS
def test_no_frames_arrays_and_lists(body: avatorch.Body, kind: str) -> None:
    target, term = seen(body, kind)
    priors = fit.usual_priors(body, smooth=True)
    assert solved(body, [term(target[:0]), *priors], 0, shared=("betas",)).x.shape[0] == 0
    expected = solved(body, [term(target), *priors]).x
    for given in (target.numpy(), target.tolist()):
        assert torch.equal(solved(body, [term(given), *priors]).x, expected)


def test_only_pose_from_a_whole_mesh(body: avatorch.Body) -> None:
    target, _ = seen(body, "vertices")
    unknowns = ("pose", "transl")
    problem = fit.Problem(body, [fit.Vertices(target)], frames=2, unknowns=unknowns)
    found = fit.solve(problem, schedule=[fit.Stage(unknowns, 10)])
    assert found.history[-1] < 0.1 * found.history[0]


def test_fixed_offsets() -> None:
    whole = avatorch.open_body()
    offsets = 0.05 * torch.randn(1, 13718, 3)
    target = whole(transl=torch.ones(1, 3), vertex_offsets=offsets).vertices
    some = torch.arange(0, 13718, 500)
    for term in (fit.Vertices(target[:, some], some), fit.Vertices(target)):
        problem = fit.Problem(whole, [term], frames=1, unknowns=["transl"], fixed={"vertex_offsets": offsets})
        assert term._moments is None or isinstance(term._moments, WeightedMoments)
        torch.testing.assert_close(fit.solve(problem).values["transl"], torch.ones(1, 3))
    with pytest.raises(ValueError, match="fixed has 'beta'"):
        fit.Problem(whole, [term], frames=1, fixed={"beta": torch.zeros(1, 20)})


def test_cameras(body: avatorch.Body) -> None:
    good = fit.Camera.looking_at(torch.tensor([[3.0, 0.3, 0.0]]), torch.zeros(3), 500.0, (600, 400))
    parts = (good.focal, good.centre, good.rotation, good.translation)
    with pytest.raises(ValueError, match="focal is 0"):
        fit.Camera(0 * good.focal, *parts[1:])
    with pytest.raises(ValueError, match="translation holds numbers that are not finite"):
        fit.Camera(*parts[:3], NAN * good.translation)
    pixels = good.project(body().joints)
    for camera in (  # behind it; bent without measure
        fit.Camera(*parts[:3], good.translation - torch.tensor([0.0, 0.0, 20.0])),
        fit.Camera(*parts, torch.full((1, 5), 50.0)),
    ):
        found = solved(body, [fit.Keypoints(pixels, camera), *fit.usual_priors(body)], 1)
        assert found.x.isfinite().all()


def test_places_that_are_none() -> None:
    whole = avatorch.open_body()
    target, shares = torch.zeros(1, 2, 3), torch.full((2, 3), 1 / 3)
    for triangles in ([0, -1], [0, 10**6]):
        with pytest.raises(ValueError, match="not from 0 to 27419"):
            fit.Problem(whole, [fit.Landmarks(target, torch.tensor(triangles), shares)], frames=1)
    for count in (1, 3):
        with pytest.raises(ValueError, match="triangles has shape"):
            fit.Landmarks(target, torch.zeros(count, dtype=torch.long), torch.ones(count, 3))
    for vertices in ([0, -1], [0, 1 << 40], [0.0, 1.0], [True, False]):
        with pytest.raises(ValueError, match="vertices has shape"):
            fit.Problem(whole, [fit.Vertices(target, vertices)], frames=1)
    for limit in (torch.zeros(7), NAN):
        with pytest.raises(ValueError, match="Limits"):
            fit.Problem(whole, [fit.Limits("betas", limit, 1.0)], frames=1)
    for frames in (-1, 2.0):
        with pytest.raises(ValueError, match="frames is"):
            fit.Problem(whole, [], frames=frames)  # type: ignore[arg-type]
    for wrong in (lambda: fit.huber(-1.0), lambda: fit.Stage(["pose"], -1), lambda: fit.Stage(["pose"], 1, widen=0.0)):
        with pytest.raises(ValueError, match="expected"):
            wrong()


@pytest.mark.parametrize(
    "made",
    [lambda v, p: v["betas"].sum(), lambda v, p: v["betas"].sum(1), lambda v, p: v["betas"][:1], lambda v, p: None],
)
def test_residuals_of_no_use(body: avatorch.Body, made: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="the function returned"):
        solved(body, [fit.Residuals(made)])


def test_residuals_with_data_of_their_own(body: avatorch.Body) -> None:
    frames = 30  # more than are differentiated at a time
    target = body(transl=torch.randn(frames, 3)).joints
    own = fit.Residuals(lambda values, posed: posed.joints - target[values["frame"]], sigma=0.01)
    constant = fit.Residuals(lambda values, posed: torch.ones(len(values["transl"]), 3))
    problem = fit.Problem(body, [own, constant], frames=frames, unknowns=["transl"])
    found = fit.solve(problem, schedule=[fit.Stage(["transl"], 4)])
    torch.testing.assert_close(found.posed().joints, target, atol=1e-5, rtol=0)
    nothing = fit.solve(fit.Problem(body, [], frames=1))
    assert float(nothing.costs) == 0 and not nothing.x.any()


def test_checkpoints_of_other_problems(tmp_path: Path, body: avatorch.Body) -> None:
    small = body.subset([])
    target, file = small().joints + 0.1, tmp_path / "fit"

    def problem(joints: Tensor = target, chosen: Any = None, **fixed: Tensor) -> fit.Problem:
        return fit.Problem(small, [fit.Joints(joints, chosen)], frames=1, unknowns=["transl"], fixed=fixed)

    fit.solve(problem(), checkpoint=file)
    fit.solve(problem(), checkpoint=file)
    for other in (problem(target.flip(1)), problem(betas=torch.ones(1, 20)), problem(chosen=range(103, -1, -1))):
        with pytest.raises(ValueError, match="of another fit"):
            fit.solve(other, checkpoint=file)
    tensors, notes = checkpoint.unpacked(file.read_bytes())
    part = {name: tensor for name, tensor in tensors.items() if name != "damping"}
    bad = [(tensors, {**notes, key: value}) for key in ("stage", "step") for value in ("99", "-1", "x")]
    bad += [({**tensors, "x": x}, notes) for x in (torch.zeros(9, 3), torch.full((1, 3), NAN))]
    bad += [({**tensors, "history": torch.zeros(2, 2)}, notes), (part, notes)]
    contents = [checkpoint.packed(*content) for content in bad]
    deep = b"[" * 200000
    for content in [*contents, len(deep).to_bytes(8, "little") + deep]:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"fit: this is no checkpoint of a fit"):
            fit.solve(problem(), checkpoint=file)


@pytest.mark.parametrize("name", ["LBFGS", "SGD", "Adafactor"])
def test_any_optimiser_goes_on(tmp_path: Path, body: avatorch.Body, name: str) -> None:
    small = body.subset([])
    problem = fit.Problem(small, [fit.Joints(small().joints + 0.1, sigma=1.0)], frames=1, unknowns=["transl"])

    def run(file: Path | None, watch: Callable[[Tensor], None] | None = None) -> Tensor:
        solver = fit.FirstOrder(lambda x: getattr(torch.optim, name)(x, lr=0.01))
        schedule = [fit.Stage(["transl"], 6)]
        return fit.solve(problem, {}, solver=solver, schedule=schedule, checkpoint=file, watch=watch).x

    calls = iter(range(3))

    def stop(x: Tensor) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "fit", stop)
    assert torch.equal(run(tmp_path / "fit"), run(None))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"frame_rate": np.ones(2)}, "frame_rate is"),
        ({"frame_rate": np.array(NAN)}, "frame_rate is"),
        ({"joints": np.zeros((0, 104, 3))}, "no frames"),
        ({"joint_names": np.array(["nobody"] * 104)}, "no joint 'nobody'"),
        ({"landmarks": np.zeros((1, 1, 3)), "landmark_triangles": np.zeros(1, int)}, "landmark_barycentric is missing"),
        ({"vertices": np.zeros((1, 1, 3)), "vertex_index": np.array([1 << 62])}, "vertices has shape"),
        ({"joints_confidence": np.full((1, 104), -1.0)}, "confidence holds negative"),
        ({"expression": np.zeros((1, 7))}, r"expected [1 or 1, 52]"),
    ],
)
def test_targets_of_no_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **{"joints": np.zeros((1, 104, 3)), **arrays})
    assert cli.main(["fit", str(tmp_path / "a.npz"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert message in said and "a.npz" in said and said.count("\n") == 1


def test_sizes_that_are_too_large(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = (
        "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    (tmp_path / "a.ply").write_text(head.format(10**24) + "1 2 3\n")
    assert cli.main(["fit", str(tmp_path / "a.ply"), "--out", str(tmp_path / "out")]) == 1
    assert "and has 6 bytes" in capsys.readouterr().err


def test_a_term_of_two_problems() -> None:
    whole = avatorch.open_body()
    some = torch.arange(0, 13718, 100)
    markers = whole(transl=torch.ones(1, 3)).vertices[:, some]

    def problems(term: fit.Term) -> list[fit.Problem]:  # the second one poses all vertices
        cloud = fit.PointCloud(markers, sigma=1.0)
        return [fit.Problem(whole, terms, frames=1, unknowns=["transl"]) for terms in ([term], [term, cloud])]

    for order in ((0, 1), (1, 0)):
        both = problems(fit.Vertices(markers, some))
        for number in order:
            found = fit.solve(both[number], {})
            torch.testing.assert_close(found.values["transl"], torch.ones(1, 3), atol=1e-4, rtol=0)


def test_the_demo_looks_at_its_folder_first(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    command = [sys.executable, Path(__file__).parents[2] / "examples" / "demo.py", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--out: " in done.stderr and not done.stdout
