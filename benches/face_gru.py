"""The GRU of the diffusion network alone, of the published size: what a frame costs in sequences of several lengths, as
torch launches it and as a CUDA graph, both layers at once and one after the other.

    python benches/face_gru.py --device cuda
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "benches")]

from timing import milliseconds  # noqa: E402

from avatorch.face.engine.captured import Captured  # noqa: E402
from avatorch.face.engine.precision import computing, precision_of  # noqa: E402

WIDTH, LAYERS, GATES = 256, 2, 768


class LayerByLayer(nn.Module):
    """The same with a call for each layer."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number in range(LAYERS):
            layer = nn.GRU(GATES if number == 0 else WIDTH, WIDTH, batch_first=True)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(layer, f"{name}_l0").data.copy_(getattr(gru, f"{name}_l{number}"))
            self.layers.append(layer.to(gru.weight_ih_l0))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, frames, gates], state [layers, B, width]"""
        last = []
        for layer, before in zip(self.layers, state.split(1), strict=True):
            x, behind = layer(x, before.contiguous())
            last.append(behind)
        return x, torch.cat(last)


@torch.no_grad()
def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--tracks", nargs="+", type=int, default=[1, 64])
    arguments.add_argument("--frames", nargs="+", type=int, default=[30, 60, 150, 300])
    given = arguments.parse_args()
    device = torch.device(given.device)
    print("| type | tracks | frames | layers | as | ms | us a frame |\n|---|---|---|---|---|---|---|")
    for name, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("float16", torch.float16)):
        if device.type == "cpu" and name != "float32":
            continue
        both = nn.GRU(GATES, WIDTH, LAYERS, batch_first=True).to(device, dtype).eval()
        for layers, gru in (("at once", both), ("one by one", LayerByLayer(both).eval())):
            for tracks in given.tracks:
                for frames in given.frames:
                    x = torch.randn(tracks, frames, GATES, device=device, dtype=dtype)
                    state = torch.zeros(LAYERS, tracks, WIDTH, device=device, dtype=dtype)
                    with computing(precision_of(name if dtype == torch.float32 else "float16")):
                        ways = {"launched": lambda: gru(x, state)}  # noqa: B023
                        if device.type == "cuda":
                            graph = Captured(gru, [x, state])
                            ways["graph"] = lambda: graph(x, state)  # noqa: B023
                        for way, run in ways.items():
                            took = milliseconds(run, device.type, 20)[0]
                            print(
                                f"| {name} | {tracks} | {frames} | {layers} | {way} | {took:.3f} | "
                                f"{1000 * took / frames:.1f} |",
                                flush=True,
                            )


if __name__ == "__main__":
    main()
