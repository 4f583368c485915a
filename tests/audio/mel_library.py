"""The C library for tests, through ctypes. `AVATORCH_MEL_LIBRARY` names it; `make ffi` builds it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np

FORMATS = {"float32": 0, "float64": 1, "int16": 2, "int32": 3}
WINDOWS = ["hann", "hann_symmetric", "povey", "hamming", "blackman", "rectangular"]
FRAMINGS = ["center_zero", "center_reflect", "same", "inside", "mirrored"]
SIMD = ["best", "baseline", "neon", "avx2", "avx512"]
RANGES = ["none", "clip", "batch", "so_far", "constant"]

I32, U32, U64, F64, SIZE = ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_double, ctypes.c_size_t
HANDLE = ctypes.c_void_p


class Config(ctypes.Structure):
    _fields_ = [
        ("size", U32),
        ("sample_rate", I32),
        ("n_fft", I32),
        ("win_length", I32),
        ("hop_length", I32),
        ("n_mels", I32),
        ("window", I32),
        ("framing", I32),
        ("drop_last", I32),
        ("padding", I32),
        ("padding_length", U64),
        ("input_scale", F64),
        ("dither", F64),
        ("dither_seed", U64),
        ("remove_dc", I32),
        ("preemphasis", I32),
        ("preemphasis_coefficient", F64),
        ("spectrum", I32),
        ("mel_scale", I32),
        ("magnitude_epsilon", F64),
        ("mel_norm", I32),
        ("log", I32),
        ("f_min", F64),
        ("f_max", F64),
        ("guard", I32),
        ("range", I32),
        ("guard_value", F64),
        ("range_below", F64),
        ("range_loudest", F64),
        ("scale", F64),
        ("offset", F64),
        ("normalize_bands", I32),
        ("energy", I32),
        ("energy_floor", F64),
        ("layout", I32),
        ("simd", I32),
    ]


def load() -> ctypes.CDLL:
    root = Path(__file__).parents[2]
    name = os.environ.get("AVATORCH_MEL_LIBRARY", root / "target/ffi/release/libavatorch_mel.so")
    library = ctypes.CDLL(str(name))
    for function in ("last_error", "status_text", "version", "plan_simd"):
        getattr(library, f"avatorch_mel_{function}").restype = ctypes.c_char_p
    library.avatorch_mel_plan_simd.argtypes = [HANDLE]
    for kind in ("plan", "workspace", "stream", "array"):
        getattr(library, f"avatorch_mel_{kind}_free").argtypes = [HANDLE]
    return library


LIBRARY = load()


class MelError(Exception):
    def __init__(self, status: int):
        super().__init__(LIBRARY.avatorch_mel_last_error().decode())
        self.status = status


def check(status: int) -> None:
    if status:
        raise MelError(status)


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def given(samples: np.ndarray) -> tuple[ctypes.c_void_p, int, ctypes.c_size_t]:
    """Samples as every function takes them: where they lie, their format, how many there are."""
    assert samples.flags.c_contiguous
    return pointer(samples), FORMATS[samples.dtype.name], SIZE(len(samples))


def room(values: np.ndarray) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    """Where results go, and how many fit."""
    return pointer(values), SIZE(values.size)


def available_levels() -> list[str]:
    def has(level: str) -> bool:
        try:
            return bool(Mel("whisper", simd=level))
        except MelError:
            return False

    return [level for level in SIMD[1:] if has(level)]


class Mel:
    """A plan and a workspace."""

    def __init__(self, dialect: str = "whisper", *, simd: str = "best", **options: object):
        config = Config()
        check(LIBRARY.avatorch_mel_config_init(ctypes.byref(config), SIZE(ctypes.sizeof(config)), dialect.encode()))
        config.simd = SIMD.index(simd)
        for name, value in options.items():
            assert hasattr(config, name), name
            setattr(config, name, value)
        self.config = config
        self.plan, self.workspace = HANDLE(), HANDLE()
        check(LIBRARY.avatorch_mel_plan_new(ctypes.byref(config), ctypes.byref(self.plan)))
        check(LIBRARY.avatorch_mel_workspace_new(self.plan, ctypes.byref(self.workspace)))

    def __del__(self) -> None:
        for kind in ("plan", "workspace"):
            if getattr(self, kind, None):
                getattr(LIBRARY, f"avatorch_mel_{kind}_free")(getattr(self, kind))

    @property
    def simd(self) -> str:
        return LIBRARY.avatorch_mel_plan_simd(self.plan).decode()

    def shape(self, n_samples: int) -> tuple[int, int]:
        features, frames = SIZE(), SIZE()
        check(LIBRARY.avatorch_mel_plan_shape(self.plan, SIZE(n_samples), ctypes.byref(features), ctypes.byref(frames)))
        shape = features.value, frames.value
        return shape if self.config.layout == 0 else shape[::-1]

    def __call__(self, samples: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        samples = np.ascontiguousarray(samples)
        values = np.empty(self.shape(len(samples)), np.float32) if out is None else out
        check(LIBRARY.avatorch_mel_compute(self.plan, self.workspace, *given(samples), *room(values)))
        return values

    def batch(self, clips: list[np.ndarray], threads: int = 2) -> list[np.ndarray]:
        values = [np.empty(self.shape(len(clip)), np.float32) for clip in clips]
        count = len(clips)
        addresses = (HANDLE * count)(*[clip.ctypes.data for clip in clips])
        outputs = (HANDLE * count)(*[value.ctypes.data for value in values])
        lengths = (SIZE * count)(*[len(clip) for clip in clips])
        rooms = (SIZE * count)(*[value.size for value in values])
        kind = FORMATS[clips[0].dtype.name] if clips else 0
        check(
            LIBRARY.avatorch_mel_compute_batch(
                self.plan, SIZE(threads), SIZE(count), addresses, kind, lengths, outputs, rooms
            )
        )
        return values

    def stream(self) -> Stream:
        return Stream(self)


class Stream:
    """Frames are `[frame, feature]`."""

    def __init__(self, mel: Mel):
        self.stream = HANDLE()
        check(LIBRARY.avatorch_mel_stream_new(mel.plan, ctypes.byref(self.stream)))
        self.n_features = mel.config.n_mels + (mel.config.energy != 0)

    def __del__(self) -> None:
        LIBRARY.avatorch_mel_stream_free(self.stream)

    def frames(self, n_samples: int = 0) -> tuple[int, int]:
        """Frames by pushing so many samples, and by flushing now."""
        push, flush = SIZE(), SIZE()
        check(LIBRARY.avatorch_mel_stream_frames(self.stream, SIZE(n_samples), ctypes.byref(push), ctypes.byref(flush)))
        return push.value, flush.value

    def push(self, samples: np.ndarray) -> np.ndarray:
        samples = np.ascontiguousarray(samples)
        values = np.empty((self.frames(len(samples))[0], self.n_features), np.float32)
        count = SIZE()
        check(LIBRARY.avatorch_mel_stream_push(self.stream, *given(samples), *room(values), ctypes.byref(count)))
        assert count.value == len(values)
        return values

    def flush(self) -> np.ndarray:
        values = np.empty((self.frames()[1], self.n_features), np.float32)
        count = SIZE()
        check(LIBRARY.avatorch_mel_stream_flush(self.stream, *room(values), ctypes.byref(count)))
        assert count.value == len(values)
        return values

    def complete(self, values: np.ndarray) -> np.ndarray:
        values = values.copy()
        check(LIBRARY.avatorch_mel_stream_complete(self.stream, *room(values)))
        return values

    def reset(self) -> None:
        check(LIBRARY.avatorch_mel_stream_reset(self.stream))

    @property
    def bytes(self) -> int:
        size = SIZE()
        check(LIBRARY.avatorch_mel_stream_bytes(self.stream, ctypes.byref(size)))
        return size.value


def resample(samples: np.ndarray, source: int, target: int) -> np.ndarray:
    length = SIZE()
    check(LIBRARY.avatorch_audio_resampled_length(SIZE(len(samples)), U32(source), U32(target), ctypes.byref(length)))
    values = np.empty(length.value, np.float32)
    check(LIBRARY.avatorch_audio_resample(*given(samples), U32(source), U32(target), *room(values)))
    return values


def trim_silence(samples: np.ndarray, frame_length: int = 400, hop_length: int = 160, below_db: float = 60.0):
    first, end = SIZE(), SIZE()
    frames = SIZE(frame_length), SIZE(hop_length), F64(below_db)
    check(LIBRARY.avatorch_audio_trim_silence(*given(samples), *frames, ctypes.byref(first), ctypes.byref(end)))
    return first.value, end.value


def normalize(samples: np.ndarray) -> np.ndarray:
    values = np.empty(len(samples), np.float32)
    check(LIBRARY.avatorch_audio_normalize(*given(samples), *room(values)))
    return values
