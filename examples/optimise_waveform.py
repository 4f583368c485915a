"""Changes noise until its Whisper spectrogram is that of a melody: gradients go through the spectrogram to the samples.

    python examples/optimise_waveform.py [--seconds 1] [--steps 300] [--out out]

Writes the spectrograms of the target and of the result as pictures, and the result as a WAV file.
"""

from __future__ import annotations

import argparse
import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from avatorch.audio import MelSpectrogram
from avatorch.picture import write_png

RATE = 16000


def melody(seconds: float) -> Tensor:
    """Five notes with overtones, [sample]."""
    notes = torch.tensor([262.0, 330.0, 392.0, 523.0, 392.0])
    t = torch.arange(int(seconds * RATE)) / RATE
    pitch = notes[(t / seconds * len(notes)).long().clamp(max=len(notes) - 1)]
    phase = 2 * math.pi * (pitch / RATE).cumsum(0)
    return sum(0.3 / k * torch.sin(k * phase) for k in range(1, 6))  # type: ignore[return-value]


def optimise(target: Tensor, steps: int) -> tuple[Tensor, list[float]]:
    """Noise made to sound like `target` [sample], and the mean difference of the spectrograms at each step."""
    mel = MelSpectrogram("whisper")
    goal = mel(target)
    waveform = (0.01 * torch.randn(target.shape)).requires_grad_()
    optimiser = torch.optim.Adam([waveform], lr=0.003)
    losses = []
    for _ in range(steps):
        loss = (mel(waveform) - goal).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return waveform.detach(), losses


def write_wav(path: Path, samples: Tensor) -> None:
    """16-bit, one channel."""
    numbers = (samples.clamp(-1, 1) * 32767).round().int().tolist()
    data = struct.pack(f"<{len(numbers)}h", *numbers)
    kind = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    header = struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + kind + struct.pack("<4sI", b"data", len(data))
    path.write_bytes(header + data)


def main() -> None:
    """Runs it and writes what came out."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=1.0)
    arguments.add_argument("--steps", type=int, default=300)
    arguments.add_argument("--out", type=Path, default=Path("out"))
    given = arguments.parse_args()
    torch.manual_seed(0)
    target = melody(given.seconds)
    found, losses = optimise(target, given.steps)
    given.out.mkdir(exist_ok=True)
    mel = MelSpectrogram("whisper")
    for name, samples in (("target", target), ("found", found)):
        write_png(given.out / f"mel_{name}.png", mel(samples), mel.hop_length / mel.sample_rate)
    write_wav(given.out / "mel_found.wav", found)
    print(f"mean difference {losses[0]:.3f} -> {losses[-1]:.3f} in {given.steps} steps; see {given.out}/mel_found.wav")


if __name__ == "__main__":
    main()
