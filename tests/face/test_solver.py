"""audio2face::solve beside scipy and the reference, and the system it is given."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from avatorch.face import BlendshapeSolver, FaceError, SolverParameters, read_bundle
from avatorch.face.solver import active_pairs, solve_at_once
from avatorch.reference import solver as reference
from face import bundles

solve = torch.ops.audio2face.solve


def problem(size: int, condition: float, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix of a condition and scale, and a right-hand side."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(size, size)))
    a = (q * np.logspace(0, -np.log10(condition), size)) @ q.T * 10.0 ** rng.integers(-2, 8)
    a = (a + a.T) / 2
    x = rng.normal(0.3, 0.6, size)
    if kind == "ties":  # the free solution touches bounds
        x = x.clip(0, 1)
    b = a @ x
    if kind == "far":
        b += rng.normal(size=size) * np.abs(b).max() * 0.1
    return a, b


def call(
    a: Tensor, b: Tensor, *, temporal: float = 0.0, upper: float = 1.0, pairs: list[list[int]] | None = None
) -> Tensor:
    """a [P or 1, K, K], b [P, F, K]"""
    problems, _, size = b.shape
    options = {"dtype": b.dtype, "device": b.device}
    pair_list = torch.tensor(pairs or [], dtype=torch.int64, device=b.device).reshape(-1, 2)
    result: Tensor = solve(
        a, b, torch.zeros(problems, size, **options), torch.full((problems,), temporal, **options),
        torch.full((size,), upper, **options), pair_list,
    )  # fmt: skip
    return result


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("size", [1, 2, 5, 16, 39, 52, 90])
def test_agrees_with_scipy(size: int, condition: float, device: str) -> None:
    for seed, kind in enumerate(("plain", "ties", "far", "plain", "ties", "far")):
        a, b = problem(size, condition, kind, seed)
        expected = lsq_linear(a, b, (0, 1), method="bvls", tol=1e-15, max_iter=1000).x
        found = call(torch.tensor(a, device=device)[None], torch.tensor(b, device=device)[None, None])
        np.testing.assert_allclose(found.cpu()[0, 0], expected, atol=1e-5, rtol=0, err_msg=kind)


def test_agrees_with_the_reference(device: str) -> None:
    for seed in range(10):
        a, b = (torch.tensor(array) for array in problem(23, 1e4, "far", seed))
        pairs = [(0, 5), (7, 3)]
        expected = reference.weights(a, b, pairs)
        found = call(a[None].to(device), b[None, None].to(device), pairs=[list(pair) for pair in pairs])
        torch.testing.assert_close(found.cpu()[0, 0], expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("pairs", [[], [[0, 5], [7, 3]]])
@pytest.mark.parametrize("kind", ["plain", "ties", "far"])
def test_it_does_not_matter_where_the_search_begins(kind: str, pairs: list[list[int]], device: str) -> None:
    """Frames that follow others, near and far from them, and the same frames on their own."""
    a = torch.tensor(problem(39, 1e3, kind, 0)[0], device=device)[None]
    corners = torch.tensor(np.stack([problem(39, 1e3, kind, seed)[1] for seed in range(4)]), device=device)
    corners *= a.diagonal(dim1=1, dim2=2).mean() / corners.abs().mean(1, keepdim=True)
    way = torch.linspace(0, 3, 25, dtype=torch.float64, device=device)
    near = (1 - (way[:, None] - torch.arange(4, device=device)).abs()).clamp(min=0)
    frames = torch.cat([near @ corners, corners, torch.zeros_like(corners[:1]), corners[:2]])  # [F, K]
    following = call(a, frames[None], pairs=pairs)[0]
    alone = call(a, frames[:, None], pairs=pairs)[:, 0]
    torch.testing.assert_close(following, alone, atol=1e-8, rtol=0)
    assert ((following == 0).any() and (following == 1).any()) or kind != "far"


def test_the_result_satisfies_the_conditions_of_optimality(device: str) -> None:
    """Of a problem too large for shared memory on some GPUs."""
    a, b = (torch.tensor(array) for array in problem(260, 1e3, "far", 3))
    x = call(a[None].to(device), b[None, None].to(device))[0, 0].cpu()
    slope = a.T @ (a @ x - b)
    tolerance = 1e-9 * float((a.T @ b).abs().max())
    free = (x > 0) & (x < 1)
    assert slope[free].abs().max() <= tolerance
    assert slope[x == 0].min() >= -tolerance and slope[x == 1].max() <= tolerance
    assert free.any() and (x == 0).any() and (x == 1).any()


def test_frames_follow_one_another(device: str) -> None:
    a, _ = problem(12, 100.0, "plain", 1)
    a = torch.tensor(a / np.abs(a).max(), device=device)
    b = torch.randn(3, 7, 12, dtype=torch.float64, device=device)
    together = call(a[None], b, temporal=0.4)
    for track in range(3):
        last = torch.zeros(12, dtype=torch.float64)
        for frame in range(7):
            last = reference.weights(a.cpu(), b[track, frame].cpu() + 0.4 * last)
            torch.testing.assert_close(together[track, frame].cpu(), last, atol=1e-8, rtol=0)


def test_cutting_a_sequence_changes_no_bit(device: str) -> None:
    a = torch.randn(9, 9, dtype=torch.float32, device=device)
    b = torch.randn(2, 8, 9, device=device)
    temporal, upper = torch.full((2,), 0.3, device=device), torch.ones(9, device=device)
    none = torch.zeros(0, 2, dtype=torch.int64, device=device)
    whole = solve(a[None], b, torch.zeros(2, 9, device=device), temporal, upper, none)
    last, parts = torch.zeros(2, 9, device=device), []
    for first, end in pairwise((0, 3, 4, 8)):
        parts.append(solve(a[None], b[:, first:end], last, temporal, upper, none))
        last = parts[-1][:, -1].contiguous()
    assert torch.equal(torch.cat(parts, 1), whole)
    of_each = solve(a[None].expand(2, 9, 9), b, torch.zeros(2, 9, device=device), temporal, upper, none)
    torch.testing.assert_close(of_each, whole)


def test_infinite_bounds_and_no_numbers(device: str) -> None:
    a, b = (torch.tensor(array, device=device) for array in problem(6, 10.0, "plain", 5))
    a = a / a.abs().max()
    free = call(
        a[None], (a @ torch.full((6,), 3.0, dtype=torch.float64, device=device))[None, None], upper=float("inf")
    )
    torch.testing.assert_close(free[0, 0], torch.full_like(free[0, 0], 3.0))
    b = torch.stack([b, b * float("nan"), b])[:, None]
    found = call(a[None], b)
    assert found[1].isnan().all() and found[[0, 2]].isfinite().all()
    assert call(a[None] * float("nan"), b[:1]).isnan().all()


def test_nothing_to_solve(device: str) -> None:
    assert call(torch.eye(3, device=device)[None], torch.zeros(0, 4, 3, device=device)).shape == (0, 4, 3)
    assert call(torch.eye(3, device=device)[None], torch.zeros(2, 0, 3, device=device)).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"normal": torch.eye(3)[None]}, r"normal has shape \[1, 3, 3\], expected \[\*, 4, 4\]"),
        ({"normal": torch.eye(4).expand(3, 4, 4)}, r"expected 1 or 2 matrices"),
        ({"previous": torch.zeros(2, 3)}, r"previous has shape \[2, 3\], expected \[2, 4\]"),
        ({"temporal": torch.zeros(2, dtype=torch.float64)}, "temporal is float64, expected float32"),
        ({"upper": torch.ones(5)}, r"upper has shape \[5\], expected \[4\]"),
        ({"pairs": torch.zeros(1, 2)}, "pairs is float32, expected int64"),
        ({"pairs": torch.tensor([[0, 4]])}, r"pairs\[0, 1\] is 4, expected 0 to 3"),
        ({"rhs": torch.zeros(2, 4)}, "rhs has shape .* expected 3 dimensions"),
    ],
)
def test_errors(changed: dict[str, Tensor], sentence: str) -> None:
    given = {
        "normal": torch.eye(4)[None], "rhs": torch.zeros(2, 1, 4), "previous": torch.zeros(2, 4),
        "temporal": torch.zeros(2), "upper": torch.ones(4), "pairs": torch.zeros(0, 2, dtype=torch.int64),
    }  # fmt: skip
    with pytest.raises((ValueError, TypeError, IndexError), match=sentence):
        solve(*(given | changed).values())


def test_a_derivative_is_refused_and_shapes_are_known() -> None:
    arguments = [
        torch.eye(4)[None], torch.zeros(2, 3, 4), torch.zeros(2, 4), torch.zeros(2), torch.ones(4),
        torch.zeros(0, 2, dtype=torch.int64),
    ]  # fmt: skip
    torch.library.opcheck(solve, tuple(arguments))
    arguments[1] = arguments[1].requires_grad_()
    with pytest.raises(NotImplementedError, match="no derivative"):
        solve(*arguments)


# Which of normal, rhs, previous, temporal, upper, pairs are mapped, and where.
MAPPED = {
    "tracks of one matrix": (None, 0, 0, 0, None, None),
    "a matrix each": (0, 1, 0, 0, None, None),
    "matrices alone": (2, None, None, None, None, None),
    "the last weights alone": (None, None, 1, None, None, None),
    "bounds": (None, 0, None, None, 0, None),
    "pairs and all": (0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("tracks", [0, 1, 3])
@pytest.mark.parametrize("matrices", ["one", "each"])
@pytest.mark.parametrize("mapped", MAPPED.values(), ids=MAPPED)
def test_vmap_is_a_loop(mapped: tuple[int | None, ...], matrices: str, tracks: int, device: str) -> None:
    count = 1 if matrices == "one" else tracks
    matrix = torch.eye(4) + 0.3 * torch.randn(4, count, 4, 4)
    slices = [
        matrix @ matrix.mT, torch.randn(4, tracks, 2, 4), torch.rand(4, tracks, 4), torch.rand(4, tracks),
        torch.rand(4, 4), torch.tensor([[[0, 1]], [[1, 2]], [[3, 0]], [[2, 3]]]),
    ]  # fmt: skip
    slices = [values.to(device) for values in slices]
    given = [values[0] if dim is None else values.movedim(0, dim) for values, dim in zip(slices, mapped, strict=True)]
    found = torch.vmap(solve, in_dims=mapped)(*given)
    expected = [
        solve(*(values[0 if dim is None else index] for values, dim in zip(slices, mapped, strict=True)))
        for index in range(4)
    ]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-6, rtol=1e-6)
    out = torch.vmap(solve, in_dims=mapped, out_dims=2)(*given)
    assert torch.equal(out.movedim(2, 0), found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_autocast_computes_in_float32(dtype: torch.dtype, device: str) -> None:
    matrix = torch.eye(5) + 0.2 * torch.randn(2, 5, 5)
    given = [
        (matrix @ matrix.mT), torch.randn(2, 3, 5), torch.rand(2, 5), torch.rand(2), torch.ones(5),
    ]  # fmt: skip
    given = [values.to(device, dtype) for values in given]
    pairs = torch.tensor([[0, 2]], device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        found = solve(*given, pairs)
    wide = [values.float() if dtype.itemsize == 2 else values for values in given]
    assert found.dtype == wide[0].dtype and torch.equal(found, solve(*wide, pairs))
    if dtype.itemsize == 2:
        with pytest.raises(TypeError, match="expected float32 or float64"):
            solve(*given, pairs)


def test_the_system_of_a_rig(tmp_path: Path, device: str) -> None:
    identity = read_bundle(bundles.make_regression(tmp_path)).identities[0]
    for rig in (identity.skin, identity.tongue):
        solver = BlendshapeSolver(rig, 2, device)
        solver.set_parameters(1, SolverParameters(0.2, 0.1, 0.7, 3.0, 20.0))
        targets = rig.neutral.flatten()[solver.columns.cpu()] + torch.randn(2, 5, len(solver.columns))
        found = solver.solve([0, 1], targets.to(device)).cpu()
        active = [index for index, on in enumerate(rig.poses.active) if on]
        vertices = torch.arange(len(rig.neutral)) if rig.mask is None else rig.mask
        deltas = rig.deltas[active][:, vertices].flatten(1).double()
        mirrored, cancelled = (
            active_pairs(pairs, rig.poses.active) for pairs in (rig.poses.symmetry, rig.poses.cancel)
        )
        for track in range(2):
            a, factor = reference.system(deltas, rig.neutral.double(), mirrored, solver.parameters(track))
            last = torch.zeros(len(active), dtype=torch.float64)
            for frame in range(5):
                away = targets[track, frame] - rig.neutral[vertices].flatten()
                last = reference.weights(a, deltas @ away.double() + factor * last, cancelled)
                expected = torch.zeros(len(rig.names))
                expected[active] = last.float()
                expected = expected * torch.tensor(rig.poses.multipliers) + torch.tensor(rig.poses.offsets)
                torch.testing.assert_close(found[track, frame], expected, atol=2e-5, rtol=0)


def test_long_sequences_of_a_rig(tmp_path: Path, device: str) -> None:
    """On few tracks and many, alike and not, cut somewhere: as one frame after the other on the CPU."""
    rig = read_bundle(bundles.make_regression(tmp_path)).identities[0].skin
    for tracks, changed in ((1, False), (3, False), (3, True), (70, True)):
        solver, other = BlendshapeSolver(rig, tracks, device), BlendshapeSolver(rig, tracks)
        for one in (solver, other) if changed else ():
            one.set_parameters(0, SolverParameters(0.2, 0.1, 0.7, 3.0, 20.0))
            one.set_poses(tracks - 1, active=[pose % 3 > 0 for pose in range(52)])
        targets = rig.neutral.flatten()[other.columns] + torch.randn(tracks, 40, len(other.columns))
        every = list(range(tracks))
        found = [solver.solve(every, part.to(device)) for part in targets.split([25, 1, 14], 1)]
        expected = [other.solve(every, frame) for frame in targets.split(1, 1)]
        torch.testing.assert_close(torch.cat(found, 1).cpu(), torch.cat(expected, 1), atol=2e-6, rtol=0)
        alone = solver.solve(every, targets.to(device), remember=False).cpu()
        torch.testing.assert_close(alone[:, :1], other.solve(every, targets[:, :1], remember=False), atol=2e-6, rtol=0)
        torch.testing.assert_close(
            alone[:, 9:10], other.solve(every, targets[:, 9:10], remember=False), atol=2e-6, rtol=0
        )


@pytest.mark.parametrize(("tracks", "frames"), [(1, 40), (3, 7), (900, 4), (2, 2), (2, 1), (2, 0)])
def test_frames_at_once_are_those_one_after_the_other(tracks: int, frames: int, device: str) -> None:
    """Where what is remembered counts as much as it can beside the rest of the matrix. Which of a pair is cancelled can
    change with the smallest error; all sweeps leave hardly any.
    """
    strength, size = 7.0, 24
    options = {"dtype": torch.float64, "device": device}
    moves = torch.randn(60, size, **options) * 0.3
    normal = moves.mT @ moves + (100 * strength + 0.1) * torch.eye(size, **options)
    many = normal * torch.linspace(1, 1.5, tracks, **options)[:, None, None]
    rhs = 400 * torch.randn(tracks, frames, size, **options)
    previous, temporal = torch.rand(tracks, size, **options), torch.linspace(strength / 2, strength, tracks, **options)
    upper, pairs = torch.ones(size, **options), torch.tensor([[0, 5], [7, 3]], device=device)
    for matrix in (normal[None], many):
        given = matrix, rhs, previous, temporal, upper
        expected = solve(*given, pairs[:0])
        assert not frames or 0.2 < float((expected == 0).double().mean()) < 0.8
        for sweeps in range(1, 5):
            found = solve_at_once(*given, pairs[:0], sweeps)
            torch.testing.assert_close(found, expected, atol=5 * 0.01**sweeps, rtol=0)
            torch.testing.assert_close(found[:, :sweeps], expected[:, :sweeps], atol=1e-12, rtol=0)
        torch.testing.assert_close(solve_at_once(*given, pairs), solve(*given, pairs), atol=5e-8, rtol=0)


def test_poses_of_each_track(tmp_path: Path, device: str) -> None:
    """Beside the reference, while the middle track's active, cancel and symmetry sets change with every frame."""
    rig = read_bundle(bundles.make_regression(tmp_path)).identities[0].skin
    rng = np.random.default_rng(6)
    solver = BlendshapeSolver(rig, 3, device)
    neutral, vertices = rig.neutral.double(), torch.arange(len(rig.neutral)) if rig.mask is None else rig.mask
    deltas = rig.deltas[:, vertices].flatten(1).double()
    last = torch.zeros(3, 52, dtype=torch.float64)
    for _ in range(5):
        groups, factors = rng.integers(-1, 30, (2, 52)).tolist(), rng.normal(size=(2, 52)).tolist()
        active = (rng.random(52) < 0.6).tolist()
        solver.set_poses(
            1, active=active, cancel=groups[0], symmetry=groups[1], multipliers=factors[0], offsets=factors[1]
        )
        targets = rig.neutral.flatten()[solver.columns.cpu()] + torch.randn(3, 1, len(solver.columns))
        found = solver.solve([2, 1, 0], targets.to(device)).cpu()
        for row, track in enumerate((2, 1, 0)):
            poses = solver.poses(track)
            on = torch.tensor(poses.active).nonzero().flatten()
            mirrored, cancelled = (active_pairs(pairs, poses.active) for pairs in (poses.symmetry, poses.cancel))
            a, factor = reference.system(deltas[on], neutral, mirrored, rig.parameters)
            away = (targets[row, 0] - rig.neutral[vertices].flatten()).double()
            x = reference.weights(a, deltas[on] @ away + factor * last[track, on], cancelled)
            last[track] = 0
            last[track, on] = x
            expected = last[track] * torch.tensor(poses.multipliers) + torch.tensor(poses.offsets)
            torch.testing.assert_close(found[row, 0], expected.float(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("method", ["exact", "admm"])
def test_changed_poses_are_those_of_a_rig_that_has_them(tmp_path: Path, method: str) -> None:
    rig = read_bundle(bundles.make_regression(tmp_path)).identities[0].skin
    lists = {"active": [pose % 4 > 0 for pose in range(52)], "cancel": [pose // 2 for pose in range(52)]}
    solver = BlendshapeSolver(rig, 2, method=method)
    solver.set_poses(1, **lists)
    other = BlendshapeSolver(replace(rig, poses=rig.poses.changed(**lists)), 2, method=method)
    targets = rig.neutral.flatten()[solver.columns] + torch.randn(2, 6, len(solver.columns))
    assert torch.equal(solver.solve([0, 1], targets)[1], other.solve([0, 1], targets)[1])
    untouched = BlendshapeSolver(rig, 1, method=method).solve([0], targets[:1].repeat(1, 2, 1))
    assert torch.equal(solver.solve([0], targets[:1])[0], untouched[0, 6:])


@pytest.mark.parametrize(
    ("lists", "code", "sentence"),
    [
        ({"active": [1] * 51}, "eMismatch", "active has 51 values, expected 52"),
        ({"active": [2] + [1] * 51}, "eOutOfRange", r"active\[0\] is 2, expected true or false"),
        ({"cancel": [0, -2] + [0] * 50}, "eOutOfRange", r"cancel\[1\] is -2, expected a whole number of at least -1"),
        ({"symmetry": [0.5] * 52}, "eOutOfRange", r"symmetry\[0\] is 0.5, expected a whole number"),
        ({"multipliers": [1.0] * 51 + [float("nan")]}, "eNotANumber", r"multipliers\[51\] is not a number"),
        ({"offsets": [float("inf")] * 52}, "eOutOfRange", r"offsets\[0\] is inf, expected a finite number"),
        ({"offsets": ["1"] * 52}, "eOutOfRange", r"offsets\[0\] is '1', expected a finite number"),
        ({"upper": [1.0] * 52}, "eInvalidValue", "there is no list 'upper' of poses, expected one of active, cancel"),
    ],
)
def test_poses_that_cannot_be(tmp_path: Path, lists: dict[str, list[float]], code: str, sentence: str) -> None:
    rig = read_bundle(bundles.make_regression(tmp_path)).identities[0].skin
    solver = BlendshapeSolver(rig, 1)
    with pytest.raises(FaceError, match=sentence) as caught:
        solver.set_poses(0, **lists)
    assert caught.value.code == code and solver.poses(0) == rig.poses


def test_known_weights_come_back(tmp_path: Path) -> None:
    """Without regularisation a pose of the rig is found again, by both methods."""
    rig = read_bundle(bundles.make_regression(tmp_path, bundles.Sizes(vertices=150))).identities[0].skin
    weights = torch.rand(1, 4, len(rig.names)) * torch.tensor(rig.poses.active)
    for method, tolerance in (("exact", 1e-5), ("admm", 1e-2)):
        solver = BlendshapeSolver(rig, 1, method=method)
        solver.set_parameters(0, SolverParameters(0, 0, 0, 0))
        targets = rig.evaluate(weights).flatten(-2)[..., solver.columns]
        torch.testing.assert_close(solver.solve([0], targets), weights, atol=tolerance, rtol=0)


def test_pairs_follow_the_quirk() -> None:
    assert active_pairs([0, 1, 0, 1, -1], [True] * 5) == [(0, 2), (1, 3)]
    assert active_pairs([0, -1, 0, -1], [True, True, False, True]) == [(1, 2)]
    assert active_pairs([-1, -1, -1, 4, 4, 4], [True] * 6) == []


def test_parameters_out_of_range() -> None:
    with pytest.raises(FaceError, match="template_bb_size is 0, expected 1 to inf") as caught:
        SolverParameters(template_bb_size=0)
    assert caught.value.code == "eOutOfRange"
    with pytest.raises(FaceError, match="symmetry is not a number"):
        SolverParameters(symmetry=float("nan"))
