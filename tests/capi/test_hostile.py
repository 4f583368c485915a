"""Callers that get everything wrong: a status and a sentence, and nothing else happens."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import numpy as np
import pytest

from audio.mel_library import (
    HANDLE,
    LIBRARY,
    SIZE,
    Config,
    Mel,
    MelError,
    normalize,
    pointer,
    resample,
    trim_silence,
)

OK, INVALID_INPUT, BUFFER_SIZE, INVALID_HANDLE, BUSY = 0, -1, -4, -5, -6
NOISE = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
U64_MAX = 2**64 - 1


class GuideConfig(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("sample_rate", "n_fft", "hop_length", "n_mels")]


LIBRARY.mojo_mel_config_default.restype = GuideConfig
LIBRARY.mojo_audio_last_error.restype = ctypes.c_char_p
LIBRARY.mojo_mel_spectrogram_get_data_ptr.restype = ctypes.c_void_p
LIBRARY.mojo_mel_spectrogram_get_size.restype = ctypes.c_size_t


def last_error() -> str:
    return LIBRARY.avatorch_mel_last_error().decode()


def functions() -> list[str]:
    names = Path(__file__).with_name("symbols.txt").read_text().split()
    return [name for name in names if name not in ("mojo_mel_config_default",)]


@pytest.mark.parametrize("name", functions())
def test_null_and_zero_everywhere(name: str) -> None:
    getattr(LIBRARY, name)(*[HANDLE(0)] * 9)
    assert last_error() is not None


@pytest.mark.parametrize("junk", [1, 8, 12345, 2**47 - 64, 0x8000_0000_0000_0000, 0xF000_0000_0000_0001, U64_MAX])
def test_junk_handles(junk: int) -> None:
    handle = HANDLE(junk)
    size = SIZE(7)
    for kind in ("plan", "workspace", "array", "stream"):
        assert getattr(LIBRARY, f"avatorch_mel_{kind}_free")(handle) == INVALID_HANDLE
        assert f"is not a {kind} that is alive" in last_error()
    assert LIBRARY.avatorch_mel_plan_shape(handle, SIZE(400), ctypes.byref(size), None) == INVALID_HANDLE
    assert LIBRARY.avatorch_mel_stream_reset(handle) == INVALID_HANDLE
    assert LIBRARY.avatorch_mel_plan_simd(handle) == b""
    LIBRARY.mojo_mel_spectrogram_free(handle)
    assert "it was freed, or never given out" in last_error()
    assert LIBRARY.mojo_mel_spectrogram_get_size(handle) == 0
    assert LIBRARY.mojo_mel_spectrogram_get_data_ptr(handle) is None
    assert LIBRARY.mojo_mel_spectrogram_get_data(handle, None, SIZE(0)) == INVALID_INPUT
    LIBRARY.mojo_mel_spectrogram_get_shape(handle, ctypes.byref(size), None)
    assert size.value == 0


def test_handles_of_another_kind() -> None:
    mel = Mel()
    assert LIBRARY.avatorch_mel_workspace_free(mel.plan) == INVALID_HANDLE
    assert LIBRARY.avatorch_mel_plan_free(mel.workspace) == INVALID_HANDLE
    assert mel(NOISE).shape == (80, 25)


def test_double_free_is_found_even_after_reuse() -> None:
    stale = []
    for _ in range(1000):
        mel = Mel()
        assert mel.plan.value not in stale
        stale.append(mel.plan.value)
    alive = Mel()
    for value in stale[:-1]:
        assert LIBRARY.avatorch_mel_plan_free(HANDLE(value)) == INVALID_HANDLE
    assert alive(NOISE).shape == (80, 25)


def test_a_freed_spectrogram_is_left_alone() -> None:
    handle = HANDLE()
    config = LIBRARY.mojo_mel_config_default()
    assert (
        LIBRARY.mojo_mel_spectrogram_compute(pointer(NOISE), SIZE(4000), ctypes.byref(config), ctypes.byref(handle))
        == OK
    )
    address = LIBRARY.mojo_mel_spectrogram_get_data_ptr(handle)
    assert address % 64 == 0
    small = np.zeros(1999, np.float32)
    assert LIBRARY.mojo_mel_spectrogram_get_data(handle, pointer(small), SIZE(1999)) == BUFFER_SIZE
    assert LIBRARY.mojo_audio_last_error() == b"out_buffer has room for 1999 floats, expected 2000"
    LIBRARY.mojo_mel_spectrogram_free(handle)
    for _ in range(3):
        LIBRARY.mojo_mel_spectrogram_free(handle)
        assert b"it was freed" in LIBRARY.mojo_audio_last_error()
    assert LIBRARY.mojo_mel_spectrogram_get_size(handle) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 0),
        ("sample_rate", -1),
        ("n_fft", 0),
        ("n_fft", 2**31 - 1),
        ("n_fft", -400),
        ("hop_length", 0),
        ("hop_length", -1),
        ("hop_length", 2**31 - 1),
        ("n_mels", 0),
        ("n_mels", -80),
        ("n_mels", 2**31 - 1),
    ],
)
def test_the_guides_validation_names_the_field(field: str, value: int) -> None:
    config = LIBRARY.mojo_mel_config_default()
    setattr(config, field, value)
    assert LIBRARY.mojo_mel_config_validate(ctypes.byref(config)) == INVALID_INPUT
    assert LIBRARY.mojo_audio_last_error().decode().startswith(f"{field} is {value}, expected")
    handle = HANDLE(1)
    assert (
        LIBRARY.mojo_mel_spectrogram_compute(pointer(NOISE), SIZE(4000), ctypes.byref(config), ctypes.byref(handle)) < 0
    )
    assert handle.value is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"window": 6}, "window is 6, expected 0 to 5"),
        ({"framing": -1}, "framing is -1, expected 0 to 4"),
        ({"padding": 3}, "padding is 3"),
        ({"padding": 1, "padding_length": U64_MAX}, "padding is 18446744073709551615"),
        ({"win_length": 401}, "win_length is 401, expected 1 to 400"),
        ({"n_mels": 4096, "f_min": 7999.99999999999}, "n_mels is 4096, too many to tell apart"),
        ({"f_min": np.nan}, "f_min is NaN"),
        ({"f_min": -1.0}, "f_min is -1"),
        ({"f_max": 9000.0}, "f_max is 9000 Hz"),
        ({"f_min": 8000.0}, "f_min is 8000 Hz"),
        ({"guard_value": 0.0}, "guard is 0"),
        ({"guard_value": np.inf}, "guard is inf"),
        ({"scale": np.inf}, "scale is inf"),
        ({"range_below": -1.0}, "dynamic_range is -1"),
        ({"layout": 2}, "layout is 2"),
        ({"mel_scale": 99}, "mel_scale is 99"),
        ({"size": 0}, "the size of config is 0 bytes"),
        ({"size": 2**32 - 1}, "the size of config is 4294967295 bytes"),
    ],
)
def test_bad_options_are_named(options: dict, text: str) -> None:
    with pytest.raises(MelError) as failure:
        Mel(**options)
    assert failure.value.status == INVALID_INPUT
    assert text in str(failure.value)


def test_random_configurations_never_crash() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5000):
        config = Config()
        raw = rng.integers(0, 256, ctypes.sizeof(config), dtype=np.uint8).tobytes()
        ctypes.memmove(ctypes.byref(config), raw, len(raw))
        config.size = ctypes.sizeof(config)
        assert LIBRARY.avatorch_mel_config_validate(ctypes.byref(config)) == INVALID_INPUT


def test_a_larger_config_is_understood_while_its_new_fields_are_zero() -> None:
    class Later(ctypes.Structure):
        _fields_ = [("known", Config), ("new", ctypes.c_double)]

    later = Later()
    ctypes.memset(ctypes.byref(later), 0xFF, ctypes.sizeof(later))
    init = LIBRARY.avatorch_mel_config_init
    assert init(ctypes.byref(later), SIZE(ctypes.sizeof(later)), b"whisper") == OK
    assert (later.known.size, later.new) == (ctypes.sizeof(later), 0.0)
    assert LIBRARY.avatorch_mel_config_validate(ctypes.byref(later)) == OK
    later.new = 1.0
    assert LIBRARY.avatorch_mel_config_validate(ctypes.byref(later)) == INVALID_INPUT
    assert "does not know" in last_error()
    assert init(ctypes.byref(later), SIZE(8), b"whisper") == INVALID_INPUT
    assert init(ctypes.byref(later), SIZE(ctypes.sizeof(later)), b"wisper") == INVALID_INPUT
    assert last_error().startswith('dialect is "wisper", expected one of whisper, librosa')


def compute(mel: Mel, samples: object, n: int, values: object, length: int, kind: int = 0) -> int:
    return LIBRARY.avatorch_mel_compute(mel.plan, mel.workspace, samples, kind, SIZE(n), values, SIZE(length))


def test_bad_buffers() -> None:
    mel = Mel()
    values = np.zeros(2000, np.float32)
    assert compute(mel, None, 4000, pointer(values), 2000) == INVALID_INPUT
    assert last_error() == "samples is NULL, expected 4000 values"
    assert compute(mel, pointer(NOISE), 4000, None, 2000) == INVALID_INPUT
    assert compute(mel, pointer(NOISE), 4000, pointer(values), 1999) == BUFFER_SIZE
    assert last_error() == "the output has room for 1999 values, expected 2000"
    assert compute(mel, pointer(NOISE), 4000, pointer(values), 2001) == BUFFER_SIZE
    assert compute(mel, pointer(NOISE), 4000, pointer(values), 2000, kind=4) == INVALID_INPUT
    assert compute(mel, HANDLE(NOISE.ctypes.data + 1), 3999, pointer(values), 24 * 80) == INVALID_INPUT
    assert last_error() == "samples is not aligned to 4 bytes"
    assert compute(mel, pointer(NOISE), 4000, HANDLE(NOISE.ctypes.data + 400), 2000) == INVALID_INPUT
    assert "lies over the samples" in last_error()
    for n in (2**63, U64_MAX, U64_MAX // 4, 2**62):
        assert compute(mel, pointer(NOISE), n, pointer(values), 2000) == INVALID_INPUT
        assert "more than memory can hold" in last_error()
    assert compute(mel, pointer(NOISE), 4000, pointer(values), 2000) == OK


def test_workspace_of_another_plan() -> None:
    whisper, kaldi = Mel("whisper"), Mel("kaldi")
    values = np.zeros(2000, np.float32)
    status = LIBRARY.avatorch_mel_compute(
        whisper.plan, kaldi.workspace, pointer(NOISE), 0, SIZE(4000), pointer(values), SIZE(2000)
    )
    assert status == INVALID_INPUT
    assert last_error() == "the workspace was made by a plan with other options"


def test_batches() -> None:
    mel = Mel()
    assert mel.batch([]) == []
    with pytest.raises(MelError, match="n_threads is 0"):
        mel.batch([NOISE], threads=0)
    with pytest.raises(MelError, match="expected at least 201"):
        mel.batch([NOISE, NOISE[:7]])
    many = [NOISE[: 201 + 37 * i] for i in range(40)]
    for threads in (1, 2, 8, 64):
        for clip, values in zip(many, mel.batch(many, threads=threads), strict=True):
            assert np.array_equal(values, mel(clip))


def test_outputs_of_a_batch_lie_apart() -> None:
    mel = Mel()
    values = np.zeros(6000, np.float32)
    clips, lengths, rooms = (HANDLE * 2)(*[NOISE.ctypes.data] * 2), (SIZE * 2)(4000, 4000), (SIZE * 2)(2000, 2000)

    def batch(*offsets: int, base: int = values.ctypes.data) -> int:
        outputs = (HANDLE * 2)(*[base + 4 * offset for offset in offsets])
        return LIBRARY.avatorch_mel_compute_batch(mel.plan, SIZE(2), SIZE(2), clips, 0, lengths, outputs, rooms)

    assert batch(0, 2000) == OK
    assert batch(4000, 2000) == OK
    for offsets in ((0, 0), (0, 1999), (3999, 2000)):
        assert batch(*offsets) == INVALID_INPUT
        assert last_error() == "the outputs of clips 0 and 1 lie over each other, expected memory of their own"
    # Over the samples of another clip.
    clips[1] = values.ctypes.data + 8000
    assert batch(2000, 0) == INVALID_INPUT
    assert last_error() == "the output of clip 0 lies over the samples of clip 1, expected memory of its own"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("range_", [0, 1, 2, 3])
def test_what_is_not_finite_spoils_its_own_clip_alone(bad: float, range_: int) -> None:
    mel = Mel(range=range_, range_below=8.0)
    spoiled = NOISE.copy()
    spoiled[2000] = bad
    clean = mel.batch([NOISE, NOISE[:1000]])
    first, middle, last = mel.batch([NOISE, spoiled, NOISE[:1000]])
    assert np.array_equal(first, clean[0])
    assert np.array_equal(last, clean[1])
    assert np.isnan(middle).any()
    over = np.zeros(25, bool)
    over[[frame for frame in range(25) if frame * 160 - 200 <= 2000 < frame * 160 + 200]] = True
    assert not np.isfinite(middle[:, over]).any()
    if range_ == 0:
        assert np.isfinite(middle[:, ~over]).all()
    # The range below the loudest of the clip or the batch takes in every frame of the clip.
    assert np.isnan(middle[:, ~over]).all() == (range_ in (1, 2))
    # The workspace holds nothing of it.
    assert np.array_equal(mel(NOISE[:1000]), Mel(range=range_, range_below=8.0)(NOISE[:1000]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_makes_the_guides_result_nan(bad: float) -> None:
    spoiled = NOISE.copy()
    spoiled[2000] = bad
    config = LIBRARY.mojo_mel_config_default()
    for samples, is_spoiled in ((spoiled, True), (NOISE, False)):
        handle, values = HANDLE(), np.zeros(2000, np.float32)
        compute = LIBRARY.mojo_mel_spectrogram_compute
        assert compute(pointer(samples), SIZE(4000), ctypes.byref(config), ctypes.byref(handle)) == OK
        assert LIBRARY.mojo_mel_spectrogram_get_data(handle, pointer(values), SIZE(2000)) == OK
        assert np.isnan(values).all() == is_spoiled
        assert np.isfinite(values).all() == (not is_spoiled)
        LIBRARY.mojo_mel_spectrogram_free(handle)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_resampling_names_the_sample_that_it_cannot_take(bad: float) -> None:
    spoiled = NOISE.copy()
    spoiled[2000] = bad
    with pytest.raises(MelError) as failure:
        resample(spoiled, 16000, 44100)
    assert failure.value.status == INVALID_INPUT
    assert str(failure.value).startswith("sample 2000 is ")
    assert str(failure.value).endswith(", expected a number of at most 1e30")
    spoiled[2000] = 1e30
    for target in (8000, 44100):
        assert np.isfinite(resample(spoiled, 16000, target)).all()


def test_what_is_not_finite_in_the_other_steps() -> None:
    loud = np.r_[np.zeros(1000), np.ones(1000), np.zeros(2000)].astype(np.float32)
    assert trim_silence(loud) == (640, 2320)
    loud[3000] = np.nan
    assert trim_silence(loud) == (640, 2320)
    for bad in (np.nan, np.inf, -np.inf):
        loud[3000] = bad
        assert np.isnan(normalize(loud)).all()


def test_errors_belong_to_their_thread() -> None:
    Mel()  # so that the library is ready
    LIBRARY.avatorch_mel_plan_free(HANDLE(1))
    mine, theirs = last_error(), []

    def other() -> None:
        theirs.append(last_error())
        LIBRARY.avatorch_mel_plan_free(HANDLE(2))
        theirs.append(last_error())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert theirs[0] == ""
    assert theirs[1].startswith("0x2 is not a plan")
    assert last_error() == mine


def test_status_texts() -> None:
    texts = [LIBRARY.avatorch_mel_status_text(status).decode() for status in (0, -1, -2, -3, -4, -5, -6)]
    assert texts[0] == "success"
    assert len(set(texts)) == 7
    for unknown in (1, -7, 2**31 - 1, -(2**31)):
        assert LIBRARY.avatorch_mel_status_text(unknown) == b"unknown status"


def test_a_workspace_in_use_is_busy() -> None:
    mel = Mel()
    samples = np.zeros(60 * 16000, np.float32)
    values = [np.zeros((80, 6000), np.float32) for _ in range(4)]
    seen: set[int] = set()

    def work(mine: np.ndarray) -> None:
        for _ in range(60):
            seen.add(compute(mel, pointer(samples), len(samples), pointer(mine), mine.size))

    threads = [threading.Thread(target=work, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= {OK, BUSY}
    assert OK in seen
