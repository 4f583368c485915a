"""Many clients at once, and many after another: nothing is lost, and nothing stays."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from avatorch.face import Audio2Face
from avatorch.serve import Limits
from avatorch.serve.protocol import DECIMALS
from serve.running import Running, frames_of, gate, heard, integers, listen, running, say, wav

HALF_DIGIT = 0.51 * 10**-DECIMALS
CLIENTS = 100


def by_socket(service: Running, identity: str, clip: torch.Tensor) -> list[list[float]]:
    with service.socket() as socket:
        say(socket, type="start", identity=identity)
        listen(socket)
        for part in clip.split(333):
            socket.send(integers(part))
        say(socket, type="end")
        return frames_of(socket)


def by_upload(service: Running, identity: str, clip: torch.Tensor) -> list[list[float]]:
    status, said, _ = service.upload(wav(clip), identity=identity)
    assert status == 200, said
    rows: list[list[float]] = said["blendshapes"]
    return rows


def test_a_hundred_clients_at_once_lose_nothing(diffusion: Path) -> None:
    network = gate(diffusion)
    clips = [heard(torch.randn(400 + 17 * number) * 0.1) for number in range(CLIENTS)]
    people = [("Ada", "Bo")[number % 3 == 0] for number in range(CLIENTS)]
    with running(diffusion, Limits(tracks=24), network=network) as service, ThreadPoolExecutor(CLIENTS) as clients:
        answers = [
            clients.submit(by_socket if number % 2 else by_upload, service, people[number], clips[number])
            for number in range(CLIENTS)
        ]
        network.await_run()
        network.open.set()
        found = [torch.tensor(answer.result()) for answer in answers]
        places, metrics = service.service.desk.places, service.service.metrics
        assert service.get("/health")[0] == 200
        assert (places.taken, places.waiting) == (0, 0)
        inferences = metrics.tracks_per_inference
        together = inferences._sum.get() / sum(bucket.get() for bucket in inferences._buckets)
    assert together > 3, f"{together:.1f} tracks an inference"
    for name in ("Ada", "Bo"):
        chosen = [number for number in range(CLIENTS) if people[number] == name]
        wanted = Audio2Face(diffusion, name)([clips[number] for number in chosen])
        for number, weights, count in zip(chosen, wanted.weights, wanted.counts, strict=True):
            assert found[number].shape[0] == count and (found[number] - weights[:count]).abs().max() < HALF_DIGIT


def test_clients_share_inferences_on_every_device(diffusion: Path, device: str) -> None:
    clips = [heard(torch.randn(900) * 0.1) for _ in range(8)]
    # On a GPU products of several rows round differently from those of one.
    rounding = HALF_DIGIT if device == "cpu" else 1e-3
    with running(diffusion, device=device) as service, ThreadPoolExecutor(len(clips)) as clients:
        found = list(clients.map(lambda clip: by_socket(service, "Ada", clip), clips))
    for clip, weights in zip(clips, found, strict=True):
        wanted = Audio2Face(diffusion, device=device)(clip).weights.cpu()
        assert (torch.tensor(weights) - wanted).abs().max() < rounding


def test_nothing_stays_of_clips_that_are_over(service: Running) -> None:
    clip = heard(torch.randn(300) * 0.1)

    def many(count: int) -> int:
        for number in range(count):
            by_upload(service, "Ada", clip)
            if number % 5 == 0:
                by_socket(service, "Bo", clip)
                service.upload(b"no file")
        gc.collect()
        return len(gc.get_objects())

    many(60)
    before, after = many(30), many(90)
    assert after - before < 90, f"{after - before} objects stay of 126 requests"
    assert not any(face.lines for face in service.service.worker.faces)
