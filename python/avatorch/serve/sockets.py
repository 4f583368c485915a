"""A WebSocket: clips of speech, one after the other, each in chunks, and frames as they become known."""

from __future__ import annotations

import asyncio

import torch
from starlette.websockets import WebSocket, WebSocketDisconnect

from avatorch.face.resample import Resampler
from avatorch.serve.clip import Clip
from avatorch.serve.protocol import (
    End,
    Fault,
    Feel,
    Refusal,
    Start,
    as_text,
    frames_as_bytes,
    frames_as_text,
    read_message,
    read_samples,
)
from avatorch.serve.service import Service
from avatorch.serve.worker import Done


class Conversation:
    """With one client, from its first message to the last."""

    def __init__(self, service: Service, websocket: WebSocket) -> None:
        self._service, self._limits, self._socket = service, service.limits, websocket
        self._info = service.bundle.info
        self._reading: asyncio.Future[str | bytes] | None = None
        self._hushed = False

    async def run(self) -> None:
        """Until the client goes, is refused, or the service ends."""
        await self._socket.accept()
        try:
            while (message := await self._receive()) is not None:
                if isinstance(message, bytes):
                    raise Refusal(Fault.BAD_MESSAGE, "samples came before a clip, expected the message start")
                start = read_message(message, self._info.emotions)
                if not isinstance(start, Start):
                    raise Refusal(Fault.BAD_MESSAGE, "a message came before a clip, expected the message start")
                await self._clip(start)
            raise Refusal(Fault.SHUTTING_DOWN, "the service ends; all samples that it took have their frames")
        except WebSocketDisconnect:
            pass
        except Refusal as refusal:
            await self._refuse(refusal)

    def hush(self) -> None:
        """The service ends: what was taken is finished, and nothing more is read."""
        self._hushed = True
        if self._reading is not None:
            self._reading.cancel()

    async def _clip(self, start: Start) -> None:
        face = self._service.face(start.identity)
        emotions = [(0.0, start.emotion)] if start.emotion else []
        with await self._service.desk.open(face, emotions, live=True) as clip:
            ready = {
                "type": "ready",
                "identity": face.executor.identity.name,
                "names": face.executor.weight_names,
                "fps": float(face.executor.frame_rate),
                "sample_rate": self._info.sample_rate,
            }
            await self._socket.send_text(as_text(ready))
            tasks = [asyncio.create_task(self._listen(clip, start)), asyncio.create_task(self._speak(clip, start))]
            try:
                for task in asyncio.as_completed(tasks):
                    await task
            finally:
                for one in tasks:
                    one.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, clip: Clip, start: Start) -> None:
        """Samples and emotions, to the end of the clip."""
        rate = self._info.sample_rate
        resampler = Resampler(start.sample_rate, rate) if start.sample_rate not in (None, rate) else None
        most, ahead = self._limits.stream_seconds * rate, self._limits.backlog_seconds * rate + 2 * self._info.window
        while (message := await self._receive()) is not None:
            if isinstance(message, bytes):
                samples = read_samples(message, start.format)
                if resampler is not None:
                    samples = await asyncio.to_thread(resampler.push, samples)
                if clip.samples + len(samples) > most:
                    raise Refusal(
                        Fault.TOO_LONG, f"the clip is longer than {self._limits.stream_seconds} seconds: begin another"
                    )
                clip.push(samples)
                await clip.room(ahead)
                continue
            said = read_message(message, self._info.emotions)
            if isinstance(said, Feel):
                clip.feel(said.emotion)
            elif isinstance(said, End):
                break
            else:
                raise Refusal(Fault.BAD_MESSAGE, "a clip was started within a clip, expected the message end before")
        clip.push(resampler.flush() if resampler is not None else torch.empty(0))
        clip.end()

    async def _speak(self, clip: Clip, start: Start) -> None:
        """Frames, to the last of the clip."""
        async for event in clip.blocks():
            if isinstance(event, Done):
                seconds = event.samples / self._info.sample_rate
                await self._socket.send_text(as_text({"type": "done", "frames": event.frames, "duration": seconds}))
            elif start.frames == "json":
                await self._socket.send_text(frames_as_text(event.first, event.weights))
            else:
                await self._socket.send_bytes(frames_as_bytes(event.first, event.weights))

    async def _receive(self) -> str | bytes | None:
        """The next message; None where the service ends."""
        if self._hushed:
            return None
        reading = self._reading = asyncio.ensure_future(self._next())
        try:
            done, _ = await asyncio.wait({reading}, timeout=self._limits.idle_seconds)
        finally:
            reading.cancel()
        if not done:
            raise Refusal(Fault.TOO_SLOW, f"nothing was said for {self._limits.idle_seconds} seconds")
        return None if reading.cancelled() else reading.result()

    async def _next(self) -> str | bytes:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        content: str | bytes | None = message.get("text")
        return content if content is not None else message["bytes"]

    async def _refuse(self, refusal: Refusal) -> None:
        self._service.count_fault(refusal)
        try:
            await self._socket.send_text(as_text({"type": "error", **refusal.content()}))
            await self._socket.close(refusal.fault.closing, refusal.fault.code)
        except (WebSocketDisconnect, RuntimeError):  # it went meanwhile
            pass
