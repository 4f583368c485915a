"""So many places, and a line of those who wait for one, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from avatorch.serve.limits import Limits
from avatorch.serve.protocol import Fault, Refusal


class Places:
    """The tracks that are free. Used from one event loop."""

    def __init__(self, limits: Limits, changed: Callable[[int, int], None] = lambda taken, waiting: None) -> None:
        """`changed` is told how many places are taken, and how many wait."""
        self.taken = 0
        self._limits, self._changed = limits, changed
        self._line: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Waits for a place. Refused where the line is full, or does not move."""
        if self.taken < self._limits.tracks:
            self.taken += 1
            self._tell()
            return
        if len(self._line) >= self._limits.waiting:
            raise Refusal(
                Fault.BUSY, f"all {self._limits.tracks} tracks are taken and {len(self._line)} clips wait: try again"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._tell()
        try:
            done, _ = await asyncio.wait({turn}, timeout=self._limits.wait_seconds)
        except asyncio.CancelledError:
            self._leave(turn)
            raise
        if not done:
            self._leave(turn)
            raise Refusal(Fault.BUSY, f"no track became free within {self._limits.wait_seconds} seconds: try again")

    def give(self) -> None:
        """A place is free: the first of the line has it."""
        if self._line:
            self._line.popleft().set_result(None)
        else:
            self.taken -= 1
        self._tell()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    def _leave(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self.give()  # the place came while its owner went
        else:
            self._line.remove(turn)
            self._tell()

    def _tell(self) -> None:
        self._changed(self.taken, len(self._line))
