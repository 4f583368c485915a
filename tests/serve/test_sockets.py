"""Frames for chunks: the numbers of a whole clip, whatever the chunks; every error; and an end that loses nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from avatorch.face import Audio2Face
from avatorch.serve import Limits
from avatorch.serve.protocol import DECIMALS
from serve.running import PATIENCE, Running, frames_of, gate, heard, integers, listen, running, say

HALF_DIGIT = 0.51 * 10**-DECIMALS


def speech(samples: int) -> torch.Tensor:
    return heard(torch.randn(samples) * 0.1)


def close_code(socket: ClientConnection) -> int | None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            socket.recv(PATIENCE)
    return socket.close_code


@pytest.mark.parametrize("model", ["diffusion", "regression"])
@pytest.mark.parametrize("chunk", [7, 200, 5000])
def test_chunks_do_not_matter(request: pytest.FixtureRequest, model: str, chunk: int) -> None:
    bundle: Path = request.getfixturevalue(model)
    clip = speech(3001)
    wanted = Audio2Face(bundle)(clip, emotion={"anger": 0.5})
    with running(bundle, Limits(tracks=2)) as service, service.socket() as socket:
        say(socket, type="start", emotion={"anger": 0.5})
        ready = listen(socket)
        assert ready == {
            "type": "ready", "identity": wanted_identity(bundle), "names": list(wanted.names), "fps": wanted.fps,
            "sample_rate": 2000,
        }  # fmt: skip
        for part in clip.split(chunk):
            socket.send(integers(part))
        say(socket, type="end")
        found = torch.tensor(frames_of(socket))
    assert found.shape == wanted.weights.shape and (found - wanted.weights).abs().max() < HALF_DIGIT


def wanted_identity(bundle: Path) -> str:
    return Audio2Face(bundle).identity


def test_floats_and_binary_frames_are_exact(service: Running, diffusion: Path) -> None:
    clip = torch.randn(1500) * 0.1
    wanted = Audio2Face(diffusion, "Bo")(clip).weights
    rows = []
    with service.socket() as socket:
        say(socket, type="start", format="float32", frames="binary", identity="Bo")
        assert listen(socket)["identity"] == "Bo"
        socket.send(clip.numpy().tobytes())
        say(socket, type="end")
        while isinstance(message := socket.recv(PATIENCE), bytes):
            first, count = struct.unpack_from("<II", message)
            assert first == sum(map(len, rows))
            rows.append(np.frombuffer(message, "<f4", offset=8).reshape(count, -1))
    assert json.loads(message) == {"type": "done", "frames": len(wanted), "duration": 0.75}
    assert torch.equal(torch.from_numpy(np.concatenate(rows)), wanted)


def test_other_rates_and_one_clip_after_the_other(service: Running, diffusion: Path) -> None:
    face = Audio2Face(diffusion)
    with service.socket() as socket:
        for rate, identity in ((8000, "Ada"), (2000, "Bo"), (11025, 0), (2000, 0)):
            clip = speech(rate)
            say(socket, type="start", sample_rate=rate, identity=identity)
            listen(socket)
            for part in clip.split(rate // 9):
                socket.send(integers(part))
            say(socket, type="end")
            found = torch.tensor(frames_of(socket))
            face = Audio2Face(diffusion, identity)
            assert (found - face(clip, rate).weights).abs().max() < HALF_DIGIT
        say(socket, type="start")
        listen(socket)
        say(socket, type="end")
        assert listen(socket) == {"type": "done", "frames": 0, "duration": 0.0}


def test_emotions_change_from_the_next_tenth_of_a_second(service: Running, diffusion: Path) -> None:
    clip, before, after = speech(4000), {"anger": 0.2}, {"disgust": 0.9}
    moments = [(0.0, before), (0.8, before), (1601 / 2000, after)]  # 1500 samples: the tenth ends at 1600
    wanted = Audio2Face(diffusion)(clip, emotion=moments).weights
    with service.socket() as socket:
        say(socket, type="start", emotion=before)
        listen(socket)
        socket.send(integers(clip[:1500]))
        say(socket, type="emotion", emotion={"anger": 1.0})  # takes no effect: another follows at once
        say(socket, type="emotion", emotion=after)
        for part in clip[1500:].split(130):
            socket.send(integers(part))
        say(socket, type="end")
        found = torch.tensor(frames_of(socket))
    assert (found - wanted).abs().max() < HALF_DIGIT


SAID: list[tuple[list[Any], str, int, str]] = [
    (["hello"], "bad_message", 1008, "the message is no JSON"),
    (["[" * 60000], "bad_message", 1008, "the message is no JSON: it is nested too deeply"),
    (['{"type": "start", "sample_rate": NaN}'], "bad_message", 1008, "the message is no JSON: NaN is no number"),
    (["7" * 5000], "bad_message", 1008, "the message is no JSON"),
    (["[]"], "bad_message", 1008, "the message is [], expected an object with a type"),
    (["{}"], "bad_message", 1008, "the message's type is None, expected start, emotion or end"),
    ([{"type": "stop"}], "bad_message", 1008, "the message's type is 'stop'"),
    ([{"type": ["start"]}], "bad_message", 1008, "the message's type is ['start']"),
    ([{"type": "end"}], "bad_message", 1008, "a message came before a clip"),
    ([b"\0\0"], "bad_message", 1008, "samples came before a clip"),
    ([{"type": "start", "rate": 1}], "bad_message", 1008, "the message start has 'rate', expected sample_rate, format"),
    ([{"type": "start", "sample_rate": 16001}], "bad_option", 1008, "sample_rate is 16001, expected 1000 to 192000"),
    ([{"type": "start", "sample_rate": True}], "bad_option", 1008, "sample_rate is True"),
    ([{"type": "start", "format": "mp3"}], "bad_option", 1008, "format is 'mp3', expected int16 or float32"),
    ([{"type": "start", "format": []}], "bad_option", 1008, "format is [], expected int16 or float32"),
    ([{"type": "start", "frames": 1}], "bad_option", 1008, "frames is 1, expected json or binary"),
    ([{"type": "start", "identity": "Eve"}], "bad_option", 1008, "identity is 'Eve', expected one of Ada, Bo"),
    ([{"type": "start", "identity": -1}], "bad_option", 1008, "identity is '-1'"),
    ([{"type": "start", "identity": None}], "bad_option", 1008, "identity is None, expected a name or a number"),
    ([{"type": "start", "emotion": {"hunger": 1}}], "bad_option", 1008, "there is no emotion 'hunger'"),
    ([{"type": "start"}, {"type": "start"}], "bad_message", 1008, "a clip was started within a clip"),
    ([{"type": "start"}, {"type": "emotion"}], "bad_message", 1008, "the message emotion has no emotion"),
    ([{"type": "start"}, {"type": "end", "x": 1}], "bad_message", 1008, "the message end has 'x', expected nothing"),
    ([{"type": "start"}, b"\0\0\0"], "bad_audio", 1008, "the message has 3 bytes, expected samples of 2 bytes"),
    ([{"type": "start"}, b""], "bad_audio", 1008, "the message has 0 bytes"),
    ([{"type": "start", "format": "float32"}, b"\0\0\xc0\x7f"], "bad_audio", 1008, "a sample is nan, expected -1 to 1"),
    ([{"type": "start", "format": "float32"}, b"\0\0\0\x7f"], "bad_audio", 1008, "a sample is 1.7"),
    ([{"type": "start"}, *[bytes(90_000)]], "too_long", 1008, "the clip is longer than 20 seconds"),
    ([" " * 70_000 + "{}"], "too_large", 1009, "the message has 70002 characters, expected at most 65536"),
    ([], "too_slow", 1008, "nothing was said for 1 seconds"),
    ([{"type": "start"}, b"\0\0"], "too_slow", 1008, "nothing was said for 1 seconds"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "code", "closing", "sentence"), SAID, ids=range(len(SAID)))
def test_every_error(service: Running, messages: list[Any], code: str, closing: int, sentence: str) -> None:
    with service.socket() as socket:
        for message in messages:
            socket.send(json.dumps(message) if isinstance(message, dict) else message)
        while (said := listen(socket))["type"] != "error":
            assert said["type"] in ("ready", "frames")
        assert said["code"] == code and said["message"].startswith(sentence), said
        assert close_code(socket) == closing and socket.close_reason == code
    assert json.loads(service.get("/health")[1])["tracks_taken"] == 0


def test_what_is_no_message_ends_the_connection(service: Running) -> None:
    with service.socket() as socket:
        socket.send(bytes(100_001))
        assert close_code(socket) == 1009
    with service.socket() as socket:
        socket.send(b"\xff\xfe{", text=True)
        assert close_code(socket) == 1007
    with service.socket() as socket:
        socket.socket.sendall(b"\xff" * 64)  # reserved bits, an unknown kind
        assert close_code(socket) == 1002
    assert service.get("/health")[0] == 200


def test_a_client_that_vanishes_frees_its_track(diffusion: Path) -> None:
    with running(diffusion, Limits(tracks=1, wait_seconds=PATIENCE)) as service:
        for way in ("before", "within", "behind"):
            with service.socket() as socket:
                say(socket, type="start")
                listen(socket)
                if way != "before":
                    socket.send(integers(speech(3000)))
                if way == "behind":
                    say(socket, type="end")
                socket.socket.close()  # without a word
        with service.socket() as socket:
            say(socket, type="start")
            assert listen(socket)["type"] == "ready"


def test_a_client_far_ahead_is_not_read(diffusion: Path) -> None:
    network = gate(diffusion)
    limits = Limits(tracks=2, backlog_seconds=1, stream_seconds=1000)
    with running(diffusion, limits, network=network) as service, service.socket() as socket:
        say(socket, type="start")
        listen(socket)
        for _ in range(10):
            socket.send(integers(speech(2000)))
        network.await_run()
        assert service.get("/health")[0] == 200  # the loop came round
        # 1 second, 2 windows of 0.6, and the message that went beyond.
        taken = float(service.service.metrics.audio_seconds._value.get())
        network.open.set()
        say(socket, type="end")
        assert taken <= 4 and len(frames_of(socket)) == 200


def test_the_end_finishes_what_was_taken(diffusion: Path) -> None:
    network = gate(diffusion)
    clip = speech(1800)
    wanted = Audio2Face(diffusion)(clip).weights
    with running(diffusion, network=network) as service, service.socket() as socket, service.socket() as silent:
        say(socket, type="start")
        listen(socket)
        socket.send(integers(clip))
        network.await_run()  # taken
        service.end()
        assert listen(silent)["code"] == "shutting_down" and close_code(silent) == 1012
        network.open.set()
        found = torch.tensor(frames_of(socket))
        assert (found - wanted).abs().max() < HALF_DIGIT
        assert listen(socket)["code"] == "shutting_down" and close_code(socket) == 1012
        service.join()


def test_sockets_have_a_limit(diffusion: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(diffusion, Limits(tracks=1, connections=2)) as service, service.socket(), service.socket():
        with pytest.raises(InvalidStatus) as refused, service.socket():
            pass
        assert refused.value.response.status_code == 503 and b"2 sockets are open" in refused.value.response.body
    assert not capsys.readouterr().err  # strangers do not fill the log


def test_pages_of_other_servers_are_refused_unless_they_are_allowed(diffusion: Path) -> None:
    friend, stranger = "https://friend.example", "https://stranger.example"
    with running(diffusion, Limits(tracks=1), [friend]) as service:
        for origin in (None, friend, service.server.address):
            with service.socket(origin) as socket:
                say(socket, type="start")
                assert listen(socket)["type"] == "ready"
        with pytest.raises(InvalidStatus) as refused, service.socket(stranger):
            pass
        assert refused.value.response.status_code == 403
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(f"{service.server.address}/process-audio", b"", {"Origin": stranger}))
        for origin, allowed in ((friend, friend), (stranger, None)):
            with urlopen(Request(f"{service.server.address}/health", headers={"Origin": origin})) as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == allowed


def test_a_worker_that_breaks_is_told(diffusion: Path, caplog: pytest.LogCaptureFixture) -> None:
    def breaks() -> None:
        raise RuntimeError("broken")

    with running(diffusion) as service, service.socket() as socket, service.socket() as late:
        say(socket, type="start")
        listen(socket)
        service.service.worker._turn = breaks  # type: ignore[method-assign]
        socket.send(integers(speech(2000)))
        assert listen(socket) == {"type": "error", "code": "failed", "message": "the service failed"}
        assert close_code(socket) == 1011
        service.service.worker._thread.join(PATIENCE)  # type: ignore[union-attr]
        say(late, type="start")
        assert listen(late)["code"] == "failed"
        status, said = service.get("/health")
        assert status == 503 and json.loads(said)["status"] == "failed"
    assert "the service cannot go on" in caplog.text


def test_who_comes_while_a_worker_breaks_is_told(diffusion: Path, caplog: pytest.LogCaptureFixture) -> None:
    began, may_break = threading.Event(), threading.Event()

    def breaks() -> None:
        began.set()
        assert may_break.wait(PATIENCE)
        raise RuntimeError("broken")

    with running(diffusion) as service, service.socket() as socket, service.socket() as late:
        service.service.worker._turn = breaks  # type: ignore[method-assign]
        say(socket, type="start")
        assert began.wait(PATIENCE)
        say(late, type="start")
        assert listen(late)["type"] == "ready"
        may_break.set()
        assert listen(late) == {"type": "error", "code": "failed", "message": "the service failed"}


def test_latency_is_told(service: Running) -> None:
    with service.socket() as socket:
        say(socket, type="start")
        listen(socket)
        socket.send(integers(speech(2000)))
        assert listen(socket)["type"] == "frames"
    numbers = service.get("/metrics")[1]
    count = next(line for line in numbers.splitlines() if line.startswith("avatorch_frame_latency_seconds_count"))
    assert float(count.split()[1]) >= 1


def test_pings_of_who_does_not_read_take_no_memory(service: Running) -> None:
    ping = b"\x89\xfd" + bytes(4) + bytes(125)
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((service.host, service.port))
        raw.sendall(
            b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert raw.recv(12) == b"HTTP/1.1 101"
        own = raw.getsockname()
        connection = next(one for one in service.server.server_state.connections if one.client == own)
        most = 0
        with contextlib.suppress(OSError):  # it is cut at last
            for _ in range(150):  # 20 megabytes, whose answers nobody takes
                raw.sendall(1000 * ping)
                most = max(most, connection.transport.get_write_buffer_size())
    assert most < 1 << 20
    assert service.get("/health")[0] == 200


def test_pieces_of_nothing_take_no_memory(service: Running) -> None:
    with service.socket() as client:
        own = client.socket.getsockname()
        connection = next(one for one in service.server.server_state.connections if one.client == own)
        client.socket.sendall(b"\x01\x80" + bytes(4) + 5000 * (b"\0\x80" + bytes(4)))
        client.ping().wait(PATIENCE)  # all before it was read
        assert len(connection.frames) < 10
        client.socket.sendall(b"\x80\x82" + bytes(4) + b"{}")
        assert listen(client)["message"].startswith("the message's type is None")
