"""Connections that give up on peers who begin a request and do not end its headers, or do not read what they are sent.

uvicorn waits for both without end.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from avatorch.serve.limits import Limits


class _Watched:
    """Both kinds: writes that nobody reads end the connection."""

    limits: Limits
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        # However little waits to be read: a closed connection, too, stays until all of it is sent.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)  # type: ignore[misc]

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        end = self.transport.abort  # type: ignore[attr-defined]
        self._stalled = self.loop.call_later(self.limits.stall_seconds, end)  # type: ignore[attr-defined]

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)  # type: ignore[misc]

    def _unwatch(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class _Http(_Watched, H11Protocol):
    """HTTP/1.1; also, headers that do not end, end the connection."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_expecting()
        elif self._late is None:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_expecting()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        self._late = self.loop.call_later(self.limits.header_seconds, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class _Socket(_Watched, WebSocketsSansIOProtocol):
    """WebSockets; also, pings and pieces of messages that cost their sender nothing cost no memory."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # refused: uvicorn would log each as an error of the application

    def handle_ping(self) -> None:
        if self._stalled is None:
            super().handle_ping()
        else:
            self.conn.data_to_send()  # the answer: its peer does not read

    def handle_cont(self, event: Frame) -> None:
        if event.data or event.fin:
            super().handle_cont(event)


def protocols(limits: Limits) -> dict[str, Any]:
    """The arguments `http` and `ws` of uvicorn's Config."""
    return {
        "http": type("Http", (_Http,), {"limits": limits}),
        "ws": type("Socket", (_Socket,), {"limits": limits}),
    }
