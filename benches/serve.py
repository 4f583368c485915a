"""A service under load, on loopback: clients that speak at their pace, clients in a hurry, and many after another.

python benches/serve.py --model BUNDLE [--device cuda] [--clients 1 8 64] [--seconds 10] [--requests 10000]

Latency is from the moment that the last sample which a frame needs was sent to the moment that the frame is there, for
each frame, chunks of a tenth of a second; frames behind the end count from the message `end`. The clients are one
process beside the service: on few cores they take from what they measure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import torch
from websockets.asyncio.client import connect

from avatorch.face import read_bundle
from avatorch.face.progress import Clock

CHUNK = 0.1  # seconds
UPLOADERS = 8


class Serving:
    """A service in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def numbers(self) -> dict[str, float]:
        """Its metrics, those without labels."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            text = answer.read().decode()
        return {name: float(value) for name, value in re.findall(r"^(\w+) ([-+.\de]+)$", text, re.MULTILINE)}


@contextmanager
def serving(given: argparse.Namespace, tracks: int) -> Iterator[Serving]:
    """Runs `avatorch serve`."""
    command = [sys.executable, "-m", "avatorch.cli", "serve", "--model", given.model, "--device", given.device]
    command += ["--port", "0", "--max-tracks", str(tracks), "--max-waiting", "4096", "--max-wait-seconds", "600"]
    command += ["--max-clip-seconds", "3600", "--max-connections", "8192", *given.options.split()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = next((line for line in process.stdout if line.startswith("listening on")), "")
        if not line:
            raise SystemExit("the service did not start")
        yield Serving(process, int(line.rsplit(":", 1)[1]))
    finally:
        process.terminate()
        process.wait()


class Speaker:
    """A client that streams a clip."""

    def __init__(self, port: int, clock: Clock, clip: torch.Tensor, begin: float, paced: bool) -> None:
        self.port, self.clock, self.begin, self.paced = port, clock, begin, paced
        whole = (clip * 32767).to(torch.int16)
        self.size = round(CHUNK * clock.sample_rate)
        self.chunks = [chunk.numpy().tobytes() for chunk in whole.split(self.size)]
        self.sent: list[float] = []  # when each chunk was, and the end
        self.latencies: list[float] = []  # of each frame
        self.frames = 0

    async def run(self) -> None:
        """To the last frame."""
        async with connect(f"ws://127.0.0.1:{self.port}/stream", compression=None, max_size=None) as socket:
            await socket.send(json.dumps({"type": "start", "frames": "binary"}))
            ready = json.loads(await socket.recv())
            assert ready["type"] == "ready", ready
            speaking = asyncio.create_task(self._speak(socket))
            async for message in socket:
                now = time.perf_counter()
                if isinstance(message, str):
                    said = json.loads(message)
                    assert said["type"] == "done" and said["frames"] == self.frames, said
                    break
                first, count = struct.unpack_from("<II", message)
                assert first == self.frames
                self.frames += count
                self.latencies += [now - self._asked(first + frame) for frame in range(count)]
            await speaking

    async def _speak(self, socket: object) -> None:
        for number, chunk in enumerate(self.chunks):
            if self.paced:
                await asyncio.sleep(max(0.0, self.begin + (number + 1) * CHUNK - time.perf_counter()))
            self.sent.append(time.perf_counter())
            await socket.send(chunk)  # type: ignore[attr-defined]
        self.sent.append(time.perf_counter())
        await socket.send('{"type": "end"}')  # type: ignore[attr-defined]

    def _asked(self, frame: int) -> float:
        """When the last sample was sent that a frame needs."""
        inference = (frame + self.clock.first_frame) // self.clock.frames_per_inference
        chunk = (self.clock.inferences.end(inference) - 1) // self.size
        return self.sent[min(chunk, len(self.sent) - 1)]


def speak(service: Serving, clock: Clock, clients: int, seconds: float, paced: bool) -> str:
    """A row of the table."""
    clips = [torch.randn(round(seconds * clock.sample_rate)) * 0.1 for _ in range(clients)]
    before = service.numbers()

    async def all_of_them() -> tuple[list[Speaker], float]:
        begin = time.perf_counter() + 0.2
        speakers = [
            Speaker(service.port, clock, clip, begin + CHUNK * number / clients, paced)
            for number, clip in enumerate(clips)
        ]
        began = time.perf_counter()
        await asyncio.gather(*(speaker.run() for speaker in speakers))
        return speakers, time.perf_counter() - began

    speakers, took = asyncio.run(all_of_them())
    after = service.numbers()
    change = {name: after[name] - before.get(name, 0) for name in after}
    inferences = change["avatorch_tracks_per_inference_count"]
    together = change["avatorch_tracks_per_inference_sum"] / inferences
    each = 1000 * change["avatorch_inference_seconds_sum"] / inferences
    frames = sum(speaker.frames for speaker in speakers)
    latencies = sorted(1000 * latency for speaker in speakers for latency in speaker.latencies)
    slow = latencies[int(0.99 * (len(latencies) - 1))]
    told = f"{statistics.median(latencies):.1f} | {slow:.1f}" if paced else "- | -"
    pace = "at their pace" if paced else "in a hurry"
    return (
        f"| {clients} {pace} | {told} | {frames / took:,.0f} | {clients * seconds / took:.1f} | {together:.1f} "
        f"| {each:.1f} |"
    )


def keep_asking(service: Serving, clock: Clock, requests: int) -> None:
    """Uploads, every tenth broken and every tenth given up, and the memory of the service."""
    clip = (torch.randn(round(0.2 * clock.sample_rate)) * 3000).to(torch.int16).numpy().tobytes()
    head = struct.pack("<HHIIHH", 1, 1, clock.sample_rate, 2 * clock.sample_rate, 2, 16)
    wav = b"RIFF" + struct.pack("<I", 36 + len(clip)) + b"WAVEfmt \x10\0\0\0" + head
    wav += b"data" + struct.pack("<I", len(clip)) + clip
    mark = uuid.uuid4().hex

    def request(file: bytes) -> bytes:
        body = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
        body += file + f"\r\n--{mark}--\r\n".encode()
        lines = ["POST /process-audio HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
        lines.append(f"Content-Type: multipart/form-data; boundary={mark}\r\n\r\n")
        return "\r\n".join(lines).encode() + body

    good, bad = request(wav), request(b"RIFF" + bytes(2000))

    async def ask(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        kind = number % 10
        whole = bad if kind == 8 else good
        writer.write(whole[: len(whole) // 2] if kind == 9 else whole)
        if kind != 9:
            status = (await reader.read()).split(b" ", 2)[1]
            assert status == (b"400" if kind == 8 else b"200"), status
        writer.close()

    async def many(numbers: range) -> None:
        waiting = iter(numbers)

        async def client() -> None:
            for number in waiting:
                await ask(number)

        await asyncio.gather(*(client() for _ in range(UPLOADERS)))

    print("\n| requests | memory of the service, MB | requests a second |\n|---|---|---|")
    step = max(1, requests // 10)
    for done in range(0, requests, step):
        began = time.perf_counter()
        asyncio.run(many(range(done, done + step)))
        rate = step / (time.perf_counter() - began)
        memory = service.numbers()["process_resident_memory_bytes"] / 1e6
        print(f"| {done + step} | {memory:.1f} | {rate:.0f} |", flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=10.0, help="that each speaks")
    parser.add_argument("--requests", type=int, default=0, help="uploads after another, to watch the memory")
    parser.add_argument("--options", default="", help="more options for avatorch serve, in one word")
    given = parser.parse_args()
    info = read_bundle(given.model).info
    clock = Clock.of(info)
    where = torch.cuda.get_device_name() if given.device != "cpu" else f"CPU, {os.cpu_count()} cores"
    print(f"{info.kind} model, {info.skin_vertices} vertices, on {where}")
    print(
        "\n| clients | median, ms | 99th percentile, ms | frames a second | seconds of sound a second | tracks an "
        "inference | ms an inference |\n|---|---|---|---|---|---|---|"
    )
    most = max(given.clients)
    with serving(given, most) as service:
        speak(service, clock, most, 2.0, paced=False)  # warm
        for clients in given.clients:
            print(speak(service, clock, clients, given.seconds, paced=True), flush=True)
        print(speak(service, clock, most, given.seconds, paced=False), flush=True)
        if given.requests:
            keep_asking(service, clock, given.requests)
    with serving(given, 1) as service:  # what a service without batches does: one clip after the other
        speak(service, clock, 1, 2.0, paced=False)
        print(f"\nOne track for all:\n{speak(service, clock, most, given.seconds, paced=False)}")


if __name__ == "__main__":
    main()
