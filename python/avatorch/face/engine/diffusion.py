"""The diffusion network: windows to the features of its frames in the middle, and those to geometry.

A step embeds a noisy frame, joins what was heard, runs the GRU, and maps its result to a frame: 88 831 numbers that
the next step embeds again. Between steps there is no max(x, 0), so that the two maps, of 1280 and of 570 numbers to and
from a frame, are one matrix of 1280 x 570, and the frame itself is never made. Embedded noise is a constant where the
noise is. What was heard reaches the GRU through linear maps alone: they are one, applied once for all steps.

Floors for one block of 30 frames at the published size, beside 13.1 GFLOP of the speech network: 0.06 GFLOP for what
was heard, and for each of two steps 0.04 (embedding), 0.04 (embedded again), 0.07 (GRU) and 0.02 (heads); geometry is
another 2.7, with 177 MB of weights. The GRU's 30 frames follow one another: 60 products a step wait for each other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.blendshapes import FeatureMap
from avatorch.face.engine.diffusion_weights import DiffusionWeights, Embedding, Recurrence
from avatorch.face.engine.precision import Precision, computing
from avatorch.face.engine.speech import ALIGNED, Speech
from avatorch.face.errors import FaceError, check_floats


class Result(NamedTuple):
    """Of one inference."""

    features: Tensor  # [B blocks, frames, features], of which every value of a frame is a linear map
    latents: Tensor  # [steps, layers, B, width]


class Diffusion:
    """The network in one precision, on one device."""

    def __init__(
        self,
        weights: DiffusionWeights,
        info: NetworkInfo,
        device: torch.device,
        precision: Precision,
        *,
        dense_position: bool | None = None,
    ) -> None:
        self.info, self.device, self.precision = info, device, precision
        denoiser = weights.denoiser
        self.speech = Speech(denoiser.speech, info.window, device, precision.speech, dense_position=dense_position)
        self._steps = len(weights.time)
        self._sampler = [table.tolist() for table in (weights.from_clean, weights.from_noisy, weights.deviation)]
        with computing(precision):
            self._make_gates(weights)
            self._make_geometry(weights)

    def _make_gates(self, weights: DiffusionWeights) -> None:
        """Everything before the GRU that is linear, as one map for each of its inputs."""
        denoiser, info = weights.denoiser, self.info
        first = self._double(denoiser.recurrence[0].weight_in).mT  # [inputs, gates]
        sizes = [
            denoiser.speech_map.weight.shape[1], denoiser.final[1].weight.shape[1], denoiser.actor.shape[1],
            weights.time.shape[1], denoiser.emotion.weight.shape[1],
        ]  # fmt: skip
        heard, geometry, actor, time, emotion = first.split(sizes)
        self._heard = self._matrix(self._double(denoiser.speech_map.weight) @ heard)
        self._actor = self._matrix(self._double(denoiser.actor) @ actor)
        self._emotion = self._matrix(self._double(denoiser.emotion.weight) @ emotion)
        self._seen = self._matrix(self._double(denoiser.final[1].weight) @ geometry)
        bias = self._double(denoiser.recurrence[0].bias_in) + self._double(denoiser.speech_map.bias) @ heard
        bias = bias + self._double(denoiser.final[1].bias) @ geometry + self._double(denoiser.emotion.bias) @ emotion
        self._gate_bias = self._rest(bias + self._double(weights.time) @ time)  # [steps, gates]
        self._recurrence = self._gru(denoiser.recurrence)
        # Frames of the speech network lie elsewhere than those of the face: each is between two of them.
        place = torch.arange(info.left_frames, info.left_frames + info.center_frames, dtype=torch.float64)
        place = place * (self.speech.frames - 1) / (info.frames - 1)
        self._begin, self._end = int(place[0]), int(place[-1].ceil()) + 1
        near = 1 - (place[:, None] - torch.arange(self._begin, self._end)).abs()
        self._between = self._rest(near.clamp(min=0))  # [frames, frames heard]

    def _gru(self, layers: list[Recurrence]) -> nn.GRU:
        """The first layer is given its gates; its own map does nothing to them."""
        width = self.info.gru_width
        # Made elsewhere: its first weights would be random numbers of the device, which all are replaced.
        gru = nn.GRU(3 * width, width, len(layers), batch_first=True, device="meta", dtype=self.precision.rest)
        gru.to_empty(device=self.device)
        gru.requires_grad_(False)
        for number, layer in enumerate(layers):
            tensors = (layer.weight_in, layer.weight_state, layer.bias_in, layer.bias_state)
            if number == 0:
                tensors = (torch.eye(3 * width), layer.weight_state, torch.zeros(3 * width), layer.bias_state)
            for name, tensor in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), tensors, strict=True):
                getattr(gru, f"{name}_l{number}").data.copy_(tensor)
        return gru

    def _make_geometry(self, weights: DiffusionWeights) -> None:
        """Into and out of a frame."""
        denoiser = weights.denoiser
        into = [self._into(part) for part in denoiser.parts]
        self._into_parts = [self._matrix(matrix) for matrix, _ in into]  # [values of a part, numbers]
        self._into_bias = self._rest(torch.cat([bias for _, bias in into]))
        second = [
            (torch.eye(matrix.shape[1]), torch.zeros(matrix.shape[1])) if part.second is None
            else (part.second.weight, part.second.bias)
            for part, (matrix, _) in zip(denoiser.parts, into, strict=True)
        ]  # fmt: skip
        self._again = self._matrix(torch.block_diag(*(self._double(weight) for weight, _ in second)))
        self._again_bias = self._rest(torch.cat([self._double(bias) for _, bias in second]))
        self._final = self._matrix(self._double(denoiser.final[0].weight))
        self._final_bias = self._rest(self._double(denoiser.final[0].bias))
        self._hidden = self._matrix(torch.cat([self._double(first.weight) for first, _ in denoiser.heads], 1))
        self._hidden_bias = self._rest(torch.cat([self._double(first.bias) for first, _ in denoiser.heads]))
        self.feature_sizes = [first.weight.shape[1] for first, _ in denoiser.heads]
        products, biases, means = [], [], []
        self.heads = [(last.weight, last.bias) for _, last in denoiser.heads]  # [features, values], [values]
        sizes = [last.weight.shape[1] for _, last in denoiser.heads]
        self.means = [
            mean if kept else torch.zeros_like(mean)
            for mean, kept in zip(denoiser.mean.split(sizes, 1), weights.means, strict=True)
        ]  # [identities, values of a part], what a prediction contains of it
        self.kept = weights.means
        self.mean, self.scales = denoiser.mean, self._rest(self._double(weights.scales))  # [ids, values], [ids, parts]
        for (matrix, _), (weight, bias), mean in zip(into, self.heads, denoiser.mean.split(sizes, 1), strict=True):
            products.append(self._double(weight) @ matrix)
            biases.append(self._double(bias) @ matrix)
            means.append(self._double(mean) @ matrix)
        self._back = self._matrix(torch.block_diag(*products))  # [features, numbers]
        self._back_bias, self._back_mean = self._rest(torch.cat(biases)), self._matrix(torch.cat(means, 1))
        self._out: list[Tensor] | None = None

    def _into(self, part: Embedding) -> tuple[Tensor, Tensor]:
        """A map and what smooths its result as one map."""
        weight, bias = self._double(part.first.weight), self._double(part.first.bias)
        if part.smooth is None:
            return weight, bias
        size, layer = weight.shape[1], part.smooth
        kernel, added = self._double(layer.weight), 0.0 if layer.bias is None else self._double(layer.bias)
        spread = functional.conv1d(
            torch.eye(size, dtype=torch.float64, device=self.device)[:, None], kernel, padding=layer.padding
        )[:, 0]  # [numbers, numbers]
        return weight @ spread, bias @ spread + added

    def _double(self, values: Tensor) -> Tensor:
        return values.to(self.device, torch.float64)

    def _rest(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.precision.rest).contiguous()

    def _matrix(self, values: Tensor) -> Tensor:
        """[inputs, outputs] with inputs contiguous, as tensor cores want TF32."""
        return self._rest(values.mT).mT

    def embed_noise(self, noise: Tensor) -> Tensor:
        """[B, steps + 1, frames, values] -> [B, steps + 1, frames in the middle, numbers], what of it matters.

        The first of the noise has no effect and is left out of the product: its numbers are 0.
        """
        info = self.info
        check_floats("noise", noise, "B", info.steps + 1, info.frames, info.values)
        middle = noise[:, 1:, info.left_frames : info.left_frames + info.center_frames].to(
            self.device, self.precision.rest
        )
        sizes = [matrix.shape[0] for matrix in self._into_parts]
        with computing(self.precision):
            parts = [part @ matrix for part, matrix in zip(middle.split(sizes, -1), self._into_parts, strict=True)]
        return functional.pad(torch.cat(parts, -1), (0, 0, 0, 0, 1, 0))

    def __call__(
        self, windows: Tensor, identity: Tensor, emotion: Tensor, latents: Tensor, embedded: Tensor, blocks: int = 1
    ) -> Result:
        """windows [B blocks, samples], identity [B, identities], emotion [B blocks, frames in the middle, emotions],
        latents [steps, layers, B, width], embedded noise of `embed_noise` for each block, or one for all.

        Blocks of a track follow one another: the state of one is that before the next.
        """
        check_floats("windows", windows, "B", self.info.window)
        if blocks < 1 or len(windows) % blocks:
            raise FaceError("eInvalidValue", f"blocks is {blocks}, expected a divisor of {len(windows)} windows")
        self._check_embedded(embedded, len(windows))
        heard = self.hear(windows, emotion)
        if blocks == 1:
            return self.follow(heard, identity, latents, embedded)
        features = []
        for block in range(blocks):
            own = slice(block, None, blocks)
            result = self.follow(heard[own], identity, latents, embedded if len(embedded) == 1 else embedded[own])
            features.append(result.features)
            latents = result.latents
        return Result(torch.stack(features, 1).flatten(0, 1), latents)

    def hear(self, windows: Tensor, emotion: Tensor) -> Tensor:
        """What of the windows [B, samples] and emotions [B, frames in the middle, emotions] reaches the GRU, whatever
        came before: [B, frames in the middle, gates]
        """
        info = self.info
        check_floats("windows", windows, "B", info.window)
        check_floats("emotion", emotion, len(windows), info.center_frames, len(info.emotions))
        with computing(self.precision):
            features = self.speech(windows, self._begin, self._end).to(self.precision.rest)
            return self._between @ _affine(features, self._heard) + _affine(
                emotion.to(self.precision.rest), self._emotion
            )

    def follow(self, heard: Tensor, identity: Tensor, latents: Tensor, embedded: Tensor) -> Result:
        """One block of each track: what was heard [B, frames in the middle, gates], identity [B, identities], latents
        [steps, layers, B, width], embedded noise of each block, or one for all.
        """
        info = self.info
        check_floats("heard", heard, "B", info.center_frames, 3 * info.gru_width)
        rows = len(heard)
        check_floats("identity", identity, rows, len(info.identities))
        check_floats("latents", latents, info.steps, info.gru_layers, rows, info.gru_width)
        self._check_embedded(embedded, rows)
        with computing(self.precision):
            return self._sample(heard, identity.to(self.precision.rest), latents, embedded)

    def _check_embedded(self, embedded: Tensor, rows: int) -> None:
        """Noise of each block, or one for all."""
        numbers = sum(matrix.shape[1] for matrix in self._into_parts)
        noises = rows if embedded.ndim and len(embedded) > 1 else 1
        check_floats("embedded", embedded, noises, self.info.steps + 1, self.info.center_frames, numbers)

    def _sample(self, heard: Tensor, identity: Tensor, latents: Tensor, embedded: Tensor) -> Result:
        heard = heard + _affine(identity, self._actor)[:, None]
        mean = _affine(identity, self._back_mean, self._back_bias)[:, None]  # [B, 1, numbers]
        clean, noisy, deviation = self._sampler
        noise = embedded.unbind(1)  # [B or 1, frames, numbers] each
        x = noise[-1]
        states: list[Tensor] = [latents[0]] * self._steps
        hidden = heard
        self._recurrence.train(torch.is_grad_enabled())  # what cuDNN keeps for gradients
        for step in reversed(range(self._steps)):
            seen = functional.relu(x + self._into_bias)
            seen = functional.relu(_affine(seen, self._again, self._again_bias))
            seen = functional.relu(_affine(seen, self._final, self._final_bias))
            gates = heard + _affine(seen, self._seen, self._gate_bias[step])
            before = latents[step].to(self.precision.rest).contiguous()
            result, states[step] = self._recurrence(gates, before)
            hidden = functional.relu(_affine(result, self._hidden, self._hidden_bias))
            if step:
                back = _affine(hidden, self._back) + mean
                x = clean[step] * back + (noisy[step] * x + deviation[step] * noise[step])
        return Result(hidden, torch.stack(states))

    def around(self, identity: Tensor) -> Tensor:
        """What a prediction holds in the frames that are thrown away: [B, values]"""
        scales, mean = identity.to(self.scales) @ self.scales, identity.to(self.scales) @ self._rest(self.mean)
        sizes = [matrix.shape[0] for matrix in self._into_parts]
        parts = [
            torch.zeros_like(part) if kept else -part * scales[:, number, None]
            for number, (part, kept) in enumerate(zip(mean.split(sizes, -1), self.kept, strict=True))
        ]
        return torch.cat(parts, -1)

    def feature_maps(self, index: int) -> list[FeatureMap]:
        """Skin and tongue of an identity as linear maps of features."""
        maps, begin = [], 0
        for number in range(2):
            weight, bias = self.heads[number]
            scale = float(self.scales[index, number])
            end = begin + len(weight)
            maps.append(FeatureMap(begin, end, weight * scale, (bias + self.means[number][index]) * scale))
            begin = end
        return maps

    def frames(self, features: Tensor, identity: Tensor) -> Tensor:
        """Features [B, frames, features] to what the network says of a frame, [B, frames, values].

        identity [B, identities], or one for all.
        """
        if self._out is None:
            # Bias and mean are maps of more features; others that are 0 keep rows aligned.
            joined = [
                torch.cat([weight, bias[None], mean])
                for (weight, bias), mean in zip(self.heads, self.means, strict=True)
            ]
            self._out = [
                self._matrix(functional.pad(part.to(self.device), (0, 0, 0, -len(part) % ALIGNED))) for part in joined
            ]
        identity = identity.to(features)
        more = functional.pad(identity, (1, 0), value=1.0)[:, None]  # [B, 1, 1 + identities]
        rows = None if features.requires_grad else features.new_empty(*features.shape[:2], self.info.values)
        parts, at = [], 0
        with computing(self.precision):
            scales = (identity @ self.scales)[:, None]  # [B, 1, parts]
            for number, (part, matrix) in enumerate(
                zip(features.split(self.feature_sizes, -1), self._out, strict=True)
            ):
                given = torch.cat([part, more.expand(*part.shape[:2], -1)], -1) * scales[..., number, None]
                values = functional.pad(given, (0, matrix.shape[0] - given.shape[-1])) @ matrix
                if rows is None:
                    parts.append(values)
                else:
                    rows[..., at : at + matrix.shape[1]] = values
                    at += matrix.shape[1]
        return torch.cat(parts, -1) if rows is None else rows


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., inputs] -> [..., outputs], as one product."""
    rows = x.reshape(-1, x.shape[-1])
    product = rows @ weight if bias is None else torch.addmm(bias, rows, weight)
    return product.view(*x.shape[:-1], -1)
