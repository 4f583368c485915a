"""C programs that work the library hard, and some that do what nobody expects."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from capi.programs import HERE, run


@pytest.fixture
def stress(compiled: Callable[..., str]) -> str:
    return compiled(HERE / "stress.c", "-lavatorch_mel", "-lpthread")


def test_eight_threads_share_a_plan(stress: str) -> None:
    assert run(stress, "threads", 300) == "8 threads, 300 clips each\n"


def test_memory_stays_flat_over_many_calls(stress: str) -> None:
    assert run(stress, "flat", 300_000).startswith("300000 calls")


def test_computing_allocates_nothing(compiled: Callable[..., str]) -> None:
    assert run(compiled(HERE / "allocations.c", "-lavatorch_mel")) == "nothing\n"


@pytest.mark.parametrize("mode", ["threads", "calls"])
def test_valgrind_finds_nothing(mode: str, stress: str) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("there is no valgrind")
    run(
        "valgrind",
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite,indirect,possible",
        stress,
        mode,
        20,
    )


@pytest.mark.parametrize("name", ["fork", "ending", "stack", "traps", "memory", "free", "copies", "reload"])
def test_attacks_are_held(name: str, compiled: Callable[..., str], prefix: Path, tmp_path: Path) -> None:
    program = compiled(HERE / "attacks.c", "-lavatorch_mel", "-lpthread", "-lm", "-ldl", flags=("-std=c11",))
    # Other files than the one that the program links, so that they are loaded and unloaded.
    copies = [tmp_path / f"copy{i}.so" for i in range({"copies": 2, "reload": 1}.get(name, 0))]
    for copy in copies:
        shutil.copy(prefix / "lib/libavatorch_mel.so", copy)
    assert run(program, name, *copies) == f"{name}: held\n"
