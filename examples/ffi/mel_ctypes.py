"""One second of a 1 kHz tone through ctypes; the standard library alone."""

from __future__ import annotations

import ctypes
import math
import sys

LIBRARY = ctypes.CDLL(sys.argv[1] if len(sys.argv) > 1 else "libmojo_audio.so")


class Config(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("sample_rate", "n_fft", "hop_length", "n_mels")]


class Spectrogram(ctypes.Structure):
    pass


Handle = ctypes.POINTER(Spectrogram)
LIBRARY.mojo_audio_last_error.restype = ctypes.c_char_p
LIBRARY.mojo_mel_config_default.restype = Config
LIBRARY.mojo_mel_spectrogram_compute.argtypes = [
    ctypes.POINTER(ctypes.c_float), ctypes.c_size_t, ctypes.POINTER(Config), ctypes.POINTER(Handle),
]  # fmt: skip
LIBRARY.mojo_mel_spectrogram_get_shape.argtypes = [Handle, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
LIBRARY.mojo_mel_spectrogram_get_data_ptr.argtypes = [Handle]
LIBRARY.mojo_mel_spectrogram_get_data_ptr.restype = ctypes.POINTER(ctypes.c_float)
LIBRARY.mojo_mel_spectrogram_free.argtypes = [Handle]


def mel(samples: list[float]) -> list[list[float]]:
    """[band][frame]"""
    audio = (ctypes.c_float * len(samples))(*samples)
    handle = Handle()
    if LIBRARY.mojo_mel_spectrogram_compute(audio, len(samples), LIBRARY.mojo_mel_config_default(), handle):
        raise ValueError(LIBRARY.mojo_audio_last_error().decode())
    try:
        bands, frames = ctypes.c_size_t(), ctypes.c_size_t()
        LIBRARY.mojo_mel_spectrogram_get_shape(handle, bands, frames)
        values = LIBRARY.mojo_mel_spectrogram_get_data_ptr(handle)
        return [values[band * frames.value : (band + 1) * frames.value] for band in range(bands.value)]
    finally:
        LIBRARY.mojo_mel_spectrogram_free(handle)


if __name__ == "__main__":
    values = mel([0.5 * math.sin(2 * math.pi * 1000 * i / 16000) for i in range(16000)])
    loudest = max(range(len(values)), key=lambda band: values[band][50])
    print(f"Shape: ({len(values)}, {len(values[0])}), loudest band {loudest}")
