"""Log-mel of 30 s clips on a GPU, beside what users run there today: Whisper's steps in eager torch, and torchaudio
with the logarithm. `python benches/mel_gpu.py [batch ...]` prints Markdown tables, of values and of gradients, float32,
with the largest distance to float64. `--device cpu` runs the same on the CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benches")]

from timing import milliseconds  # noqa: E402

from audio.signals import speech  # noqa: E402
from avatorch.audio import MelSpectrogram  # noqa: E402
from avatorch.reference import mel as reference  # noqa: E402

SECONDS = 30
RATE = 16000
Program = Callable[[Tensor], Tensor]


def as_whisper(mel: Tensor) -> Tensor:
    """Whisper's logarithm and range, of each clip."""
    log = mel.clamp(min=1e-10).log10()
    return (torch.maximum(log, log.amax((-2, -1), keepdim=True) - 8.0) + 4.0) / 4.0


def eager(device: str) -> Program:
    window = torch.hann_window(400, device=device)
    filters = reference.filters("slaney", "slaney", 80, 400, RATE).float().to(device)

    def run(waveform: Tensor) -> Tensor:
        spectrum = torch.stft(waveform, 400, 160, window=window, return_complex=True)
        return as_whisper(filters @ spectrum[..., :-1].abs() ** 2)

    return run


def programs(device: str) -> dict[str, Program]:
    """Each by its name."""
    found = {"avatorch": MelSpectrogram("whisper").to(device), "torch eager": eager(device)}
    found["torch compiled"] = torch.compile(eager(device))
    if find_spec("torchaudio"):
        import torchaudio

        mel = torchaudio.transforms.MelSpectrogram(
            RATE, 400, hop_length=160, n_mels=80, mel_scale="slaney", norm="slaney"
        )
        mel = mel.to(device)
        found["torchaudio"] = lambda waveform: as_whisper(mel(waveform)[..., :-1])
    return found


def with_gradient(program: Program) -> Program:
    """Values and the gradient of their sum."""

    def run(waveform: Tensor) -> Tensor:
        return torch.autograd.grad(program(waveform).sum(), waveform)[0]

    return run


def main() -> None:
    """Prints the tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("batches", nargs="*", type=int, default=[1, 8, 64, 256])
    arguments.add_argument("--device", default="cuda")
    given = arguments.parse_args()
    if given.device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    clip = torch.from_numpy(speech(SECONDS * RATE))
    truth = reference.log_mel(clip, **reference.WHISPER)
    for title, wrap in (("values", None), ("values and gradient", with_gradient)):
        print(f"{title}: microseconds a clip, median +- median deviation\n")
        print("| program | " + " | ".join(f"batch {batch}" for batch in given.batches) + " | from float64, at most |")
        print("|---|" + "---|" * (len(given.batches) + 1))
        for name, program in programs(given.device).items():
            run = wrap(program) if wrap else program
            error = (program(clip.to(given.device)[None])[0].double().cpu() - truth).abs().max()
            cells = []
            for batch in given.batches:
                scales = torch.linspace(0.5, 1.0, batch)[:, None]
                clips = (scales * clip).to(given.device).requires_grad_(wrap is not None)
                median, spread = milliseconds(lambda run=run, clips=clips: run(clips), given.device)
                cells.append(f"{1000 * median / batch:.2f} +- {1000 * spread / batch:.2f}")
            print(f"| {name} | {' | '.join(cells)} | {error:.1e} |", flush=True)
        print()


if __name__ == "__main__":
    main()
