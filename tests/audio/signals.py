"""Test signals, float32."""

from __future__ import annotations

import numpy as np

RATE = 16000


def speech(n: int, rate: int = RATE) -> np.ndarray:
    """Something like speech: pulses through moving resonances, in syllables, with hiss between them."""
    rng = np.random.default_rng(7)
    t = np.arange(n) / rate
    pitch = np.cumsum(110 + 25 * np.sin(2 * np.pi * 0.7 * t)) / rate
    pulses = np.diff(np.floor(pitch), prepend=0.0)
    hiss = rng.standard_normal(n)
    syllable = np.clip(np.sin(2 * np.pi * 2.1 * t), 0, None) ** 2
    out = np.zeros(n)
    for centre, width, gain in [(620, 90, 1.0), (1250, 130, 0.5), (2600, 200, 0.25), (3500, 300, 0.1)]:
        centre = centre * (1 + 0.25 * np.sin(2 * np.pi * 0.9 * t[n // 2]))
        radius = np.exp(-np.pi * width / rate)
        a1, a2 = 2 * radius * np.cos(2 * np.pi * centre / rate), -(radius**2)
        response = [1.0, a1]
        while len(response) < 800:
            response.append(a1 * response[-1] + a2 * response[-2])
        out += gain * np.convolve(pulses * syllable + 0.02 * hiss * np.roll(syllable, rate // 5), response)[:n]
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


def signals(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20)
    t = np.arange(n) / RATE
    every = {
        "speech": speech(n),
        "noise": 0.1 * rng.standard_normal(n),
        "chirp": 0.5 * np.sin(2 * np.pi * (50 * t + 3900 * t**2 * RATE / n)),
        "tone": 0.5 * np.sin(2 * np.pi * 1000 * t),
        "impulse": (np.arange(n) == n // 3).astype(np.float64),
        "silence": np.zeros(n),
        "constant": np.full(n, 0.3),
        "faint": 1e-6 * rng.standard_normal(n),
    }
    return {name: signal.astype(np.float32) for name, signal in every.items()}
