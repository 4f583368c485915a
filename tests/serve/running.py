"""A service in this process on a port of its own, and what its clients say."""

from __future__ import annotations

import http.client
import io
import json
import struct
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor
from websockets.sync.client import ClientConnection, connect

from avatorch.face import read_bundle
from avatorch.face.network import Network, open_network
from avatorch.serve import Limits, Server, Service

PATIENCE = 30  # seconds that a test waits for what must come


class Gate(Network):
    """A network that waits before every run until it may."""

    def __init__(self, network: Network) -> None:
        vars(self).update(vars(network))
        self.network = network  # closes when nobody has it
        self.entered = threading.Semaphore(0)  # runs that began
        self.open = threading.Event()
        self.failing = False

    def run(self, inputs: dict[str, Tensor], outputs: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        self.entered.release()
        assert self.open.wait(PATIENCE)
        if self.failing:
            raise RuntimeError("the network is broken")
        return super().run(inputs, outputs)

    def await_run(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE)


def gate(bundle: Path) -> Gate:
    model = read_bundle(bundle)
    return Gate(open_network(model.network, model.info, torch.device("cpu")))


class Announced(Server):
    """Says when it listens."""

    def __init__(self, service: Service, origins: Sequence[str]) -> None:
        super().__init__(service, port=0, origins=origins)
        self.listens = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listens.set()


class Running:
    """A service that runs."""

    def __init__(self, server: Announced, thread: threading.Thread) -> None:
        self.server, self.service, self._thread = server, server.service, thread
        self.host, self.port = urlsplit(server.address).hostname or "", urlsplit(server.address).port or 0

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def post(self, content: bytes, kind: str, path: str = "/process-audio") -> tuple[int, dict[str, Any], Any]:
        """Status, what the JSON says, headers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        connection.request("POST", path, content, {"Content-Type": kind})
        answer = connection.getresponse()
        said = json.loads(answer.read())
        connection.close()
        return answer.status, said, answer.headers

    def upload(self, file: bytes, **fields: str) -> tuple[int, dict[str, Any], Any]:
        return self.post(*form(file, **fields))

    def socket(self, origin: str | None = None) -> ClientConnection:
        address = f"ws://{self.host}:{self.port}/stream"
        return connect(address, origin=origin, open_timeout=PATIENCE, close_timeout=PATIENCE)  # type: ignore[arg-type]

    def end(self) -> None:
        """As a signal does."""
        self.server.should_exit = True

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextmanager
def running(
    bundle: Path, limits: Limits | None = None, origins: Sequence[str] = (), **options: Any
) -> Iterator[Running]:
    server = Announced(Service(bundle, limits=limits or Limits(tracks=8), **options), origins)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.listens.wait(PATIENCE)
    service = Running(server, thread)
    try:
        yield service
    finally:
        service.end()
        service.join()


def form(file: bytes | None, **fields: str) -> tuple[bytes, str]:
    """The body of an upload, and its content type."""
    mark = uuid.uuid4().hex
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    if file is not None:
        head = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        parts.append(head + file)
    body = b"".join(f"--{mark}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{mark}--\r\n".encode()
    return body, f"multipart/form-data; boundary={mark}"


def wav(samples: Tensor, rate: int = 2000) -> bytes:
    """Samples [n] or [channels, n] as a file of 16-bit integers."""
    channels = torch.atleast_2d(samples)
    content = integers(channels.T.reshape(-1))
    head = struct.pack("<HHIIHH", 1, len(channels), rate, 2 * rate * len(channels), 2 * len(channels), 16)
    body = io.BytesIO()
    body.write(b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt " + struct.pack("<I", 16) + head)
    body.write(b"data" + struct.pack("<I", len(content)) + content)
    return body.getvalue()


def integers(samples: Tensor) -> bytes:
    """Samples [n] as 16-bit integers."""
    return (samples * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy().tobytes()


def heard(samples: Tensor) -> Tensor:
    """Samples as 16-bit integers hold them."""
    return (samples * 32768).round().clamp(-32768, 32767) / 32768


def say(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def listen(socket: ClientConnection) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(socket.recv(PATIENCE))
    return said


def frames_of(socket: ClientConnection) -> list[list[float]]:
    """Frames until a clip is done."""
    rows: list[list[float]] = []
    while (said := listen(socket))["type"] == "frames":
        assert said["first"] == len(rows)
        rows += said["weights"]
    assert said["type"] == "done" and said["frames"] == len(rows), said
    return rows
