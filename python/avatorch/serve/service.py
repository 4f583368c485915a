"""What a server serves: a model's face, its tracks, and who is connected."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Protocol

import torch

from avatorch.face.bundle import Bundle, read_bundle
from avatorch.face.errors import FaceError
from avatorch.serve.clip import Desk
from avatorch.serve.limits import Limits
from avatorch.serve.metrics import Metrics
from avatorch.serve.places import Places
from avatorch.serve.protocol import Fault, Refusal, shown
from avatorch.serve.worker import Face, Worker

LONGEST_NAME = 100  # of an identity


class Connected(Protocol):
    """Whoever must be told that the service ends."""

    def hush(self) -> None:
        """Nothing more is read."""


class Service:
    """One model, on one device."""

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        device: torch.device | str = "cpu",
        limits: Limits | None = None,
        **options: Any,
    ) -> None:
        """`options` are those of Worker. The network is opened here."""
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self.limits, self.metrics = limits or Limits(), Metrics()
        self.worker = Worker(self.bundle, self.limits.tracks, device, metrics=self.metrics, **options)
        self.desk = Desk(self.worker, Places(self.limits, self._count_places))
        self.is_ending = False
        self.uploads = 0
        self._connected: set[Connected] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.metrics.tracks.set(self.limits.tracks)

    def face(self, identity: str) -> Face:
        """Of a name or a number."""
        if len(identity) > LONGEST_NAME:
            raise Refusal(Fault.BAD_OPTION, f"identity is {shown(identity)}, expected a name or a number")
        try:
            wanted = self.bundle.identity(int(identity) if identity.isdecimal() else identity)
        except FaceError as error:
            raise Refusal(Fault.BAD_OPTION, str(error)) from None
        return next(face for face in self.worker.faces if face.executor.identity is wanted)

    @property
    def takes_clips(self) -> bool:
        """Whether it is well."""
        return self.worker.is_alive and not self.is_ending

    def count_fault(self, refusal: Refusal) -> None:
        """For the metrics."""
        self.metrics.faults.labels(refusal.fault.code).inc()

    def enter_upload(self) -> None:
        """An upload is accepted: it will be answered, even where the service ends meanwhile."""
        self._refuse_at_end()
        most = self.limits.tracks + self.limits.waiting
        if self.uploads >= most:
            raise Refusal(Fault.BUSY, f"{most} uploads are being answered: try again")
        self.uploads += 1
        self._idle.clear()

    def leave_upload(self) -> None:
        """It was answered."""
        self.uploads -= 1
        self._look_for_rest()

    def enter(self, client: Connected) -> None:
        """A socket is accepted."""
        self._refuse_at_end()
        if len(self._connected) >= self.limits.connections:
            raise Refusal(Fault.BUSY, f"{self.limits.connections} sockets are open: try again")
        self._connected.add(client)
        self.metrics.sockets.set(len(self._connected))
        self._idle.clear()

    def leave(self, client: Connected) -> None:
        """It is closed."""
        self._connected.discard(client)
        self.metrics.sockets.set(len(self._connected))
        self._look_for_rest()

    async def finish(self) -> bool:
        """Takes nothing more, and finishes what was taken. Whether that worked in the time there is."""
        self.is_ending = True
        for client in list(self._connected):
            client.hush()
        try:
            await asyncio.wait_for(self._idle.wait(), self.limits.grace_seconds)
        except asyncio.TimeoutError:
            return False
        return True

    def _refuse_at_end(self) -> None:
        if self.is_ending:
            raise Refusal(Fault.SHUTTING_DOWN, "the service ends and takes nothing more")

    def _look_for_rest(self) -> None:
        if not self.uploads and not self._connected:
            self._idle.set()

    def _count_places(self, taken: int, waiting: int) -> None:
        self.metrics.tracks_taken.set(taken)
        self.metrics.waiting.set(waiting)
