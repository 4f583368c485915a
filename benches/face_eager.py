"""The diffusion network as a straight transcription into eager torch: what one would write by hand, in any type."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.diffusion_weights import DiffusionWeights
from avatorch.face.engine.pattern import Linear, Norm


class Eager:
    """All frames of all parts, one step after another; speech is heard once."""

    def __init__(self, weights: DiffusionWeights, info: NetworkInfo, device: torch.device, dtype: torch.dtype) -> None:
        self.weights, self.info, self.device, self.dtype = weights, info, device, dtype
        self._cast: dict[int, Tensor] = {}
        self._gru = None

    def on(self, tensor: Tensor) -> Tensor:
        """A weight on the device, kept."""
        if id(tensor) not in self._cast:
            self._cast[id(tensor)] = tensor.to(self.device, self.dtype).contiguous()
        return self._cast[id(tensor)]

    def linear(self, x: Tensor, layer: Linear) -> Tensor:
        return x @ self.on(layer.weight) + self.on(layer.bias)

    def norm(self, x: Tensor, norm: Norm) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.on(norm.weight), self.on(norm.bias), norm.epsilon)

    def speech(self, windows: Tensor) -> Tensor:
        """[B, samples] -> [B, frames, width]"""
        weights = self.weights.denoiser.speech
        x = windows[:, None]
        for number, layer in enumerate(weights.convolutions):
            x = functional.conv1d(x, self.on(layer.weight), stride=layer.stride)
            if number == 0:
                norm = weights.channel_norm
                x = functional.group_norm(x, x.shape[1], self.on(norm.weight), self.on(norm.bias), norm.epsilon)
            x = functional.gelu(x)
        x = self.linear(self.norm(x.mT, weights.feature_norm), weights.projection)
        position = weights.position
        bias = None if position.bias is None else self.on(position.bias)
        placed = functional.conv1d(
            x.mT, self.on(position.weight), bias, padding=position.padding, groups=position.groups
        )
        x = self.norm(x + functional.gelu(placed[..., :-1]).mT, weights.position_norm)
        for block in weights.blocks:
            heads = block.attention
            parts = [
                self.linear(x, part).unflatten(-1, (heads.heads, -1)).transpose(1, 2)
                for part in (heads.query, heads.key, heads.value)
            ]
            heard = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
            x = self.norm(x + self.linear(heard, block.out), block.middle_norm)
            x = self.norm(x + self.linear(functional.gelu(self.linear(x, block.wide)), block.narrow), block.end_norm)
        return x

    def embed(self, frames: Tensor) -> Tensor:
        """[B, frames, values] -> [B, frames, numbers]"""
        denoiser, parts = self.weights.denoiser, []
        sizes = [self.info.skin_values, self.info.tongue_values, self.info.jaw_values, self.info.eye_values]
        for given, part in zip(frames.split(sizes, -1), denoiser.parts, strict=True):
            x = self.linear(given, part.first)
            if part.smooth is not None:
                bias = None if part.smooth.bias is None else self.on(part.smooth.bias)
                flat = x.flatten(0, 1)[:, None]
                x = functional.conv1d(flat, self.on(part.smooth.weight), bias, padding=part.smooth.padding).view_as(x)
            x = torch.relu(x)
            if part.second is not None:
                x = torch.relu(self.linear(x, part.second))
            parts.append(x)
        x = torch.relu(self.linear(torch.cat(parts, -1), denoiser.final[0]))
        return self.linear(x, denoiser.final[1])

    def gru(self) -> torch.nn.GRU:
        """Of the network's weights."""
        if self._gru is None:
            layers = self.weights.denoiser.recurrence
            inputs, width = layers[0].weight_in.shape[1], self.info.gru_width
            made = torch.nn.GRU(inputs, width, len(layers), batch_first=True, device=self.device, dtype=self.dtype)
            for number, layer in enumerate(layers):
                tensors = (layer.weight_in, layer.weight_state, layer.bias_in, layer.bias_state)
                for name, tensor in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), tensors, strict=True):
                    getattr(made, f"{name}_l{number}").data.copy_(tensor)
            self._gru = made.requires_grad_(False)
        return self._gru

    @torch.no_grad()
    def __call__(
        self, windows: Tensor, identity: Tensor, emotion: Tensor, latents: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The prediction's frames in the middle, and the state."""
        info, denoiser, dtype = self.info, self.weights.denoiser, self.dtype
        windows, identity, emotion, latents, noise = (
            given.to(dtype) for given in (windows, identity, emotion, latents, noise)
        )
        middle = slice(info.left_frames, info.left_frames + info.center_frames)
        heard = self.speech(windows).mT
        heard = functional.interpolate(heard, size=info.frames, mode="linear", align_corners=True).mT
        heard = self.linear(heard, denoiser.speech_map)[:, middle]
        actor = (identity @ self.on(denoiser.actor))[:, None].expand(-1, info.center_frames, -1)
        feeling = self.linear(emotion, denoiser.emotion)
        mean = (identity @ self.on(denoiser.mean))[:, None]
        x, states = noise[:, -1], list(latents)
        for step in reversed(range(info.steps)):
            seen = self.embed(x)[:, middle]
            time = self.on(self.weights.time)[step].expand(len(windows), info.center_frames, -1)
            result, states[step] = self.gru()(torch.cat([heard, seen, actor, time, feeling], -1), states[step])
            heads = [self.linear(torch.relu(self.linear(result, first)), last) for first, last in denoiser.heads]
            clean = functional.pad(torch.cat(heads, -1) + mean, (0, 0, info.left_frames, info.right_frames))
            tables = self.weights.from_clean[step], self.weights.from_noisy[step], self.weights.deviation[step]
            clean_share, noisy_share, deviation = (float(value) for value in tables)
            x = clean_share * clean + noisy_share * x + deviation * noise[:, step]
        sizes = [info.skin_values, info.tongue_values, info.jaw_values, info.eye_values]
        scales, parts = identity @ self.on(self.weights.scales), []
        for number, (part, own) in enumerate(zip(x[:, middle].split(sizes, -1), mean.split(sizes, -1), strict=True)):
            moved = part if self.weights.means[number] else part - own
            parts.append(moved * scales[:, number, None, None])
        return torch.cat(parts, -1), torch.stack(states)
