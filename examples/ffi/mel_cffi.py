"""One second of a 1 kHz tone through cffi, which reads the declarations off the header."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

from cffi import FFI

HEADER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path.home() / ".local/include/mojo_audio.h"


def declarations(header: str) -> str:
    """The header without what a C preprocessor would remove."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    header = re.sub(r"#ifdef __cplusplus.*?#endif[^\n]*", "", header, flags=re.DOTALL)
    return re.sub(r"^#.*$", "", header, flags=re.MULTILINE)


ffi = FFI()
ffi.cdef(declarations(HEADER.read_text()))
library = ffi.dlopen(sys.argv[1] if len(sys.argv) > 1 else "libmojo_audio.so")


def mel(samples: list[float]) -> list[list[float]]:
    """[band][frame]"""
    audio = ffi.new("float[]", samples)
    config = ffi.new("MojoMelConfig *", library.mojo_mel_config_default())
    out = ffi.new("MojoMelSpectrogram **")
    if library.mojo_mel_spectrogram_compute(audio, len(samples), config, out) != library.MOJO_AUDIO_SUCCESS:
        raise ValueError(ffi.string(library.mojo_audio_last_error()).decode())
    handle = ffi.gc(out[0], library.mojo_mel_spectrogram_free)
    bands, frames = ffi.new("size_t *"), ffi.new("size_t *")
    library.mojo_mel_spectrogram_get_shape(handle, bands, frames)
    values = library.mojo_mel_spectrogram_get_data_ptr(handle)
    return [list(values[band * frames[0] : (band + 1) * frames[0]]) for band in range(bands[0])]


if __name__ == "__main__":
    values = mel([0.5 * math.sin(2 * math.pi * 1000 * i / 16000) for i in range(16000)])
    loudest = max(range(len(values)), key=lambda band: values[band][50])
    print(f"Shape: ({len(values)}, {len(values[0])}), loudest band {loudest}")
