"""The C library as it is installed, and programs compiled against it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from capi.programs import make, run


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("ffi") / "usr"
    make("install-ffi", PREFIX=prefix)
    return prefix


@pytest.fixture
def compiled(prefix: Path, tmp_path: Path) -> Callable[..., str]:
    """Compiles one source with every warning an error; gives the program."""

    def compile(source: Path, *libraries: str, compiler: str = "cc", flags: tuple[str, ...] = ()) -> str:
        out = tmp_path / source.stem
        strict = ("-g", "-Wall", "-Wextra", "-Werror", "-pedantic", *flags)
        paths = (f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib")
        run(compiler, *strict, source, "-o", out, *paths, *libraries)
        return str(out)

    return compile
