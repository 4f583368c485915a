"""Networks are opened once and shared; on a GPU they are kept, since ONNX Runtime cannot free them safely."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avatorch.face import FaceError, read_bundle, sessions
from avatorch.face.network import Network, open_network
from face import bundles


def opened(folder: Path, device: str) -> Network:
    bundle = read_bundle(folder)
    return open_network(
        bundle.network, bundle.info, torch.device(device, 0) if device == "cuda" else torch.device(device)
    )


def spoken(network: Network, device: str) -> torch.Tensor:
    window, emotion = torch.ones(1, 1, 1200, device=device), torch.ones(1, 1, 9, device=device)
    return network.run({"input": window, "emotion": emotion}, {"result": (1, 1, 25)})["result"]


def is_kept(shared: sessions.SharedSession) -> bool:
    return any(kept is shared for kept in sessions._sessions.values())


def test_a_file_is_opened_once(tmp_path: Path, device: str) -> None:
    bundles.make_regression(tmp_path)
    first, second = opened(tmp_path, device), opened(tmp_path, device)
    assert first._shared is second._shared
    expected = spoken(first, device)
    first.close()
    first.close()
    with pytest.raises(FaceError, match="the network is closed") as caught:
        spoken(first, device)
    assert caught.value.code == "eNotInitialized"
    assert torch.equal(spoken(second, device), expected)
    shared = second._shared
    second.close()
    again = opened(tmp_path, device)
    assert (again._shared is shared) == (device == "cuda")
    assert torch.equal(spoken(again, device), expected)


def test_a_file_that_changed_is_opened_anew(tmp_path: Path, device: str) -> None:
    bundles.make_regression(tmp_path)
    before = opened(tmp_path, device)
    path = read_bundle(tmp_path).network
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    os.replace(copy, path)
    assert opened(tmp_path, device)._shared is not before._shared


def test_a_network_that_is_dropped(tmp_path: Path, device: str) -> None:
    """Freed at once on the CPU; on a GPU kept, for whoever opens the same file."""
    bundles.make_regression(tmp_path)
    network = opened(tmp_path, device)
    with pytest.raises(FaceError, match="the network cannot be run"):
        network.run({"input": torch.ones(1, 1, 1200), "emotion": torch.ones(2, 1, 9)}, {"result": (1, 1, 25)})
    expected = spoken(network, device)
    shared = network._shared
    network.itself = network  # type: ignore[attr-defined]
    assert is_kept(shared)
    del network
    gc.collect()
    assert shared.users == 0
    assert is_kept(shared) == (device == "cuda")
    again = opened(tmp_path, device)
    assert (again._shared is shared) == (device == "cuda")
    assert torch.equal(spoken(again, device), expected)


def test_what_cannot_be_opened_is_forgotten(tmp_path: Path) -> None:
    bundles.make_regression(tmp_path)
    bundle = read_bundle(tmp_path)
    bundle.network.write_bytes(b"\x08\x07no network")
    with pytest.raises(FaceError, match="is no network that ONNX Runtime opens"):
        opened(tmp_path, "cpu")
    bundle.network.unlink()
    with pytest.raises(FaceError, match="cannot be read") as caught:
        open_network(bundle.network, bundle.info, torch.device("cpu"))
    assert caught.value.code == "eOpenFileFailed"
    assert not any(str(bundle.network.resolve()) in identity for identity in sessions._sessions)


OPEN_AND_DROP = """
import gc, sys
from pathlib import Path
import torch
from avatorch.face import FaceError, read_bundle
from avatorch.face.network import open_network

kept = []
for turn in range(12):
    for folder in sys.argv[2:]:
        bundle = read_bundle(folder)
        network = open_network(bundle.network, bundle.info, torch.device(sys.argv[1]))
        inputs = {"input": torch.ones(1, 1, 1200), "emotion": torch.ones(1, 1, 9)}
        for _ in range(5):
            network.run(inputs, {"result": (1, 1, 25)})
        if turn % 3 == 1:
            try:
                network.run(inputs | {"emotion": torch.ones(2, 1, 9)}, {"result": (1, 1, 25)})
            except FaceError as error:
                error.itself = error
        if turn % 4 == 3:
            network.itself = network
        if turn == 9:
            kept.append(network)
print("done")
"""


def test_a_process_that_opened_many_ends_well(tmp_path: Path, device: str) -> None:
    folders = [bundles.make_regression(tmp_path / str(number)) for number in range(2)]
    place = "cuda:0" if device == "cuda" else device
    done = subprocess.run(
        [sys.executable, "-c", OPEN_AND_DROP, place, *map(str, folders)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
