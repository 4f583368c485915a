"""What `make install-ffi` puts where, and that `make uninstall-ffi` takes it away."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from capi.programs import HERE, ROOT, make, run

NAMES = ("avatorch_mel", "mojo_audio")
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def package(prefix: Path, name: str, *questions: str) -> str:
    if shutil.which("pkg-config") is None:
        pytest.skip("there is no pkg-config")
    return run("pkg-config", *questions, name, env={"PKG_CONFIG_PATH": f"{prefix}/lib/pkgconfig", "PATH": "/usr/bin"})


def test_installs_below_destdir_and_uninstalls_everything(tmp_path: Path) -> None:
    make("install-ffi", PREFIX="/usr/local", DESTDIR=tmp_path)
    major = VERSION.split(".")[0]
    libraries = {f"libavatorch_mel.so{end}" for end in ("", f".{major}", f".{VERSION}")}
    libraries |= {"libavatorch_mel.a", "libmojo_audio.so", "libmojo_audio.a"}
    assert files(tmp_path) == {f"usr/local/lib/{name}" for name in libraries} | {
        f"usr/local/{place}" for name in NAMES for place in (f"include/{name}.h", f"lib/pkgconfig/{name}.pc")
    }
    for name in NAMES:
        assert str(tmp_path) not in (tmp_path / f"usr/local/lib/pkgconfig/{name}.pc").read_text()
    make("uninstall-ffi", PREFIX="/usr/local", DESTDIR=tmp_path)
    assert not files(tmp_path)
    make("uninstall-ffi", PREFIX="/usr/local", DESTDIR=tmp_path)
    make("uninstall-ffi", PREFIX="/usr/local", DESTDIR=tmp_path / "never")


def test_replaces_its_predecessor_and_leaves_others_alone(tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    lib.mkdir()
    others = {"libother.so", "libavatorch_mel.so.9.0.0", "libavatorch_mel_extra.a"}
    for name in {"libavatorch_mel.so.0.0.9", *others}:
        (lib / name).touch()
    (lib / "libavatorch_mel.so.0").symlink_to("libavatorch_mel.so.0.0.9")
    for _ in range(2):
        make("install-ffi", PREFIX=tmp_path)
        assert (lib / "libmojo_audio.so").resolve() == lib / f"libavatorch_mel.so.{VERSION}"
    make("uninstall-ffi", PREFIX=tmp_path)
    assert files(tmp_path) == {f"lib/{name}" for name in others}


@pytest.mark.parametrize("folder", ["usr", "with space", "it's & |so"])
def test_programs_are_built_through_pkg_config(folder: str, tmp_path: Path) -> None:
    prefix = tmp_path / folder
    make("install-ffi", PREFIX=prefix)
    program = tmp_path / "guide"
    for name in NAMES:
        assert package(prefix, name, "--modversion").strip() == VERSION
        flags = package(prefix, name, "--cflags", "--libs")
        run("sh", "-c", f"cc '{HERE}/guide.c' -o '{program}' {flags}")
        assert run(program, env={"LD_LIBRARY_PATH": f"{prefix}/lib"}) == "Shape: (80, 3000)\n"
        static = package(prefix, name, "--cflags", "--libs", "--static")
        run("sh", "-c", f"cc -static '{HERE}/guide.c' -o '{program}' {static} 2>&1")
        assert run(program) == "Shape: (80, 3000)\n"
    make("uninstall-ffi", PREFIX=prefix)
    assert not files(prefix)


def test_a_package_that_was_moved_names_its_new_folder(tmp_path: Path) -> None:
    make("install-ffi", PREFIX=tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    flags = package(tmp_path / "new", "mojo_audio", f"--define-variable=prefix={tmp_path}/new", "--cflags", "--libs")
    assert flags.split() == [f"-I{tmp_path}/new/include", f"-L{tmp_path}/new/lib", "-lmojo_audio"]


def test_folders_of_ones_own_and_relative_ones(tmp_path: Path) -> None:
    make(
        "install-ffi", PREFIX=tmp_path, LIBDIR=tmp_path / "lib64", INCLUDEDIR="/opt/include", DESTDIR=tmp_path / "root"
    )
    root = tmp_path / "root"
    text = (Path(f"{root}{tmp_path}") / "lib64/pkgconfig/mojo_audio.pc").read_text()
    assert f"prefix={tmp_path}\nlibdir=${{prefix}}/lib64\nincludedir=/opt/include\n" in text
    assert (root / "opt/include/mojo_audio.h").is_file()
    relative = Path("target/ffi/relative")
    make("install-ffi", PREFIX=relative)
    try:
        assert f"prefix={ROOT / relative}\n" in (ROOT / relative / "lib/pkgconfig/mojo_audio.pc").read_text()
    finally:
        shutil.rmtree(ROOT / relative)


@pytest.mark.usefixtures("prefix")
def test_the_documentation_is_right_word_for_word(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs/c-api.md").read_text(), re.MULTILINE | re.DOTALL)
    (install, program) = (next(text for kind, text in blocks if kind == wanted) for wanted in ("sh", "c"))
    (tmp_path / "program.c").write_text(program)
    first, *commands = install.splitlines()
    environment = {**os.environ, "HOME": str(tmp_path)}
    # What is built is not built again: there is no cargo in this home, as there is none under sudo.
    run("sh", "-c", f"{first} CARGO=false", cwd=ROOT, env=environment)
    out = run("sh", "-e", "-c", "\n".join(commands), cwd=tmp_path, env=environment)
    assert out == "80 x 3000, the first is -1.5\n"
