"""The calls of a Python program written for mojo_audio.h: structures and pointers to pointers of ctypes."""

import ctypes
import sys

import numpy as np


class MojoMelConfig(ctypes.Structure):
    _fields_ = [
        ("sample_rate", ctypes.c_int32),
        ("n_fft", ctypes.c_int32),
        ("hop_length", ctypes.c_int32),
        ("n_mels", ctypes.c_int32),
    ]


class MojoMelSpectrogram(ctypes.Structure):
    pass


lib = ctypes.CDLL(sys.argv[1])
lib.mojo_mel_config_default.argtypes = []
lib.mojo_mel_config_default.restype = MojoMelConfig
lib.mojo_mel_spectrogram_compute.argtypes = [
    ctypes.POINTER(ctypes.c_float),
    ctypes.c_size_t,
    ctypes.POINTER(MojoMelConfig),
    ctypes.POINTER(ctypes.POINTER(MojoMelSpectrogram)),
]
lib.mojo_mel_spectrogram_compute.restype = ctypes.c_int
lib.mojo_mel_spectrogram_get_shape.argtypes = [
    ctypes.POINTER(MojoMelSpectrogram),
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_size_t),
]
lib.mojo_mel_spectrogram_get_size.argtypes = [ctypes.POINTER(MojoMelSpectrogram)]
lib.mojo_mel_spectrogram_get_size.restype = ctypes.c_size_t
lib.mojo_mel_spectrogram_get_data.argtypes = [
    ctypes.POINTER(MojoMelSpectrogram),
    ctypes.POINTER(ctypes.c_float),
    ctypes.c_size_t,
]
lib.mojo_mel_spectrogram_free.argtypes = [ctypes.POINTER(MojoMelSpectrogram)]

audio = np.zeros(480000, dtype=np.float32)
config = lib.mojo_mel_config_default()
handle = ctypes.POINTER(MojoMelSpectrogram)()
status = lib.mojo_mel_spectrogram_compute(
    audio.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
    len(audio),
    ctypes.byref(config),
    ctypes.byref(handle),
)
if status != 0:
    raise RuntimeError(f"status {status}")
n_mels, n_frames = ctypes.c_size_t(), ctypes.c_size_t()
lib.mojo_mel_spectrogram_get_shape(handle, ctypes.byref(n_mels), ctypes.byref(n_frames))
buffer = np.zeros(lib.mojo_mel_spectrogram_get_size(handle), dtype=np.float32)
lib.mojo_mel_spectrogram_get_data(handle, buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), buffer.size)
mel = buffer.reshape(n_mels.value, n_frames.value)
lib.mojo_mel_spectrogram_free(handle)
print("Shape:", mel.shape)
