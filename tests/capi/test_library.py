"""The C library as it is installed: what it exports, what its headers say, and programs that link it."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audio.mel_library import Config
from capi.programs import HERE, ROOT, run

SYMBOLS = (HERE / "symbols.txt").read_text().split()


def test_only_the_listed_symbols_are_exported(prefix: Path) -> None:
    shared = run("nm", "-D", "--defined-only", prefix / "lib/libavatorch_mel.so").split()[2::3]
    assert sorted(shared) == SYMBOLS
    static = run("nm", "--extern-only", "--defined-only", prefix / "lib/libavatorch_mel.a")
    assert sorted(re.findall(r"^[0-9a-f]+ \w (\S+)$", static, re.MULTILINE)) == SYMBOLS


def test_the_static_library_goes_beside_another_of_rust(compiled: Callable[..., str], tmp_path: Path) -> None:
    other = tmp_path / "other.rs"
    other.write_text(
        '#[unsafe(no_mangle)] pub extern "C" fn other() -> i32 { std::thread::spawn(|| 7).join().unwrap() }'
    )
    run("rustc", "--edition", "2024", "--crate-type", "staticlib", other, "-o", tmp_path / "libother.a")
    source = tmp_path / "both.c"
    source.write_text(
        "#include <avatorch_mel.h>\n#include <stdio.h>\nint other(void);\n"
        'int main(void) { printf("%d %s\\n", other(), avatorch_mel_status_text(AVATORCH_BUSY)); return 0; }\n'
    )
    for order in (("-l:libavatorch_mel.a", "-lother"), ("-lother", "-l:libavatorch_mel.a")):
        program = compiled(source, f"-L{tmp_path}", *order, "-lm", "-lpthread", "-ldl")
        assert run(program) == "7 in use by another thread\n"


def test_headers_declare_exactly_the_exported_functions() -> None:
    headers = "".join((ROOT / "include" / name).read_text() for name in ("mojo_audio.h", "avatorch_mel.h"))
    declared = re.findall(r"^[A-Za-z].*?\b((?:avatorch|mojo)_\w+)\(", headers, re.MULTILINE)
    assert sorted(declared) == SYMBOLS


C_WARNINGS = ("-Wconversion", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wc++-compat", "-Wundef", "-Wshadow")
CPP_WARNINGS = ("-Wconversion", "-Wold-style-cast", "-Wuseless-cast", "-Wundef", "-Wshadow")


@pytest.mark.parametrize(
    ("compiler", "standard", "warnings"),
    [
        ("cc", "c99", C_WARNINGS),
        ("cc", "c11", C_WARNINGS),
        ("cc", "gnu17", C_WARNINGS),
        ("c++", "c++11", CPP_WARNINGS),
        ("c++", "c++20", CPP_WARNINGS),
    ],
)
@pytest.mark.parametrize("names", [("mojo_audio",), ("avatorch_mel",), ("avatorch_mel", "mojo_audio", "avatorch_mel")])
def test_headers_alone_give_no_warning(
    compiler: str, standard: str, warnings: tuple[str, ...], names: tuple[str, ...], compiled, tmp_path: Path
) -> None:
    source = tmp_path / ("alone.c" if compiler == "cc" else "alone.cpp")
    source.write_text("".join(f"#include <{name}.h>\n" for name in names) + "int main(void) { return 0; }\n")
    compiled(source, compiler=compiler, flags=(f"-std={standard}", *warnings))


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


@pytest.fixture(scope="session")
def language(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """What the example of a language prints, in a folder with a difficult name."""
    out = tmp_path_factory.mktemp("examples") / "it's built here"
    packaged = not shutil.which("zig") and importlib.util.find_spec("ziglang")
    zig = f"{sys.executable} -m ziglang" if packaged else "zig"
    options = (f"PREFIX={prefix}", f"OUT={out}", f"PYTHON={sys.executable}", f"ZIG={zig}")
    return lambda name: run("make", "--no-print-directory", "-C", ROOT / "examples/ffi", name, *options)


@pytest.mark.parametrize("name", ["c", "static", "cpp", "rust", "ctypes", "cffi"])
def test_examples_of_what_is_always_here(name: str, language: Callable[[str], str]) -> None:
    assert language(name).splitlines()[1:] == ["Shape: (80, 100), loudest band 26"]


@pytest.mark.parametrize("name", ["go", "node", "zig"])
def test_examples_of_languages_whose_tools_may_be_missing(name: str, language: Callable[[str], str]) -> None:
    *_, last = language(name).splitlines()
    if "passed over" in last:
        pytest.skip(last)
    assert last == "Shape: (80, 100), loudest band 26"
