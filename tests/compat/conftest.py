"""The folder of synthetic models, once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import avatorch.compat.smplx as ours
from compat import models


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of every family."""
    return models.write(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def small_meshes() -> None:
    """Vertices with a name are among the few that the synthetic meshes have."""
    models.shrink(ours.vertex_ids.vertex_ids)
