"""Bundles of the sizes that are published, with a small network instead of the large one: numbers and memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from avatorch.face import Bundle, Executor, Part, Rig, read_bundle
from avatorch.face.solver import active_pairs
from avatorch.reference import animators as reference
from avatorch.reference import solver
from face import bundles


@pytest.fixture(scope="module", params=["regression", "diffusion"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "regression":
        return read_bundle(bundles.make_regression(folder, bundles.REGRESSION))
    return read_bundle(bundles.make_diffusion(folder, bundles.DIFFUSION))


def test_sizes(bundle: Bundle) -> None:
    info = bundle.info
    regression = info.kind == "regression"
    assert info.values == (272 + 10 + 15 + 4 if regression else 72006 + 16806 + 15 + 4)
    assert (info.skin_vertices, info.tongue_vertices) == (61520 if regression else 24002, 5602)
    for identity in bundle.identities:
        assert identity.skin.mask is not None and len(identity.skin.mask) == (10085 if regression else 4262)
        assert sum(identity.skin.poses.active) == 43 and len(identity.tongue.names) == 16
    assert regression or [identity.name for identity in bundle.identities] == ["Claire", "James", "Mark"]


def test_frames_are_the_reference_s(bundle: Bundle, device: str) -> None:
    """What a network may say, to vertices and weights, in float64."""
    info, identity = bundle.info, bundle.identities[-1]
    face = Executor(bundle, identity.name, 2, device, geometry=Part.ALL)
    scale = 0.05 if info.kind == "regression" else 0.5
    rows = torch.randn(2, 3, info.values, generator=torch.Generator().manual_seed(1)) * scale
    found = {name: values[1].cpu().double() for name, values in face.animate([0, 1], rows.to(device)).items()}
    skin, tongue, jaw, eyes = (
        rows[1].double().split([info.skin_values, info.tongue_values, info.jaw_values, info.eye_values], 1)
    )
    if info.kind == "regression":
        assert identity.skin_basis is not None and identity.tongue_basis is not None
        skin = skin @ identity.skin_basis.double().flatten(1)
        tongue = tongue @ identity.tongue_basis.double().flatten(1)
    p, seconds = identity.parameters, float(1 / face.frame_rate)
    constants = [values.double() for values in (identity.neutral_skin, identity.eye_close, identity.lip_open)]
    expected = {
        "skin": reference.skin(skin.unflatten(1, (-1, 3)), *constants, p, seconds),
        "tongue": reference.tongue(tongue.unflatten(1, (-1, 3)), identity.neutral_tongue.double(), p),
        "jaw": reference.jaw(jaw.unflatten(1, (-1, 3)), identity.neutral_jaw.double(), p),
        "eyes": reference.eyes(eyes, identity.saccades.double(), p, seconds),
    }
    weights = [weights_of(getattr(identity, part), expected[part]) for part in ("skin", "tongue")]
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["weights"], torch.cat(weights, 1), atol=1e-4, rtol=0)


def weights_of(rig: Rig, positions: Tensor) -> Tensor:
    """By the reference; positions [F, V, 3] -> [F, poses]"""
    active = torch.tensor(rig.poses.active).nonzero().flatten()
    vertices = torch.arange(len(rig.neutral)) if rig.mask is None else rig.mask
    deltas, neutral = rig.deltas[active][:, vertices].flatten(1).double(), rig.neutral.double()
    mirrored, cancelled = (active_pairs(pairs, rig.poses.active) for pairs in (rig.poses.symmetry, rig.poses.cancel))
    a, factor = solver.system(deltas, neutral, mirrored, rig.parameters)
    last, frames = torch.zeros(len(active), dtype=torch.float64), []
    for frame in positions:
        last = solver.weights(a, deltas @ (frame - neutral)[vertices].flatten() + factor * last, cancelled)
        full = torch.zeros(len(rig.names), dtype=torch.float64)
        full[active] = last
        frames.append(full * torch.tensor(rig.poses.multipliers) + torch.tensor(rig.poses.offsets))
    return torch.stack(frames)


def test_the_state_of_a_track_is_small(bundle: Bundle) -> None:
    """Without geometry it grows with what the solver looks at alone: seven arrays of that, and the solver's matrix."""
    sizes = [state_of(Executor(bundle, 0, tracks)) for tracks in (1, 9)]
    looked_at = 3 * (10085 if bundle.info.kind == "regression" else 4262)
    solvers = 8 * (52 * 52 + 16 * 16)
    tongue = 4 * 3 * 5602
    of_track = (sizes[1] - sizes[0]) / 8
    assert 7 * 4 * looked_at < of_track < 7 * 4 * looked_at + solvers + tongue + 16_384


def state_of(face: Executor) -> int:
    """Bytes of tensors that the animators, solvers and the inference hold, each memory once."""
    parts = (face.skin, face.tongue, face.skin_solver, face.tongue_solver, face.inference)
    tensors = [value for part in parts for value in vars(part).values() if isinstance(value, Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


READ_AND_RUN = """
import resource, sys
import onnxruntime, torch
from avatorch.face import Executor, read_bundle

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

torch.set_num_threads(1)
before = peak()
face = Executor(read_bundle(sys.argv[1]), 0, 2)
for track in range(2):
    face.emotions[track].accumulate(0, torch.ones(10))
    face.emotions[track].close()
    face.audio[track].accumulate(torch.ones(2000) * 0.1)
    face.audio[track].close()
frames = list(face.run())
assert all(some.weights.isfinite().all() and some.weights.shape[1] == 68 for some in frames)
print(sum(map(len, frames)), peak() - before)
"""


def test_memory_of_a_process(bundle: Bundle) -> None:
    """Reading takes a file at a time and its arrays; running, two tracks' noise and results."""
    run = [sys.executable, "-c", READ_AND_RUN, str(bundle.folder)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frames, used = map(int, done.stdout.split())
    files = sum(path.stat().st_size for path in bundle.folder.iterdir())
    assert frames == 2 * 8 and used < 3 * files + (100 << 20), f"{used} bytes for files of {files}"
