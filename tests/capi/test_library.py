"""The C library as it is installed: what it exports, what its headers say, and programs that link it."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

from audio.mel_library import Config

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("ffi") / "usr"
    run("make", "-f", "src/capi/install.mk", "install-ffi", f"PREFIX={prefix}", cwd=ROOT)
    return prefix


@pytest.fixture
def compiled(prefix: Path, tmp_path: Path):
    def compile(source: Path, *libraries: str, compiler: str = "cc", flags: tuple[str, ...] = ()) -> str:
        out = tmp_path / source.stem
        strict = ("-Wall", "-Wextra", "-Werror", "-pedantic", *flags)
        paths = (f"-I{prefix}/include", f"-L{prefix}/lib", f"-Wl,-rpath,{prefix}/lib")
        run(compiler, *strict, source, "-o", out, *paths, *libraries)
        return str(out)

    return compile


def test_only_the_listed_symbols_are_exported(prefix: Path) -> None:
    exported = run("nm", "-D", "--defined-only", prefix / "lib/libavatorch_mel.so").split()[2::3]
    assert sorted(exported) == (HERE / "symbols.txt").read_text().split()


def test_headers_declare_exactly_the_exported_functions() -> None:
    headers = "".join((ROOT / "include" / name).read_text() for name in ("mojo_audio.h", "avatorch_mel.h"))
    declared = re.findall(r"^[A-Za-z].*?\b((?:avatorch|mojo)_\w+)\(", headers, re.MULTILINE)
    assert sorted(declared) == (HERE / "symbols.txt").read_text().split()


def test_names_and_versions(prefix: Path) -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    library = prefix / "lib" / f"libavatorch_mel.so.{version}"
    assert library.is_file()
    assert f"[libavatorch_mel.so.{version.split('.')[0]}]" in run("readelf", "-d", library)
    for name in ("libavatorch_mel.so", "libmojo_audio.so"):
        assert (prefix / "lib" / name).resolve() == library.resolve()
    header = (ROOT / "include/mojo_audio.h").read_text()
    parts = [re.search(rf"#define MOJO_AUDIO_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH")]
    assert ".".join(parts) == version
    loaded = ctypes.CDLL(str(library))
    loaded.avatorch_mel_version.restype = ctypes.c_char_p
    assert loaded.avatorch_mel_version().decode() == version
    for name in ("avatorch_mel", "mojo_audio"):
        package = (prefix / "lib/pkgconfig" / f"{name}.pc").read_text()
        assert f"Version: {version}" in package
        assert f"-l{name}" in package


def test_installs_below_destdir_and_uninstalls_everything(tmp_path: Path) -> None:
    options = ("-f", "src/capi/install.mk", "PREFIX=/usr/local", f"DESTDIR={tmp_path}")
    run("make", *options, "install-ffi", cwd=ROOT)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if not path.is_dir()}
    assert {
        "usr/local/include/mojo_audio.h",
        "usr/local/lib/libavatorch_mel.a",
        "usr/local/lib/libmojo_audio.so",
    } <= files
    assert str(tmp_path) not in (tmp_path / "usr/local/lib/pkgconfig/mojo_audio.pc").read_text()
    run("make", *options, "uninstall-ffi", cwd=ROOT)
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


def test_the_guides_programs_run_unchanged(compiled, prefix: Path, tmp_path: Path) -> None:
    assert run(compiled(HERE / "guide.c", "-lmojo_audio", "-lm")) == "Shape: (80, 3000)\n"
    assert (
        run(compiled(HERE / "guide.c", "-lmojo_audio", "-lm", compiler="c++", flags=("-xc++",)))
        == "Shape: (80, 3000)\n"
    )
    program = tmp_path / "guide_rs"
    run("rustc", "--edition", "2021", HERE / "guide.rs", "-o", program, "-L", prefix / "lib")
    assert run(program, env={"LD_LIBRARY_PATH": f"{prefix}/lib"}) == "Shape: (80, 3000)\n"
    assert run(sys.executable, HERE / "guide.py", prefix / "lib/libmojo_audio.so") == "Shape: (80, 3000)\n"


def test_every_example_with_tools_here_runs(prefix: Path, tmp_path: Path) -> None:
    out = run(
        "make",
        "-C",
        ROOT / "examples/ffi",
        "run",
        f"PREFIX={prefix}",
        f"OUT={tmp_path}",
        f"PYTHON={sys.executable}",
    )
    shapes = re.findall(r"Shape: .*", out)
    assert set(shapes) == {"Shape: (80, 100), loudest band 26"}
    for language in ("C:", "C static:", "C++:", "Rust:", "Python ctypes:", "Python cffi:"):
        assert language in out


def test_structures_have_the_same_layout_in_c(compiled, tmp_path: Path) -> None:
    fields = [name for name, _ in Config._fields_]
    lines = [f'    printf("{name} %zu\\n", offsetof(AvatorchMelConfig, {name}));' for name in fields]
    source = tmp_path / "offsets.c"
    source.write_text(
        "#include <avatorch_mel.h>\n#include <mojo_audio.h>\n#include <stdio.h>\nint main(void) {\n"
        + "\n".join(lines)
        + '\n    printf("%zu %zu ", sizeof(AvatorchMelConfig), sizeof(MojoMelConfig));\n'
        + '    printf("%zu\\n", sizeof(MojoAudioStatus));\n'
        + "    return 0;\n}\n"
    )
    *offsets, sizes = run(compiled(source, flags=("-std=c11",))).splitlines()
    assert offsets == [f"{name} {getattr(Config, name).offset}" for name in fields]
    assert sizes == f"{ctypes.sizeof(Config)} 16 4"


def test_eight_threads_share_a_plan(compiled) -> None:
    program = compiled(HERE / "stress.c", "-lavatorch_mel", "-lpthread")
    assert run(program, "threads", 300) == "8 threads, 300 clips each\n"


def test_memory_stays_flat_over_many_calls(compiled) -> None:
    program = compiled(HERE / "stress.c", "-lavatorch_mel", "-lpthread")
    assert run(program, "calls", 300_000).startswith("300000 calls")
