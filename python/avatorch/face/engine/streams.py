"""Speech of many people at once, as it comes, to the weights of their faces.

    streams = FaceStreams("audio2face-3d-v3.0", "Claire", tracks=256, device="cuda", precision="float16")
    for samples in microphones:             # [tracks, n], any n, the same of every track
        for block in streams.push(samples):  # every half second, of all tracks at once
            block.weights                    # [tracks, 30, poses]

All tracks are in step: their blocks are due at the same moment, and are computed together, with everything that is
remembered of a track on the device. On a GPU a block of up to 256 tracks is one CUDA graph; more are heard by so many,
and solved for together. What a track says begins anew after `reset`; its frames are those that Executor gives.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from avatorch.face.bundle import Bundle, Identity, read_bundle
from avatorch.face.engine.blendshapes import FeatureFace
from avatorch.face.engine.captured import Captured
from avatorch.face.engine.diffusion import Diffusion
from avatorch.face.engine.session import MOST_WINDOWS, TorchNetwork
from avatorch.face.errors import FaceError, check_track
from avatorch.face.modes import device_of, undisturbed
from avatorch.face.progress import Clock
from avatorch.face.solver import BlendshapeSolver


@dataclass(frozen=True)
class Block:
    """Frames that follow one another on every track."""

    weights: Tensor  # [tracks, frames, poses]; overwritten by the next block of a GPU
    first: tuple[int, ...]  # [tracks], where a track's frames begin: later in the first block after a reset


class FaceStreams:
    """Tracks of one identity of a diffusion network."""

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        identity: str | int = 0,
        tracks: int = 1,
        device: torch.device | str = "cpu",
        *,
        precision: str = "float32",
        seed: int = 0,
        noise: Tensor | None = None,
        network: TorchNetwork | None = None,
    ) -> None:
        """`noise` [steps + 1, frames, values] or a `seed`: the same for every block. A `network` that others have open,
        their `network`, is not read again.
        """
        bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        if bundle.info.kind != "diffusion":
            raise FaceError("eUnsupported", "tracks in step are for diffusion networks, this is a regression network")
        if isinstance(tracks, bool) or not isinstance(tracks, int) or tracks < 1:
            raise FaceError("eInvalidValue", f"tracks is {tracks!r}, expected at least 1")
        shape = (bundle.info.steps + 1, bundle.info.frames, bundle.info.values)
        if noise is not None and noise.shape != shape:
            raise FaceError("eMismatch", f"noise has shape {list(noise.shape)}, expected {list(shape)}")
        self.info = bundle.info
        self.tracks = tracks
        self.network = network or TorchNetwork(bundle, device_of(device), precision)
        self.device = self.network.device
        assert isinstance(self.network.engine, Diffusion)
        self._engine = self.network.engine
        if noise is None:
            random = torch.Generator("cpu").manual_seed(seed)
            noise = torch.randn(shape, generator=random, dtype=torch.float32, device="cpu")
        self._make_tracks(bundle, bundle.identity(identity), noise)

    @undisturbed
    def _make_tracks(self, bundle: Bundle, person: Identity, noise: Tensor) -> None:
        info, tracks, device = self.info, self.tracks, self.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float32, device=device)

        self._clock = Clock.of(info, None)
        self.hop = self._clock.inferences.start(1) - self._clock.inferences.start(0)  # samples from block to block
        self._solvers = [BlendshapeSolver(rig, tracks, device) for rig in (person.skin, person.tongue)]
        seconds = float(1 / self._clock.frame_rate)
        index = bundle.identities.index(person)
        self._face = FeatureFace(self.network.feature_maps(person, index), person, tracks, seconds, *self._solvers)
        self.weight_names = tuple(name for solver in self._solvers for name in solver.rig.names)
        self._embedded = self._engine.embed_noise(noise[None].to(device))
        self._identity = zeros(1, len(info.identities))
        self._identity[0, index] = 1
        # [tracks, emotions], for whoever changes it
        self.emotion = info.default_emotion.to(device).repeat(tracks, 1)
        self._window = zeros(tracks, info.window)
        self._latents = zeros(info.steps, info.gru_layers, tracks, info.gru_width)
        self._weights = zeros(tracks, info.center_frames, len(self.weight_names))
        self._chunks = [slice(at, min(at + MOST_WINDOWS, tracks)) for at in range(0, tracks, MOST_WINDOWS)]
        several = len(self._chunks) > 1 and self.device.type == "cuda"
        self._products = torch.zeros_like(self._weights, dtype=torch.float64) if several else None
        self._pending = zeros(tracks, 0)
        self._parameters = [person.parameters] * tracks
        self._made = [0] * tracks  # blocks since the last reset
        self._graphs: dict[int, Captured] = {}

    @undisturbed
    def reset(self, track: int) -> None:
        """A track begins anew with the next samples; those of a block that is not whole yet are silence."""
        check_track(track, self.tracks)
        self._made[track] = 0
        self._window[track] = 0
        self._pending[track] = 0
        self._latents[:, :, track] = 0
        self._face.reset(track)
        for solver in self._solvers:
            solver.reset(track)

    @undisturbed
    def set_parameters(self, track: int, **settings: float) -> None:
        """Changes settings of the animators of a track, for the blocks that follow."""
        check_track(track, self.tracks)
        self._parameters[track] = self._parameters[track].changed(**settings)
        self._face.set_parameters(track, self._parameters[track])
        if {"face_mask_level", "face_mask_softness"} & set(settings):
            self._graphs.clear()  # they hold the matrices of the masks before

    @undisturbed
    def push(self, samples: Tensor) -> list[Block]:
        """More samples of every track [tracks, n] -> the blocks that they complete, mostly none or one."""
        if samples.ndim != 2 or len(samples) != self.tracks or not samples.is_floating_point():
            raise FaceError(
                "eInvalidValue",
                f"samples is {samples.dtype} {list(samples.shape)}, expected floats [{self.tracks}, samples]",
            )
        given = torch.cat([self._pending, samples.to(self.device, torch.float32)], 1)
        blocks = []
        while given.shape[1] >= self.hop:
            blocks.append(self._block(given[:, : self.hop]))
            given = given[:, self.hop :]
            if len(blocks) > 1:  # the next overwrites what the one before gave
                blocks[-2:] = [Block(block.weights.clone(), block.first) for block in blocks[-2:]]
        self._pending = given
        return blocks

    def _block(self, samples: Tensor) -> Block:
        """[tracks, hop] of each track to its next frames."""
        new = [track for track, made in enumerate(self._made) if made == 0]
        for at in range(0, len(new), MOST_WINDOWS):  # the block of silence before anything is said
            self._warm(new[at : at + MOST_WINDOWS])
        starting = [track for track, made in enumerate(self._made) if made < 2]
        heard = []
        for chunk in self._chunks:
            some = [track for track in starting if chunk.start <= track < chunk.stop]
            if some:
                self._start(chunk, samples[chunk], set(some))
                continue
            step = self._graph(chunk) if self.device.type == "cuda" else partial(self._step, chunk)
            step(samples[chunk])
            heard.append(chunk)
        if self._products is not None:
            for part in [slice(0, self.tracks)] if heard == self._chunks else heard:
                self._weights[part] = self._face.solve(part, self._products[part])
        first = tuple(self._skipped if made == 1 else 0 for made in self._made)
        self._made = [made + 1 for made in self._made]
        return Block(self._weights, first)

    @property
    def _skipped(self) -> int:
        """Frames of the second block that describe what was before the samples."""
        return self._clock.first_frame - self._clock.frames_per_inference

    def _infer(self, chunk: slice | list[int]) -> Tensor:
        """The next features of some tracks, whose windows are there. [R, frames, features]"""
        window = self._window[chunk]
        emotion = self.emotion[chunk][:, None].expand(-1, self.info.center_frames, -1)
        identity = self._identity.expand(len(window), -1)
        result = self._engine(window, identity, emotion, self._latents[:, :, chunk], self._embedded)
        self._latents[:, :, chunk] = result.latents.float()
        return result.features

    def _warm(self, tracks: list[int]) -> None:
        self._infer(tracks)
        for track in tracks:
            self._made[track] = 1

    def _listen(self, chunk: slice, samples: Tensor) -> None:
        window = self._window[chunk]
        window.copy_(torch.cat([window[:, self.hop :], samples], 1))

    def _step(self, chunk: slice, samples: Tensor) -> None:
        """A block of tracks that all have begun; nothing of it comes from the host, so that it can be captured."""
        self._listen(chunk, samples)
        products = self._face.products(chunk, self._infer(chunk))
        if self._products is None:
            self._weights[chunk] = self._face.solve(chunk, products)
        else:
            self._products[chunk] = products

    def _start(self, chunk: slice, samples: Tensor, starting: set[int]) -> None:
        """A block of tracks of which some just begin: their first frames describe what was before, and are left out."""
        self._listen(chunk, samples)
        features = self._infer(chunk)
        numbers = range(chunk.start, chunk.stop)
        for begin, tracks in (
            (0, [track for track in numbers if track not in starting]),
            (self._skipped, [track for track in numbers if track in starting]),
        ):
            if tracks:
                places = [track - chunk.start for track in tracks]
                self._weights[tracks] = 0
                self._weights[tracks, begin:] = self._face.weights(tracks, features[places][:, begin:])

    def _graph(self, chunk: slice) -> Captured:
        """Made once; what is remembered of the tracks is not touched by that."""
        if chunk.start not in self._graphs:
            states = [self._window, self._latents, *self._face.states(), *(solver.state() for solver in self._solvers)]
            kept = [state.clone() for state in states]
            pool = next((graph.pool for graph in self._graphs.values()), None)
            silence = self._window.new_zeros(chunk.stop - chunk.start, self.hop)
            self._graphs[chunk.start] = Captured(partial(self._step, chunk), [silence], pool)
            for state, values in zip(states, kept, strict=True):
                state.copy_(values)
        return self._graphs[chunk.start]
