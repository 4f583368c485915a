"""A clip as its client's connection holds it: samples in, blocks of frames out, while it has a track."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from torch import Tensor

from avatorch.serve.places import Places
from avatorch.serve.protocol import Emotions, Fault, Refusal
from avatorch.serve.worker import Block, Done, Event, Face, Line, Worker


class Desk:
    """Gives tracks to clips. Used from one event loop."""

    def __init__(self, worker: Worker, places: Places) -> None:
        self.worker, self.places = worker, places
        self._free = {face: list(range(face.executor.tracks)) for face in worker.faces}

    async def open(self, face: Face, emotions: Emotions, *, live: bool) -> Clip:
        """Waits for a track. Of a `live` clip the first emotion is taken, and it may `feel` others."""
        await self.places.take()
        if not self.worker.is_alive:
            self.places.give()
            raise Refusal(Fault.FAILED, "the service failed; its log says why")
        track = self._free[face].pop()
        return Clip(self, face, track, emotions, live)

    def take_back(self, face: Face, track: int) -> None:
        """A clip is gone."""
        self.worker.leave(face, track)
        self._free[face].append(track)
        self.places.give()


class Clip:
    """On a track until it leaves: `with await desk.open(...) as clip`."""

    def __init__(self, desk: Desk, face: Face, track: int, emotions: Emotions, live: bool) -> None:
        self._desk, self._face, self._track = desk, face, track
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._room = asyncio.Event()
        self._per_frame = face.executor.bundle.info.sample_rate / float(face.executor.frame_rate)
        self.samples = 0  # pushed
        self.frames = 0  # taken by whoever goes through `blocks`
        first = desk.worker.emotion(emotions[0][1]) if emotions else face.executor.bundle.info.default_emotion
        line = Line(self._events.put_nowait, live, first)
        desk.worker.begin(face, track, line, [] if live else emotions)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self._desk.take_back(self._face, self._track)

    def push(self, samples: Tensor) -> None:
        """Samples [n] at the network's rate."""
        if len(samples):
            self.samples += len(samples)
            self._desk.worker.push(self._face, self._track, samples)

    def feel(self, strengths: dict[str, float]) -> None:
        """The emotion of the samples that follow."""
        self._desk.worker.feel(self._face, self._track, self._desk.worker.emotion(strengths))

    def end(self) -> None:
        """No samples follow."""
        self._desk.worker.end(self._face, self._track)

    async def room(self, samples: float) -> None:
        """Waits while the client is more than so many samples ahead of the frames that it has taken."""
        while self.samples - self.frames * self._per_frame > samples:
            self._room.clear()
            await self._room.wait()

    async def blocks(self) -> AsyncIterator[Block | Done]:
        """Every block of frames, then Done."""
        while True:
            event = await self._events.get()
            if isinstance(event, Refusal):
                raise event
            yield event
            if isinstance(event, Done):
                return
            self.frames = event.first + len(event.weights)  # the block was dealt with
            self._room.set()
