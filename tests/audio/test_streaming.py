"""Audio in pieces gives the frames of the whole clip, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from audio.mel_library import FRAMINGS, RANGES, Mel, MelError, available_levels
from audio.signals import speech
from avatorch.reference import mel as reference

SAMPLES = speech(20011)
PRIMES = [2, 3, 5, 7, 11, 13, 17, 97, 101, 331, 997, 4001, 9973]


def chunks(kind: str, n: int) -> list[int]:
    if kind == "ones":
        return [1] * n
    rng = np.random.default_rng(4)
    sizes: list[int] = []
    while sum(sizes) < n:
        sizes.append({"zeros and primes": int(rng.choice([0, *PRIMES])), "hops": 160, "whole": n}.get(kind, 1000))
    sizes[-1] -= sum(sizes) - n
    return sizes


def stream(mel: Mel, samples: np.ndarray, sizes: list[int]) -> np.ndarray:
    """All frames, [frame, feature], completed."""
    state = mel.stream()
    pieces, at = [], 0
    for size in sizes:
        pieces.append(state.push(samples[at : at + size]))
        at += size
    assert at == len(samples)
    pieces.append(state.flush())
    return state.complete(np.concatenate(pieces))


def offline(mel: Mel, samples: np.ndarray) -> np.ndarray:
    values = mel(samples)
    return values if mel.config.layout else values.T


@pytest.mark.parametrize("kind", ["ones", "zeros and primes", "hops", "thousands", "whole"])
@pytest.mark.parametrize("dialect", reference.DIALECTS)
def test_equal_to_the_whole_clip(dialect: str, kind: str) -> None:
    mel = Mel(dialect)
    samples = SAMPLES[:6007] if kind == "ones" else SAMPLES
    assert np.array_equal(stream(mel, samples, chunks(kind, len(samples))), offline(mel, samples))


@pytest.mark.parametrize("level", available_levels())
@pytest.mark.parametrize("scope", ["none", "clip", "so_far", "constant"])
@pytest.mark.parametrize("normalize", [0, 1])
def test_every_level_and_scope(level: str, scope: str, normalize: int) -> None:
    mel = Mel("whisper", simd=level, range=RANGES.index(scope), range_loudest=1.5, normalize_bands=normalize)
    assert np.array_equal(stream(mel, SAMPLES, chunks("zeros and primes", len(SAMPLES))), offline(mel, SAMPLES))


@pytest.mark.parametrize("energy", [1, 2])
@pytest.mark.parametrize("normalize", [0, 1])
def test_energy(energy: int, normalize: int) -> None:
    mel = Mel("kaldi", energy=energy, normalize_bands=normalize)
    assert np.array_equal(stream(mel, SAMPLES, chunks("zeros and primes", len(SAMPLES))), offline(mel, SAMPLES))


@pytest.mark.parametrize("n", [1, 79, 80, 201, 399, 400, 401, 559, 560, 561, 1600])
@pytest.mark.parametrize("framing", FRAMINGS)
def test_short_streams_of_every_framing(n: int, framing: str) -> None:
    mel = Mel("whisper", framing=FRAMINGS.index(framing), hop_length=160, drop_last=0)
    try:
        whole = offline(mel, SAMPLES[:n])
    except MelError:
        state = mel.stream()
        state.push(SAMPLES[:n])
        with pytest.raises(MelError, match="expected at least"):
            state.flush()
        return
    assert np.array_equal(stream(mel, SAMPLES[:n], [1] * n), whole)


@pytest.mark.parametrize(
    ("hop", "n_fft"), [(7, 400), (160, 400), (399, 400), (640, 400), (1000, 400), (50, 64), (1, 16)]
)
@pytest.mark.parametrize("drop_last", [0, 1])
def test_every_hop(hop: int, n_fft: int, drop_last: int) -> None:
    samples = SAMPLES[:5003]
    mel = Mel("whisper", hop_length=hop, n_fft=n_fft, win_length=n_fft, n_mels=8, drop_last=drop_last)
    for kind in ("zeros and primes", "whole"):
        assert np.array_equal(stream(mel, samples, chunks(kind, len(samples))), offline(mel, samples))


def test_frames_come_as_soon_as_their_last_sample() -> None:
    state = Mel("whisper").stream()
    # Frame t is centred on sample 160 t and ends 199 samples later.
    for n in range(1, 2000):
        frames = len(state.push(SAMPLES[n - 1 : n]))
        assert frames == ((n - 200) % 160 == 0 and n > 200) + (n == 201)


def test_dither_does_not_depend_on_the_chunks() -> None:
    mel = Mel("kaldi", dither=1e-3, dither_seed=9)
    assert np.array_equal(stream(mel, SAMPLES, chunks("zeros and primes", len(SAMPLES))), offline(mel, SAMPLES))


def test_reset_and_misuse() -> None:
    mel = Mel("whisper")
    state = mel.stream()
    first = np.concatenate([state.push(SAMPLES), state.flush()])
    with pytest.raises(MelError, match="flushed: reset it"):
        state.push(SAMPLES[:1])
    assert len(state.flush()) == 0
    with pytest.raises(MelError, match="expected"):
        state.complete(first[:-1])
    state.reset()
    assert np.array_equal(np.concatenate([state.push(SAMPLES), state.flush()]), first)
    with pytest.raises(MelError, match="a stream has no padding"):
        Mel("whisper", padding=1, padding_length=480000).stream()


def test_memory_is_small_and_does_not_grow() -> None:
    state = Mel("whisper").stream()
    before = state.bytes
    assert before < 100_000
    state.push(np.zeros(1_000_000, np.float32))
    assert state.bytes == before
