"""Speech in chunks, as from a microphone, to a face: prints how far the jaw is open.

python examples/talking_face.py BUNDLE speech.wav [--identity Claire] [--device cuda]
"""

from __future__ import annotations

import argparse

from avatorch import audio
from avatorch.face import Audio2Face

CHUNK = 0.1  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("speech")
    parser.add_argument("--identity", default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    face = Audio2Face(given.bundle, given.identity, given.device, settings={"lower_face_strength": 1.2})
    sound = audio.load_wav(given.speech)
    stream = face.stream(sound.sample_rate)
    jaw = stream.names.index("jawOpen")
    shown = 0
    for chunk in (*sound.samples.mean(0).split(round(CHUNK * sound.sample_rate)), None):
        weights = stream.close() if chunk is None else stream.push(chunk)
        for frame in weights[:, jaw].tolist():
            print(f"{shown / stream.fps:7.3f} s {'#' * round(60 * frame)}")
            shown += 1


if __name__ == "__main__":
    main()
