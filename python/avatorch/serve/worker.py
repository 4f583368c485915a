"""One thread that owns the face: what all clients sent since its last turn goes through the network together.

    clients --commands--> inbox --worker--> Executor of an identity, a track a clip --blocks of frames--> clients

Nobody waits for others to come: while one inference runs, the samples for the next gather.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from avatorch.face.accumulators import EmotionAccumulator
from avatorch.face.bundle import Bundle
from avatorch.face.executor import Executor, Frames, Part
from avatorch.serve.metrics import Metrics
from avatorch.serve.protocol import Emotions, Fault, Refusal

WINDOWS_AT_ONCE = 8  # of a track of a regression network: a tenth of a second at 60 frames a second, and a little
log = logging.getLogger("avatorch.serve")


@dataclass(frozen=True)
class Block:
    """F frames that follow one another."""

    first: int  # the number of the first
    weights: Tensor  # [F, poses], on the CPU


@dataclass(frozen=True)
class Done:
    """No frames follow."""

    frames: int
    samples: int  # at the network's rate


Event = Block | Done | Refusal


@dataclass(eq=False)
class Line:
    """What the worker knows of a clip."""

    hand_out: Callable[[Event], None]  # called in the event loop
    live: bool  # samples come as they are spoken
    emotion: Tensor  # [emotions], that of the samples to come
    changed: bool = False  # since the last samples
    pushes: deque[tuple[int, float]] = field(default_factory=deque)  # samples until then, and when they came
    frames: int = 0


@dataclass(eq=False)
class Face:
    """An identity, and who is on its tracks."""

    executor: Executor
    lines: dict[int, Line] = field(default_factory=dict)


Command = tuple[Face, int, Callable[..., None], tuple[Any, ...]]  # what is done with a track


class Worker:
    """Commands come from one event loop, are carried out in order, and never wait."""

    def __init__(
        self,
        bundle: Bundle,
        tracks: int,
        device: torch.device | str = "cpu",
        *,
        metrics: Metrics | None = None,
        settings: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        """`settings` are those of the animators, `options` those of Executor."""
        self.bundle = bundle
        self.metrics = metrics or Metrics()
        given: dict[str, Any] = {"weights": Part.SKIN_TONGUE, "windows_per_execution": WINDOWS_AT_ONCE, **options}
        self.faces: list[Face] = []
        for identity in bundle.identities:
            executor = Executor(bundle, identity.name, tracks, device, **given)
            given["network"] = executor.network  # the one for all
            for track in range(tracks):
                executor.set_parameters(track, **(settings or {}))
            self.faces.append(Face(executor))
        self._inbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._events: list[tuple[Line, Event]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_broken = False

    def start(self) -> None:
        """From the event loop that clients are in."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="avatorch-face", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits for the inference that runs; what clips still had to come is dropped."""
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join()
            self._thread = None

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive() and not self._is_broken

    # Commands. A clip is on one track from `begin` to `leave`.

    def begin(self, face: Face, track: int, line: Line, emotions: Emotions) -> None:
        """A clip begins. One that is not `live` has its emotions at once, and keeps the last."""
        self._inbox.put((face, track, self._begin, (line, emotions)))

    def push(self, face: Face, track: int, samples: Tensor) -> None:
        """Samples [n] at the network's rate, at least one."""
        self._inbox.put((face, track, self._push, (samples, time.perf_counter())))

    def feel(self, face: Face, track: int, emotion: Tensor) -> None:
        """The emotion [emotions] of the samples that follow the tenth of a second that is begun."""
        self._inbox.put((face, track, self._feel, (emotion,)))

    def end(self, face: Face, track: int) -> None:
        """No samples follow."""
        self._inbox.put((face, track, self._end, ()))

    def leave(self, face: Face, track: int) -> None:
        """The clip is gone, finished or not: the track may be begun again at once."""
        self._inbox.put((face, track, self._leave, ()))

    def emotion(self, strengths: Mapping[str, float]) -> Tensor:
        """[emotions]"""
        names = self.bundle.info.emotions
        vector = torch.zeros(len(names))
        for name, strength in strengths.items():
            vector[names.index(name)] = strength
        return vector

    # The thread.

    def _run(self) -> None:
        has_run = False
        try:
            while self._obey(wait=not has_run):
                has_run = self._turn()
        except Exception:
            log.exception("the service cannot go on")
            self._is_broken = True
            assert self._loop is not None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._give_up)

    def _give_up(self) -> None:
        """In the event loop, where clips begin: none can come in between."""
        with contextlib.suppress(queue.Empty):
            while command := self._inbox.get_nowait():
                face, track, action, arguments = command
                if action == self._begin:
                    face.lines[track] = arguments[0]
        for face in self.faces:
            for track in list(face.lines):
                self._tell(face.lines.pop(track), Refusal(Fault.FAILED, "the service failed"))
        self._hand_out()

    def _turn(self) -> bool:
        """An inference of every identity that has a track ready, and what clients get from it. Whether there was one.

        All ready tracks are in `lines`.
        """
        has_run = False
        for face in self.faces:
            if face.lines and (together := face.executor.ready_tracks()):
                self._execute(face, together)
                has_run = True
            for track in [track for track in face.lines if self._is_finished(face, track)]:
                line = face.lines.pop(track)
                self._tell(line, Done(line.frames, face.executor.audio[track].count))
        self._hand_out()
        return has_run

    def _obey(self, wait: bool) -> bool:
        """Carries out what is asked. False: the end."""
        try:
            command = self._inbox.get(block=wait)
            while command is not None:
                self._carry_out(*command)
                command = self._inbox.get_nowait()
        except queue.Empty:
            return True
        return False

    def _carry_out(self, face: Face, track: int, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            action(face, track, *arguments)
        except Exception as error:  # one clip's, which must not end the others
            log.exception("a clip failed")
            if track in face.lines:
                self._fail(face, track, f"the clip could not be taken: {_first_line(error)}")

    def _begin(self, face: Face, track: int, line: Line, emotions: Emotions) -> None:
        executor = face.executor
        executor.reset(track)
        executor.audio[track].reset()
        executor.emotions[track].reset()
        face.lines[track] = line
        rate = self.bundle.info.sample_rate
        for seconds, strengths in emotions:
            executor.emotions[track].accumulate(round(seconds * rate), self.emotion(strengths))
        if line.live:
            executor.emotions[track].accumulate(0, line.emotion)
        else:
            if not emotions:
                executor.emotions[track].accumulate(0, line.emotion)
            executor.emotions[track].close()

    def _push(self, face: Face, track: int, samples: Tensor, came: float) -> None:
        line = face.lines.get(track)
        if line is None:  # it failed
            return
        audio, emotions = face.executor.audio[track], face.executor.emotions[track]
        audio.accumulate(samples)
        if line.live:
            self._hold(line, emotions, audio.count)
            self._note(line, audio.count, came)
        self.metrics.audio_seconds.inc(len(samples) / self.bundle.info.sample_rate)

    def _hold(self, line: Line, emotions: EmotionAccumulator, count: int) -> None:
        """The emotion of the samples there are, up to the end of their tenth of a second; another follows there."""
        tenth = max(1, self.bundle.info.sample_rate // 10)
        end, known = (count // tenth + 1) * tenth, emotions.last_timestamp or 0
        if end > known:
            if line.changed and known + 1 < end:
                emotions.accumulate(known + 1, line.emotion)
            line.changed = False
            emotions.accumulate(end, line.emotion)

    def _note(self, line: Line, count: int, came: float) -> None:
        """When samples came, those of a hundredth of a second together."""
        if line.pushes and count - line.pushes[-1][0] < self.bundle.info.sample_rate // 100:
            line.pushes.pop()
        line.pushes.append((count, came))

    def _feel(self, face: Face, track: int, emotion: Tensor) -> None:
        line = face.lines.get(track)
        if line is not None:
            line.emotion, line.changed = emotion, True

    def _end(self, face: Face, track: int) -> None:
        line = face.lines.get(track)
        if line is not None:
            face.executor.audio[track].close()
            if line.live:
                face.executor.emotions[track].close()

    def _leave(self, face: Face, track: int) -> None:
        face.lines.pop(track, None)
        for known in (face.executor.audio[track], face.executor.emotions[track]):
            known.reset()
        face.executor.reset(track)

    def _is_finished(self, face: Face, track: int) -> bool:
        return face.executor.audio[track].is_closed and not face.executor.available_executions(track)

    def _execute(self, face: Face, together: int) -> None:
        executor, began = face.executor, time.perf_counter()
        moved = [track for track in face.lines if executor.available_executions(track)]
        try:
            results = executor.execute()
            weights = _on_cpu(results)
        except Exception as error:
            log.exception("an inference of %d tracks failed", together)
            for track in moved:
                self._fail(face, track, f"the face could not be computed: {_first_line(error)}")
            return
        self.metrics.tracks_per_inference.observe(together)
        self.metrics.inference_seconds.observe(time.perf_counter() - began)
        for frames, values in zip(results, weights, strict=True):
            line = face.lines[frames.track]
            if values.isfinite().all():
                self._give(face, line, frames, values)
            else:
                self._fail(face, frames.track, "the network gave values that are no numbers for this sound")
        for track in face.lines:
            executor.audio[track].drop_before(executor.next_audio_sample(track))
            executor.emotions[track].drop_before(executor.next_emotion_timestamp(track))

    def _give(self, face: Face, line: Line, frames: Frames, weights: Tensor) -> None:
        line.frames += len(frames)
        self.metrics.frames.inc(len(frames))
        self._tell(line, Block(frames.first, weights))
        needed = face.executor.clock.inferences.end(face.executor.inferences_made[frames.track] - 1)
        while line.pushes and line.pushes[0][0] < needed and len(line.pushes) > 1:
            line.pushes.popleft()
        if line.pushes:  # the samples that the last of these frames waited for
            self.metrics.frame_latency.observe(time.perf_counter() - line.pushes[0][1])

    def _fail(self, face: Face, track: int, sentence: str) -> None:
        self._tell(face.lines[track], Refusal(Fault.FAILED, sentence))
        self._leave(face, track)

    def _tell(self, line: Line, event: Event) -> None:
        self._events.append((line, event))

    def _hand_out(self) -> None:
        if not self._events:
            return
        events, self._events = self._events, []
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_hand_out, events)
        except RuntimeError:  # the loop is closed: nobody listens any more
            log.warning("%d results came when nobody was left", len(events))


def _hand_out(events: list[tuple[Line, Event]]) -> None:
    for line, event in events:
        line.hand_out(event)


def _on_cpu(results: list[Frames]) -> list[Tensor]:
    """The weights of each, brought over in one piece."""
    if not results:
        return []
    parts = [frames.weights for frames in results if frames.weights is not None]
    return list(torch.cat(parts).cpu().split([len(part) for part in parts]))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
