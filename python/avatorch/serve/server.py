"""A service on a port, until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from types import FrameType

import uvicorn

from avatorch.serve.app import create_app
from avatorch.serve.connections import protocols
from avatorch.serve.service import Service

BACKLOG = 2048  # connections that the system holds before they are accepted
LAST_SECONDS = 1  # before requests are broken off, where there was no time or a second signal
LOOK_SECONDS = 0.1  # how often a signal that came meanwhile is looked for
PING_SECONDS = 20.0  # to keep sockets open on their way; whether somebody is there is seen by what they say
log = logging.getLogger("avatorch.serve")


class Server(uvicorn.Server):
    """uvicorn, which ends once all that was accepted is finished: it closes sockets at once otherwise."""

    def __init__(
        self, service: Service, host: str = "127.0.0.1", port: int = 8000, origins: Sequence[str] = ()
    ) -> None:
        """`origins` are pages of other servers that may ask it, such as `https://example.org`, or `*` for all."""
        if not 0 <= port <= 65535:
            raise ValueError(f"port is {port}, expected 0 to 65535")
        self.service = service
        limits = service.limits
        super().__init__(
            uvicorn.Config(
                create_app(service, origins),
                host,
                port,
                backlog=BACKLOG,
                limit_concurrency=limits.connections + 1,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws_max_size=limits.message_bytes,
                ws_per_message_deflate=False,
                ws_ping_interval=PING_SECONDS,
                ws_ping_timeout=None,
                timeout_graceful_shutdown=limits.grace_seconds,
                lifespan="on",
                **protocols(limits),
            )
        )

    @property
    def address(self) -> str:
        """Where it listens, once it is started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says where it listens."""
        await super().startup(sockets)
        if self.started:
            print(f"listening on {self.address}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finishes what was accepted."""
        for server in self.servers:
            server.close()
        finishing = asyncio.create_task(self.service.finish())
        while not finishing.done() and not self.force_exit:
            await asyncio.wait({finishing}, timeout=LOOK_SECONDS)
        if not finishing.done() or not finishing.result():
            log.warning("the service ended before all was finished")
            finishing.cancel()
            self.config.timeout_graceful_shutdown = LAST_SECONDS
        self.force_exit = False  # which would leave the application unended
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal ends it cleanly; the second breaks off what is not finished. Both with status 0."""
        self.force_exit = self.should_exit
        self.should_exit = True
