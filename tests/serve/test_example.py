"""examples/serve_client.py, beside a service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from serve.running import running, wav

CLIENT = Path(__file__).parent.parent.parent / "examples" / "serve_client.py"


def test_both_ways_say_the_same(talking: Path, tmp_path: Path) -> None:
    time = torch.arange(11200) / 16000
    speech = tmp_path / "speech.wav"
    speech.write_bytes(wav(0.4 * torch.sin(2 * torch.pi * 180 * time) * torch.sin(2 * torch.pi * 3 * time), 16000))
    with running(talking) as service:

        def run(*options: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(CLIENT), str(speech), "--url", service.server.address, *options]
            return subprocess.run(command, capture_output=True, text=True)

        whole, streamed = run("--emotion", "joy=0.5"), run("--stream", "--emotion", "joy=0.5")
        assert whole.stdout.count("\n") == 42 and "####" in whole.stdout
        assert streamed.stdout == whole.stdout, streamed.stderr
        for options in ([], ["--stream"]):
            refused = run("--identity", "Eve", *options)
            assert refused.returncode == 1 and "identity is 'Eve', expected one of Ada" in refused.stderr
