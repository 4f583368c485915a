"""The engine where ONNX Runtime stands otherwise: the same calls, and inferences for the executor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avatorch.face.bundle import Bundle, Identity
from avatorch.face.engine.blendshapes import FeatureMap
from avatorch.face.engine.captured import Captured
from avatorch.face.engine.diffusion import Diffusion, Result
from avatorch.face.engine.diffusion_weights import DiffusionWeights
from avatorch.face.engine.flow import NotRecognised
from avatorch.face.engine.graph import read_graph
from avatorch.face.engine.precision import Precision, precision_of
from avatorch.face.engine.proof import prove
from avatorch.face.engine.recognise import recognise
from avatorch.face.engine.regression import Regression
from avatorch.face.inference import DiffusionInference, RegressionInference
from avatorch.face.modes import undisturbed
from avatorch.face.products import run_of

MOST_GRAPHS = 64  # of different sizes; others run without one
MOST_WINDOWS = 256  # heard at once


class TorchNetwork:
    """The network of a bundle, computed by torch; raises NotRecognised where its structure is not known."""

    why = ""  # not ONNX Runtime

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device,
        precision: str = "float32",
        *,
        engine: Diffusion | Regression | None = None,
    ) -> None:
        self.device, self.info = device, bundle.info
        self.engine = engine or self._open(bundle, precision_of(precision))
        self._graphs: dict[Any, Captured | None] = {}  # None: seen once, worth a graph the next time
        self._replayed: torch.cuda.Event | None = None
        self._lock = threading.Lock()

    @undisturbed
    def _open(self, bundle: Bundle, precision: Precision) -> Diffusion | Regression:
        """Compared with what its file says, in float32 at least."""
        weights, info = recognise(bundle.network, bundle.info), bundle.info

        def made(finely: Precision) -> Diffusion | Regression:
            if isinstance(weights, DiffusionWeights):
                return Diffusion(weights, info, self.device, finely)
            return Regression(weights, info, self.device, finely)

        try:
            engine = made(precision)
            fine = precision.name in ("float32", "float64")
            prove(engine if fine else made(precision_of("float32")), read_graph(bundle.network), info)
        except torch.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError) as error:
            raise NotRecognised(f"its weights do not fit together: {error}") from None
        return engine

    @undisturbed
    def run(self, inputs: dict[str, Tensor], outputs: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """What Network.run gives; frames around those in the middle hold what the file says: less than nothing."""
        engine = self.engine
        given = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        if isinstance(engine, Regression):
            return {"result": engine(given["input"][:, 0], given["emotion"][:, 0])[:, None].float()}
        identity = given["identity"]
        embedded = engine.embed_noise(given["noise"])
        result = engine(given["window"], identity, given["emotion"], given["input_latents"], embedded)
        prediction = torch.zeros(outputs["prediction"], dtype=torch.float32, device=self.device)
        prediction[:] = engine.around(identity)[:, None]
        left = self.info.left_frames
        prediction[:, left : left + self.info.center_frames] = engine.frames(result.features, identity)
        return {"prediction": prediction, "output_latents": result.latents.float()}

    def replay(self, key: Any, function: Callable[..., Any], given: Sequence[Tensor]) -> Any:
        """A function of tensors that gives tensors, as a graph once its key was seen before."""
        if self.device.type != "cuda":
            return function(*given)
        with self._lock:  # a graph has one place for what it is given, and one for what it gives
            return self._replay(key, function, given)

    def _replay(self, key: Any, function: Callable[..., Any], given: Sequence[Tensor]) -> Any:
        if key not in self._graphs:
            if len(self._graphs) < MOST_GRAPHS:
                self._graphs[key] = None
            return function(*given)
        graph = self._graphs[key]
        if graph is None:
            pool = next((other.pool for other in self._graphs.values() if other is not None), None)
            graph = self._graphs[key] = Captured(function, given, pool)
        stream = torch.cuda.current_stream(self.device)
        if self._replayed is not None:
            stream.wait_event(self._replayed)  # of another thread's stream
        found = graph(*given)
        copied = found.clone() if isinstance(found, Tensor) else Result(*(part.clone() for part in found))
        self._replayed = stream.record_event()
        return copied

    def feature_maps(self, identity: Identity, index: int) -> list[FeatureMap]:
        """Skin and tongue of an identity as linear maps of features."""
        engine = self.engine
        if isinstance(engine, Regression):
            assert identity.skin_basis is not None and identity.tongue_basis is not None
            maps, begin = [], 0
            for basis in (identity.skin_basis.flatten(1), identity.tongue_basis.flatten(1)):
                maps.append(FeatureMap(begin, begin + len(basis), basis, torch.zeros(basis.shape[1])))
                begin += len(basis)
            return maps
        return engine.feature_maps(index)


class TorchRegressionInference(RegressionInference):
    """Windows to rows. Features are the rows themselves."""

    def __init__(self, bundle: Bundle, identity: Identity, device: torch.device, network: TorchNetwork) -> None:
        super().__init__(bundle, identity, device, network)  # type: ignore[arg-type]
        self._torch = network

    def infer(self, tracks: Sequence[int], windows: Tensor, emotions: Tensor, numbers: Sequence[int]) -> Tensor:
        """See Inference."""
        engine = self._torch.engine
        assert isinstance(engine, Regression)
        implicit = self._implicit.expand(len(windows), -1)
        given = windows, torch.cat([implicit, emotions[:, 0].to(windows.device, non_blocking=True)], -1)
        # Alone on the CPU: there rounding differs with the number of windows.
        step = 1 if windows.device.type == "cpu" else MOST_WINDOWS
        rows = []
        for at in range(0, len(windows), step):
            some = [_padded(part[at : at + step], step) for part in given]
            count = len(windows[at : at + step])
            rows.append(self._torch.replay(len(some[0]), engine, some)[:count].float()[:, None])
        return torch.cat(rows)


class TorchDiffusionInference(DiffusionInference):
    """Windows to rows, or to features where `features`. Of blocks of one track that follow one another, all at once."""

    def __init__(
        self,
        bundle: Bundle,
        identity: Identity,
        tracks: int,
        device: torch.device,
        network: TorchNetwork,
        noise: Tensor | None,
        constant_noise: bool,
        seed: int,
        *,
        features: bool,
    ) -> None:
        super().__init__(bundle, identity, tracks, device, network, noise, constant_noise, seed)  # type: ignore[arg-type]
        assert isinstance(network.engine, Diffusion)
        self._torch, self._engine, self._features = network, network.engine, features
        self._embedded = self._engine.embed_noise(self._noise)  # [1, steps + 1, frames, numbers]
        del self._noise  # 64 MB at the published size, of which this is all that matters

    def infer(self, tracks: Sequence[int], windows: Tensor, emotions: Tensor, numbers: Sequence[int]) -> Tensor:
        """See Inference; a track may be there several times, one block behind the other: all are heard at once, and
        then followed turn by turn.
        """
        turns = [(run_of(places, self._device), places) for places in _turns(tracks, self._most)]
        heard = self._hear(windows, emotions.to(self._device, non_blocking=True))
        rows = heard.new_empty(0)
        for own, places in turns:
            followed = [tracks[place] for place in places]
            part = self._follow(followed, heard[own], [numbers[place] for place in places])
            if len(turns) == 1:
                return part
            if not len(rows):
                rows = part.new_empty(len(windows), *part.shape[1:])
            rows[own] = part
        return rows

    @property
    def _most(self) -> int:
        """Windows at a time: alone on the CPU, where rounding differs with how many are computed at once."""
        return 1 if self._device.type == "cpu" else MOST_WINDOWS

    def _hear(self, windows: Tensor, emotions: Tensor) -> Tensor:
        parts = []
        for some, told in zip(windows.split(self._most), emotions.split(self._most), strict=True):
            given = [_padded(some, self._most), _padded(told, self._most)]
            parts.append(self._torch.replay(("hear", len(given[0])), self._engine.hear, given)[: len(some)])
        return torch.cat(parts)

    def _follow(self, tracks: list[int], heard: Tensor, numbers: list[int]) -> Tensor:
        """The next block of some tracks."""
        count, which = len(tracks), run_of(tracks, self._device)
        heard = _padded(heard, self._most)
        room, embedded = len(heard), self._embedded
        if not self._constant:
            embedded = _filled(
                torch.cat([self._engine.embed_noise(self._noise_of(number)[None]) for number in numbers]), room
            )
        latents = _filled(self.latents[:, :, which].transpose(0, 2), room).transpose(0, 2)
        given = heard, self._identity.expand(room, -1), latents, embedded
        result = self._torch.replay(("follow", room, self._constant), self._engine.follow, given)
        self.latents[:, :, which] = result.latents[:, :, :count].float()
        features = result.features[:count]
        return features if self._features else self._engine.frames(features, self._identity).float()


def _turns(tracks: Sequence[int], most: int) -> list[list[int]]:
    """The first places of all tracks, at most so many at a time, then their second ones, and so on."""
    turns: list[list[int]] = []
    seen: dict[int, int] = {}
    for place, track in enumerate(tracks):
        turn = seen[track] = seen.get(track, -1) + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(place)
    return [turn[at : at + most] for turn in turns for at in range(0, len(turn), most)]


def _padded(rows: Tensor, most: int) -> Tensor:
    """With zeros behind, as many rows as one of few sizes has: at most a quarter more."""
    if rows.device.type == "cpu":
        return rows
    step = 1 << max(0, (len(rows) - 1).bit_length() - 3)
    return _filled(rows, min(-(-len(rows) // step) * step, most))


def _filled(rows: Tensor, count: int) -> Tensor:
    """With zeros behind, so many rows."""
    if len(rows) == count:
        return rows
    return torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])
