"""A WAV file to a service, whole or as it would be spoken: prints how far the jaw is open.

avatorch serve --model BUNDLE                                 (in another shell)
python examples/serve_client.py speech.wav [--stream] [--identity Claire] [--emotion joy=0.7]

A whole file needs Python alone; `--stream` needs the package websockets.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import uuid
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

CHUNK = 0.1  # seconds

Frames = Iterator[tuple[list[str], float, list[list[float]]]]  # names, frames a second, weights


def main() -> int:
    """Prints a line a frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--stream", action="store_true", help="send it as it would be spoken")
    parser.add_argument("--identity", default="0")
    parser.add_argument("--emotion", nargs="+", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    emotion = {name: float(value) for name, value in (word.split("=") for word in given.emotion)}
    shown = 0
    frames = stream if given.stream else upload
    for names, fps, weights in frames(given.url, Path(given.speech), given.identity, emotion):
        for frame in weights:
            print(f"{shown / fps:7.3f} s {'#' * round(60 * frame[names.index('jawOpen')])}")
            shown += 1
    return 0


def upload(url: str, speech: Path, identity: str, emotion: dict[str, float]) -> Frames:
    """All frames at once."""
    mark = uuid.uuid4().hex
    fields = {"identity": identity, "emotion": json.dumps(emotion) if emotion else ""}
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts.append(b'Content-Disposition: form-data; name="file"; filename="speech.wav"\r\n\r\n' + speech.read_bytes())
    body = b"".join(f"--{mark}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{mark}--\r\n".encode()
    request = Request(f"{url}/process-audio", body, {"Content-Type": f"multipart/form-data; boundary={mark}"})
    try:
        with urlopen(request) as answer:
            face = json.load(answer)
    except HTTPError as error:
        sys.exit(f"{error.code}: {json.load(error)['message']}")
    yield face["names"], face["fps"], face["blendshapes"]


def stream(url: str, speech: Path, identity: str, emotion: dict[str, float]) -> Frames:
    """Frames as they become known."""
    from websockets.sync.client import connect

    with wave.open(str(speech), "rb") as file, connect(f"ws{url.removeprefix('http')}/stream") as socket:
        if (file.getnchannels(), file.getsampwidth()) != (1, 2):
            sys.exit(f"{speech}: expected one channel of 16 bits")
        start = {"type": "start", "sample_rate": file.getframerate(), "identity": identity}
        socket.send(json.dumps(start | ({"emotion": emotion} if emotion else {})))

        def speak() -> None:
            while samples := file.readframes(round(CHUNK * file.getframerate())):
                socket.send(samples)
                time.sleep(CHUNK)
            socket.send('{"type": "end"}')

        ready = json.loads(socket.recv())
        if ready["type"] == "error":
            sys.exit(ready["message"])
        speaker = threading.Thread(target=speak, daemon=True)
        speaker.start()
        for text in socket:
            message = json.loads(text)
            if message["type"] == "error":
                sys.exit(message["message"])
            if message["type"] == "done":
                break
            yield ready["names"], ready["fps"], message["weights"]
        speaker.join()


if __name__ == "__main__":
    sys.exit(main())
