"""Log-mel of 30 s of speech beside every program installed here, each with its distance to float64.

    python benches/mel.py [--threads 1] [--rounds 15]

Medians of interleaved rounds in one process. Ours writes to memory of the caller, the others make new memory
in each call, as their users have it. `make ffi` builds the library that is measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from audio.mel_library import Mel, available_levels
from audio.signals import speech
from avatorch.reference import mel as reference

SECONDS = 30
SAMPLES = speech(SECONDS * 16000)
TENSOR = torch.from_numpy(SAMPLES)


def ours(n_mels: int) -> dict[str, Callable[[], np.ndarray]]:
    plans = {f"avatorch, {level}": Mel(n_mels=n_mels, simd=level) for level in available_levels()}
    out = np.empty((n_mels, SECONDS * 100), np.float32)
    return {name: (lambda plan=plan: plan(SAMPLES, out)) for name, plan in plans.items()}


def whisper(n_mels: int) -> dict[str, Callable[[], np.ndarray]]:
    program = import_module("whisper")
    return {"openai-whisper": lambda: program.log_mel_spectrogram(TENSOR, n_mels=n_mels).numpy()}


def torchaudio(n_mels: int) -> dict[str, Callable[[], np.ndarray]]:
    transforms = import_module("torchaudio").transforms
    program = transforms.MelSpectrogram(16000, 400, hop_length=160, n_mels=n_mels, mel_scale="slaney", norm="slaney")

    def run() -> np.ndarray:
        log = program(TENSOR)[:, :-1].clamp(min=1e-10).log10()
        return ((log.maximum(log.max() - 8) + 4) / 4).numpy()

    return {"torchaudio, then the logarithm": run}


def librosa(n_mels: int) -> dict[str, Callable[[], np.ndarray]]:
    program = import_module("librosa").feature.melspectrogram

    def run() -> np.ndarray:
        power = program(y=SAMPLES, sr=16000, n_fft=400, hop_length=160, n_mels=n_mels, pad_mode="reflect")[:, :-1]
        log = np.log10(np.maximum(power, 1e-10))
        return (np.maximum(log, log.max() - 8) + 4) / 4

    return {"librosa, then the logarithm": run}


def transformers(n_mels: int) -> dict[str, Callable[[], np.ndarray]]:
    extractor = import_module("transformers").WhisperFeatureExtractor(feature_size=n_mels)
    return {"transformers": lambda: extractor(SAMPLES, sampling_rate=16000, return_tensors="np").input_features[0]}


def faster_whisper(n_mels: int) -> dict[str, Callable[[], np.ndarray]]:
    extractor = import_module("faster_whisper.feature_extractor").FeatureExtractor(feature_size=n_mels)
    return {"faster-whisper": lambda: extractor(SAMPLES, padding=0)}


PEERS = [whisper, torchaudio, librosa, transformers, faster_whisper]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=15)
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    for n_mels in (80, 128):
        truth = reference.log_mel(TENSOR, **(reference.WHISPER | {"n_mels": n_mels})).numpy()
        programs = ours(n_mels)
        for peer in PEERS:
            try:
                programs |= peer(n_mels)
            except ImportError as missing:
                print(f"not measured: {peer.__name__} ({missing})")
        report(programs, truth, chosen.rounds, f"{SECONDS} s, {n_mels} mels, torch on {chosen.threads} thread(s)")


def report(programs: dict[str, Callable[[], np.ndarray]], truth: np.ndarray, rounds: int, title: str) -> None:
    times: dict[str, list[float]] = {name: [] for name in programs}
    for index in range(rounds + 2):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            if index >= 2:
                times[name].append(1e3 * (time.perf_counter() - start))
    slowest = statistics.median(times.get("openai-whisper", [0.0]))
    columns = f"{'ms':>8} {'least':>8} {'most':>8} {'x whisper':>10} {'from float64: most':>19} {'rms':>8}"
    print(f"\n{title}\n{'':32} {columns}")
    for name, program in programs.items():
        values = program()
        error = np.abs(values[:, : truth.shape[1]] - truth) if values.shape[0] == truth.shape[0] else np.array([np.nan])
        median = statistics.median(times[name])
        ratio = median / slowest if slowest else float("nan")
        print(
            f"{name:32} {median:8.3f} {min(times[name]):8.3f} {max(times[name]):8.3f} {ratio:10.3f}"
            f" {error.max():19.1e} {np.sqrt(np.square(error).mean()):8.1e}"
        )


if __name__ == "__main__":
    main()
