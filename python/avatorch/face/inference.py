"""Windows of samples to rows of the network's result, for some tracks of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from avatorch.face.bundle import Bundle, Identity
from avatorch.face.errors import FaceError
from avatorch.face.network import Network


class Inference(Protocol):
    """What the two kinds of network have in common."""

    def infer(self, tracks: Sequence[int], windows: Tensor, emotions: Tensor, numbers: Sequence[int]) -> Tensor:
        """windows [R, samples], emotions [R, F, emotions], the number of each inference -> rows [R, F, values]"""

    def reset(self, track: int) -> None:
        """The next inference of a track is its first."""


class RegressionInference:
    """One window, one row."""

    def __init__(self, bundle: Bundle, identity: Identity, device: torch.device, network: Network) -> None:
        self._info = bundle.info
        self._network = network
        assert identity.implicit_emotion is not None
        self._implicit = identity.implicit_emotion.to(device)

    def infer(self, tracks: Sequence[int], windows: Tensor, emotions: Tensor, numbers: Sequence[int]) -> Tensor:
        """See Inference; here R is any number of windows."""
        implicit = self._implicit.expand(len(windows), 1, -1)
        inputs = {"input": windows[:, None], "emotion": torch.cat([implicit, emotions.to(windows.device)], -1)}
        # Alone on the CPU: there rounding differs with the number of windows.
        step = 1 if windows.device.type == "cpu" else max(1, len(windows))
        rows = [
            self._network.run(
                {name: tensor[at : at + step] for name, tensor in inputs.items()},
                {"result": (min(step, len(windows) - at), 1, self._info.values)},
            )["result"]
            for at in range(0, len(windows), step)
        ]
        return torch.cat(rows)

    def reset(self, track: int) -> None:
        """There is nothing to forget."""


class DiffusionInference:
    """Overlapping windows to blocks of frames, with a state that goes from one to the next."""

    def __init__(
        self,
        bundle: Bundle,
        identity: Identity,
        tracks: int,
        device: torch.device,
        network: Network,
        noise: Tensor | None,
        constant_noise: bool,
        seed: int,
    ) -> None:
        info = self._info = bundle.info
        self._network = network
        self._device = device
        self._constant, self._seed = constant_noise or noise is not None, seed
        self._identity = torch.zeros(1, len(info.identities), dtype=torch.float32, device=device)
        self._identity[0, bundle.identities.index(identity)] = 1
        state = (info.steps, info.gru_layers, tracks, info.gru_width)
        self.latents = torch.zeros(state, dtype=torch.float32, device=device)  # [steps, layers, tracks, width]
        shape = (info.steps + 1, info.frames, info.values)
        if noise is None:
            self._noise = self._noise_of(0)[None]  # [R, steps + 1, frames, values], the same R times
        elif noise.shape == shape:
            self._noise = noise.to(device, torch.float32)[None]
        else:
            raise FaceError("eMismatch", f"noise has shape {list(noise.shape)}, expected {list(shape)}")

    def infer(self, tracks: Sequence[int], windows: Tensor, emotions: Tensor, numbers: Sequence[int]) -> Tensor:
        """See Inference."""
        info = self._info
        step = 1 if self._device.type == "cpu" else max(1, len(windows))
        blocks = []
        for at in range(0, len(windows), step):
            some = torch.tensor(tracks[at : at + step], device=self._device)
            inputs = {
                "window": windows[at : at + step],
                "identity": self._identity.expand(len(some), -1),
                "emotion": emotions[at : at + step],
                "input_latents": self.latents[:, :, some],
                "noise": self._noise_for(numbers[at : at + step]),
            }
            results = self._network.run(
                inputs,
                {
                    "prediction": (len(some), info.frames, info.values),
                    "output_latents": (info.steps, info.gru_layers, len(some), info.gru_width),
                },
            )
            self.latents[:, :, some] = results["output_latents"]
            blocks.append(results["prediction"][:, info.left_frames : info.left_frames + info.center_frames])
        return torch.cat(blocks)

    def reset(self, track: int) -> None:
        """The state of a track is zero again."""
        self.latents[:, :, track] = 0

    def _noise_for(self, numbers: Sequence[int]) -> Tensor:
        """Of some inferences, [R, steps + 1, frames, values]; what is constant is copied once, not for each call."""
        if not self._constant:
            return torch.stack([self._noise_of(number) for number in numbers])
        if len(self._noise) < len(numbers):
            self._noise = self._noise[:1].repeat(len(numbers), 1, 1, 1)
        return self._noise[: len(numbers)]

    def _noise_of(self, number: int) -> Tensor:
        """Of an inference: the same on every track and device, whatever came before."""
        generator = torch.Generator("cpu").manual_seed(self._seed + number)
        shape = (self._info.steps + 1, self._info.frames, self._info.values)
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu").to(self._device)
