"""`avatorch serve` as a user starts and ends it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from avatorch import cli
from serve.running import PATIENCE, Running, form, wav


class Process(Running):
    """A service in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "avatorch.cli", "serve", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = []
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("listening on "):
                self.host, self.port = "127.0.0.1", int(line.rsplit(":", 1)[1])
                return
        raise AssertionError(self.process.communicate()[1])

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_it_serves_until_a_signal_and_answers_what_it_took(talking: Path) -> None:
    options = ("--max-tracks", 3, "--max-clip-seconds", 20, "--set", "skin_strength=1.5")
    with Process("--model", talking, *options) as service:
        assert service.said[0] == "regression model of Ada, 3 tracks on cpu\n"
        status, said, _ = service.upload(wav(torch.zeros(16000 * 21), 16000))
        assert (status, said["code"]) == (413, "too_long")
        answers: list[tuple[int, dict[str, Any], Any]] = []
        clip = wav(torch.randn(16000 * 15) * 0.1, 16000)
        client = threading.Thread(target=lambda: answers.append(service.upload(clip)))
        client.start()
        while json.loads(service.get("/health")[1])["tracks_taken"] == 0:
            pass
        os.kill(service.process.pid, signal.SIGTERM)
        client.join()
        assert answers[0][0] == 200 and len(answers[0][1]["blendshapes"]) == 900
        assert service.process.wait(PATIENCE) == 0 and not service.process.communicate()[1]


def test_a_second_signal_ends_it_at_once(talking: Path) -> None:
    with Process("--model", talking, "--max-idle-seconds", 600) as service:
        with service.socket() as socket:
            socket.send('{"type": "start"}')
            assert json.loads(socket.recv(PATIENCE))["type"] == "ready"
            body, kind = form(wav(torch.zeros(16000), 16000))
            connection = http.client.HTTPConnection(service.host, service.port)
            connection.putrequest("POST", "/process-audio")
            connection.putheader("Content-Type", kind)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body[:100])  # an upload that is not finished
            assert service.get("/health")[0] == 200
            os.kill(service.process.pid, signal.SIGTERM)
            while (said := json.loads(socket.recv(PATIENCE)))["type"] != "error":
                pass
            assert said["code"] == "shutting_down"
        os.kill(service.process.pid, signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
        assert "the service ended before all was finished" in service.process.communicate()[1]
        connection.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "/nowhere"], "/nowhere"),
        (["--max-tracks", "0"], "tracks is 0, expected a whole number of at least 1"),
        (["--port", "65536"], "port is 65536, expected 0 to 65535"),
        (["--set", "skin_strength=9"], "skin_strength is 9, expected 0 to 2"),
        (["--set", "skin"], "'skin' is no setting, expected NAME=VALUE with a number"),
    ],
)
def test_what_is_wrong_is_said(
    talking: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if "--model" in arguments else ["--model", str(talking)]
    assert cli.main(["serve", *model, *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("avatorch serve: ") and sentence in said and "Traceback" not in said


def test_missing_packages_are_named(
    talking: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("avatorch.serve.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=refuse_fastapi), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "fastapi")
    assert cli.main(["serve", "--model", str(talking)]) == 1
    assert "a service needs the package fastapi: pip install 'avatorch[serve]'" in capsys.readouterr().err


def refuse_fastapi(name: str, *_: object) -> None:
    if name == "fastapi":
        raise ModuleNotFoundError("No module named 'fastapi'", name=name)
