"""Models and services that the tests of a file share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avatorch.serve import Limits
from face import bundles
from serve.running import Running, running


@pytest.fixture(scope="session")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two identities, 2 kHz, blocks of 6 frames."""
    return bundles.make_diffusion(tmp_path_factory.mktemp("diffusion"))


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.make_regression(tmp_path_factory.mktemp("regression"))


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that opens the jaw when it is loud."""
    sizes = bundles.Sizes(vertices=160, rate=16000, window=4000, emotions=10)
    return bundles.make_regression(tmp_path_factory.mktemp("talking"), sizes, talking=True)


@pytest.fixture(scope="module")
def service(diffusion: Path) -> Iterator[Running]:
    """With limits that are soon reached."""
    limits = Limits(
        tracks=8, upload_bytes=300_000, clip_seconds=60, stream_seconds=20, message_bytes=100_000, upload_seconds=1,
        header_seconds=1, idle_seconds=1, stall_seconds=1,
    )  # fmt: skip
    with running(diffusion, limits) as found:
        yield found
