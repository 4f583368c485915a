"""A face for an upload: right numbers, a sentence for what is wrong, and a service that lives on."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from avatorch.face import Audio2Face, Audio2FaceSDK
from avatorch.serve import Limits
from avatorch.serve.protocol import DECIMALS, Fault
from serve.running import PATIENCE, Running, form, gate, heard, running, wav

HALF_DIGIT = 0.51 * 10**-DECIMALS


def speech(seconds: float, rate: int = 2000) -> torch.Tensor:
    return (torch.randn(round(seconds * rate)) * 0.1).clamp(-1, 1)


def check_service(service: Running) -> None:
    """It lives."""
    status, said, _ = service.upload(wav(torch.zeros(200)))
    assert status == 200 and len(said["blendshapes"]) == 2
    assert service.service.worker.is_alive


@pytest.mark.parametrize("rate", [2000, 11025, 48000])
def test_the_numbers_are_those_of_the_library(service: Running, diffusion: Path, rate: int) -> None:
    clip, moments = speech(1.0, rate), [(0.0, {"anger": 0.2}), (0.4, {"disgust": 0.9, "anger": 0.1})]
    wanted = Audio2Face(diffusion, "Bo")(heard(clip), rate, moments)
    status, said, _ = service.upload(wav(clip, rate), identity="bo", emotion=json.dumps(moments))
    assert status == 200 and said["identity"] == "Bo" and said["duration"] == 1.0
    assert said["names"] == list(wanted.names) and said["fps"] == wanted.fps
    found = torch.tensor(said["blendshapes"])
    assert found.shape == wanted.weights.shape and (found - wanted.weights).abs().max() < HALF_DIGIT


def test_emotions_may_be_a_thousandth_of_a_second_apart(service: Running) -> None:
    moments = json.dumps([[number / 1000, {"anger": 0.5}] for number in range(1000)])
    status, said, _ = service.upload(wav(torch.zeros(200)), emotion=moments)
    assert status == 200, said


def test_it_says_what_the_wrapper_says(service: Running, diffusion: Path) -> None:
    clip = heard(speech(0.7))
    wanted = Audio2FaceSDK(diffusion, 1, device="cpu").process_audio(clip)
    said = service.upload(wav(clip), identity="1")[1]
    assert set(wanted) <= set(said) and said["duration"] == wanted["duration"]
    skin = torch.tensor(said["blendshapes"])[:, : len(wanted["names"])]
    assert (skin - wanted["blendshapes"]).abs().max() < HALF_DIGIT


def test_channels_are_averaged_and_short_clips_have_frames(service: Running) -> None:
    left, right = heard(speech(0.3)), heard(speech(0.3))
    both = service.upload(wav(torch.stack([left, right])))[1]["blendshapes"]
    mean = service.upload(wav((left + right) / 2))[1]["blendshapes"]
    assert (torch.tensor(both) - torch.tensor(mean)).abs().max() < 1e-3  # the mean was rounded to 16 bits
    assert len(service.upload(wav(torch.zeros(1)))[1]["blendshapes"]) == 1


def part(head: str, content: bytes = b"") -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n"


WRONG: list[tuple[dict[str, Any], int, str, str]] = [
    ({"file": b""}, 400, "bad_audio", "the file: not a WAV file"),
    ({"file": b"RIFF"}, 400, "bad_audio", "the file: not a WAV file"),
    ({"file": bytes(5000)}, 400, "bad_audio", "the file: not a WAV file"),
    ({"file": wav(torch.zeros(100))[:100]}, 400, "bad_audio", "the file: "),
    ({"file": wav(torch.zeros(0))}, 400, "bad_audio", "the file holds no samples"),
    ({"file": wav(torch.zeros(100), 2001)}, 400, "bad_audio", "the file's sample rate is 2001, expected 1000 to"),
    ({"file": wav(torch.zeros(100), 500)}, 400, "bad_audio", "the file: the rate resampled from is 500 Hz"),
    ({"file": wav(torch.zeros(130_000))}, 413, "too_long", "the file holds 65.0 seconds of sound, expected at most 60"),
    ({"file": bytes(310_000)}, 413, "too_large", "the upload is too large, expected at most 300000 bytes"),
    ({"file": bytes(590_000)}, 413, "too_large", "the upload is too large, expected at most 300000 bytes"),
    ({"file": None}, 400, "bad_upload", "the form has no file"),
    ({"file": None, "identity": "Ada"}, 400, "bad_upload", "the form has no file"),
    ({"identity": "Eve"}, 422, "bad_option", "identity is 'Eve', expected one of Ada, Bo"),
    ({"identity": "7"}, 422, "bad_option", "identity is 7, expected 0 to 1"),
    ({"identity": "9" * 5000}, 422, "bad_option", "identity is '999"),
    ({"identity": "9" * 70000}, 400, "bad_upload", "the form cannot be read: Part exceeded maximum size"),
    ({"emotion": "joy"}, 422, "bad_option", "emotion is no JSON"),
    ({"emotion": "[" * 50000}, 422, "bad_option", "emotion is no JSON: it is nested too deeply"),
    ({"emotion": "7"}, 422, "bad_option", "emotion is 7, expected names with strengths, or a list"),
    ({"emotion": '{"hunger": 1}'}, 422, "bad_option", "there is no emotion 'hunger', expected one of amazement, anger"),
    ({"emotion": '{"anger": "x"}'}, 422, "bad_option", "emotion anger is 'x', expected a number from -10 to 10"),
    ({"emotion": '{"anger": 1e400}'}, 422, "bad_option", "emotion anger is inf, expected a number"),
    ({"emotion": '{"anger": NaN}'}, 422, "bad_option", "emotion is no JSON: NaN is no number"),
    ({"emotion": '[[1, {}], [0.5, {}]]'}, 422, "bad_option", "a moment of emotion is 0.5, expected at least 0.001"),
    ({"emotion": "[[0, {}, 3]]"}, 422, "bad_option", "emotion holds [0, {}, 3], expected names"),
    ({"mood": "good"}, 400, "bad_upload", "the field 'mood' is unknown, expected file, identity, emotion"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "status", "code", "sentence"), WRONG, ids=[row[3][:40] for row in WRONG])
def test_bad_uploads(service: Running, given: dict[str, Any], status: int, code: str, sentence: str) -> None:
    found, said, headers = service.upload(**{"file": wav(torch.zeros(200)), **given})
    assert (found, said["code"]) == (status, code) and said["message"].startswith(sentence), said
    assert headers["Content-Type"] == "application/json" and len(said["message"]) < 500
    check_service(service)


def loud(sample: float) -> bytes:
    head = struct.pack("<HHIIHH", 3, 1, 2000, 8000, 4, 32)
    content = struct.pack("<4f", 0, 0.5, sample, 0)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt " + struct.pack("<I", 16) + head
        + b"data" + struct.pack("<I", len(content)) + content
    )  # fmt: skip


def test_samples_are_sound(service: Running) -> None:
    assert service.upload(loud(1.5))[0] == 200
    for sample, shown in ((1e30, "1e+30"), (float("inf"), "inf"), (float("nan"), "")):
        status, said, _ = service.upload(loud(sample))
        assert (status, said["code"]) == (400, "bad_audio") and shown in said["message"]
    check_service(service)


KIND, NO_FORM, NO_FILE = "multipart/form-data; boundary=x", "the form cannot be read", "the form has no file"
HOSTILE = [
    ("text/plain", b"hello", "the content type is 'text/plain', expected multipart/form-data"),
    ("", b"", "the content type is ''"),
    ("multipart/form-data", b"hello", "the form cannot be read: Missing boundary"),
    ("multipart/form-data; boundary=" + 1000 * "x", b"hello", NO_FORM),
    (KIND, b"hello", NO_FORM),
    (KIND, b"--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--\r\n", NO_FORM),
    (KIND, b"--x\r\n" + 200_000 * b"A", NO_FORM),
    (KIND, b"--x\r\n" + 1000 * b"A: b\r\n", NO_FORM),
    (KIND + "; charset=zlib", part('name="identity"', b"\xff\xfe") + b"--x--\r\n", NO_FILE),
    (KIND + "; charset=undefined", part('name="identity"', b"Ada") + b"--x--\r\n", NO_FORM),
    (KIND, 9 * part('name="identity"', b"Ada") + b"--x--\r\n", NO_FORM),
    (KIND, 2 * part('name="file"; filename="a"') + b"--x--\r\n", NO_FORM),
    (KIND, part('name="identity"; filename="a"') + b"--x--\r\n", NO_FILE),
    (KIND, 2 * part('name="identity"', b"Ada") + b"--x--\r\n", "the field 'identity' is there more than once"),
    (KIND, part('name="file"; filename="../../../etc/passwd"') + b"--x--\r\n", "the file: not a WAV file"),
]


@pytest.mark.parametrize(("kind", "body", "sentence"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_forms(service: Running, kind: str, body: bytes, sentence: str) -> None:
    status, said, _ = service.post(body, kind)
    assert status == 400 and said["message"].startswith(sentence), said
    check_service(service)


def test_uploads_without_a_length_are_limited_too(service: Running) -> None:
    connection = http.client.HTTPConnection(service.host, service.port, timeout=PATIENCE)
    body, kind = form(bytes(400_000))
    connection.request("POST", "/process-audio", iter([body[:1000], body[1000:]]), {"Content-Type": kind})
    answer = connection.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["code"] == "too_large"
    connection.close()
    check_service(service)


MEMORY = """
import resource, torch
from avatorch.face.resample import resample
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
resample(torch.zeros(1000), 192000, 16000)
before = peak()
resample(torch.zeros(1_500_000), 192000, 16000)
print(peak() - before)
"""


def test_long_sound_takes_memory_of_its_own_size() -> None:
    megabytes = int(subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout)
    assert megabytes < 150  # the sound has 12 in float64


def test_uploads_far_too_large_are_not_awaited(service: Running) -> None:
    with socket.create_connection((service.host, service.port), timeout=PATIENCE) as raw:
        kind = "multipart/form-data; boundary=x"
        raw.sendall(f"POST /process-audio HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n".encode())
        raw.sendall(b"Content-Length: 1000000000000\r\n\r\n")
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        assert answer.status == 413 and json.loads(answer.read())["code"] == "too_large"
        assert raw.recv(1) == b""
    check_service(service)


def test_an_upload_that_stops_is_given_up(service: Running) -> None:
    body, kind = form(wav(torch.zeros(200)))
    with socket.create_connection((service.host, service.port), timeout=PATIENCE) as raw:
        head = f"POST /process-audio HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body[:-20])
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        assert answer.status == 408 and json.loads(answer.read())["code"] == "too_slow"
        assert raw.recv(1) == b""
    check_service(service)


@pytest.mark.parametrize("begin", [b"POST /process-audio HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET /health HTTP/1.1\r\n"])
def test_headers_that_do_not_end_end_the_connection(service: Running, begin: bytes) -> None:
    with socket.create_connection((service.host, service.port), timeout=PATIENCE) as raw:
        raw.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n")  # a whole one, and then one that stops
        answer = http.client.HTTPResponse(raw)
        answer.begin()
        assert answer.read().startswith(b"<!doctype html>")
        raw.sendall(begin)
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(1) == b""
    check_service(service)


def test_who_does_not_read_is_cut(service: Running) -> None:
    connections = service.server.server_state.connections
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((service.host, service.port))
        raw.sendall(30 * b"GET /head HTTP/1.1\r\nHost: x\r\n\r\n")  # 20 megabytes of answers
        own = raw.getsockname()
        while all(one.client != own for one in list(connections)):
            check_service(service)
        while any(one.client == own for one in list(connections)):
            check_service(service)
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while part := raw.recv(1 << 20):
                got += len(part)
    assert got < 30 * len(service.get("/head")[1])


def test_who_does_not_read_a_little_is_cut_too(service: Running) -> None:
    """What asyncio holds without telling is enough to keep a connection, even one that is closed."""

    def held() -> list[int]:
        known = list(service.server.server_state.connections)
        return [one.transport.get_write_buffer_size() for one in known if one.client == own]

    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((service.host, service.port))
        own = raw.getsockname()
        assert service.get("/health")[0] == 200
        with contextlib.suppress(ConnectionError):
            while sum(held()) < 10_000 and held():
                raw.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n")
                assert service.get("/health")[0] == 200
        until = time.monotonic() + PATIENCE
        while held() and time.monotonic() < until:
            assert service.get("/health")[0] == 200
        assert not held()


def test_who_comes_when_all_is_taken(diffusion: Path) -> None:
    network = gate(diffusion)
    answers: list[int] = []
    with running(diffusion, Limits(tracks=1, waiting=1), network=network) as service:
        first = threading.Thread(target=lambda: answers.append(service.upload(wav(torch.zeros(200)))[0]))
        first.start()
        network.await_run()
        with service.socket() as waiting:
            waiting.send('{"type": "start"}')
            while json.loads(service.get("/health")[1])["waiting"] == 0:
                pass
            status, said, headers = service.upload(wav(torch.zeros(200)))
            assert (status, said["code"], headers["Retry-After"]) == (503, "busy", "2")
            network.open.set()
            first.join()
            assert answers == [200] and json.loads(waiting.recv(PATIENCE))["type"] == "ready"


def test_who_waits_too_long_is_told(diffusion: Path) -> None:
    network = gate(diffusion)
    with running(diffusion, Limits(tracks=1, waiting=5, wait_seconds=1), network=network) as service:
        with service.socket() as socket:
            socket.send('{"type": "start"}')
            assert json.loads(socket.recv(PATIENCE))["type"] == "ready"
            status, said, _ = service.upload(wav(torch.zeros(200)))
            assert status == 503 and "within 1 seconds" in said["message"]
        network.open.set()


def test_a_client_that_vanishes_frees_its_track(diffusion: Path) -> None:
    network = gate(diffusion)
    with running(diffusion, Limits(tracks=1), network=network) as service:
        body, kind = form(wav(torch.zeros(20_000)))
        raw = socket.create_connection((service.host, service.port))
        head = f"POST /process-audio HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
        network.await_run()
        raw.close()
        network.open.set()
        status, said, _ = service.upload(wav(torch.zeros(200)))  # waits for the one track
        assert status == 200 and len(said["blendshapes"]) == 2
        text = service.get("/metrics")[1]
        assert 'avatorch_answers_total{status="499"} 1.0' in text and "avatorch_tracks_taken 0.0" in text


def test_a_failure_is_one_clips(diffusion: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = gate(diffusion)
    network.open.set()
    with running(diffusion, network=network) as service:
        network.failing = True
        status, said, _ = service.upload(wav(torch.zeros(200)))
        assert status == 500 and "the network is broken" in said["message"]
        network.failing = False
        check_service(service)
    assert "an inference of 1 tracks failed" in caplog.text


def test_frames_that_do_not_come_from_the_device_are_not_left_out(
    diffusion: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr("avatorch.serve.worker._on_cpu", fails)
    with running(diffusion) as service:
        status, said, _ = service.upload(wav(torch.zeros(200)))
        assert status == 500 and "the device is lost" in said["message"], said


def test_what_nobody_foresaw_is_answered_and_counted(
    diffusion: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("avatorch.serve.uploads.tempfile.NamedTemporaryFile", full)
    with running(diffusion) as service:
        status, said, _ = service.upload(wav(torch.zeros(200)))
        assert status == 500 and said == {"code": "failed", "message": "the service failed; its log says why"}
        numbers = service.get("/metrics")[1]
        for line in ('avatorch_answers_total{status="500"} 1.0', 'avatorch_faults_total{code="failed"} 1.0'):
            assert line in numbers
        assert "avatorch_tracks_taken 0.0" in numbers
    assert "no space left on device" in caplog.text


def test_health_metrics_and_pages(service: Running) -> None:
    status, text = service.get("/health")
    health = json.loads(text)
    assert status == 200 and health["status"] == "ok" and health["identities"] == ["Ada", "Bo"]
    assert health["tracks"] == 8 and health["tracks_taken"] == 0 and health["limits"]["upload_bytes"] == 300_000
    check_service(service)
    text = service.get("/metrics")[1]
    for name in ("avatorch_answers_total", "avatorch_tracks_per_inference_count", "process_resident_memory_bytes"):
        assert name in text
    schema = json.loads(service.get("/openapi.json")[1])
    assert set(schema["paths"]) == {"/process-audio", "/health", "/metrics"}
    documented = set(schema["paths"]["/process-audio"]["post"]["responses"])
    assert documented == {"200", *(str(fault.status) for fault in Fault)}
    assert service.get("/nothing") == (404, '{"code":"not_found","message":"there is no /nothing"}')
    assert service.get("/process-audio")[0] == 405
    for path in ("/", "/docs"):
        page = service.get(path)[1]
        assert page.startswith("<!doctype html>") and "http" not in page.replace("/^http/", "")
