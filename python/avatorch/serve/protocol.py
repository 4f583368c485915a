"""What clients and the service say to each other: messages, and every way to be refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor

DECIMALS = 5  # of a weight in JSON
MOST_CHARACTERS = 1 << 16  # of a message in JSON
LOUDEST = 16.0  # a sample beyond this is no sound; far beyond, a network's result is no number
MOST_EMOTION = 10.0
LEAST_RATE, MOST_RATE, RATE_STEP = 1_000, 192_000, 25  # Hz; other rates would need large filter tables
LEAST_MOMENTS_APART = 0.001  # seconds between two emotions

Emotions = list[tuple[float, dict[str, float]]]  # (seconds, strengths by name)


class Fault(Enum):
    """Why something is refused: the code, the status of an answer, the code that closes a socket."""

    BAD_UPLOAD = ("bad_upload", 400, 1008)
    BAD_AUDIO = ("bad_audio", 400, 1008)
    BAD_MESSAGE = ("bad_message", 400, 1008)
    BAD_OPTION = ("bad_option", 422, 1008)
    FOREIGN = ("foreign", 403, 1008)
    TOO_LARGE = ("too_large", 413, 1009)
    TOO_LONG = ("too_long", 413, 1008)
    TOO_SLOW = ("too_slow", 408, 1008)
    BUSY = ("busy", 503, 1013)
    SHUTTING_DOWN = ("shutting_down", 503, 1012)
    FAILED = ("failed", 500, 1011)

    def __init__(self, code: str, status: int, closing: int) -> None:
        self.code, self.status, self.closing = code, status, closing


class Refusal(Exception):
    """A fault, in a sentence."""

    def __init__(self, fault: Fault, sentence: str) -> None:
        super().__init__(sentence)
        self.fault, self.sentence = fault, sentence

    def content(self) -> dict[str, str]:
        """As an answer and a message hold it."""
        return {"code": self.fault.code, "message": self.sentence}


@dataclass(frozen=True)
class Start:
    """A clip begins."""

    sample_rate: int | None = None  # the network's
    format: str = "int16"
    identity: str = "0"
    emotion: dict[str, float] = field(default_factory=dict)
    frames: str = "json"


@dataclass(frozen=True)
class Feel:
    """The emotion of the samples that follow."""

    emotion: dict[str, float]


@dataclass(frozen=True)
class End:
    """No samples follow."""


@dataclass(frozen=True)
class Listed:
    """What a setting of `start` may be."""

    name: str
    choices: tuple[str, ...]


CHOICES = (Listed("format", ("int16", "float32")), Listed("frames", ("json", "binary")))


def read_message(text: str, emotions: Sequence[str]) -> Start | Feel | End:
    """A client's message; `emotions` are the names that the model knows."""
    if len(text) > MOST_CHARACTERS:
        raise Refusal(
            Fault.TOO_LARGE, f"the message has {len(text)} characters, expected at most {MOST_CHARACTERS}: send bytes"
        )
    content = read_json(text, "the message", Fault.BAD_MESSAGE)
    if not isinstance(content, dict):
        raise Refusal(Fault.BAD_MESSAGE, f"the message is {shown(content)}, expected an object with a type")
    kind = content.pop("type", None)
    if kind == "start":
        return _read_start(content, emotions)
    if kind == "emotion":
        _know(content, "emotion", ("emotion",))
        if "emotion" not in content:
            raise Refusal(Fault.BAD_MESSAGE, "the message emotion has no emotion, expected names with strengths")
        return Feel(read_emotion(content["emotion"], emotions))
    if kind == "end":
        _know(content, "end", ())
        return End()
    raise Refusal(Fault.BAD_MESSAGE, f"the message's type is {shown(kind)}, expected start, emotion or end")


def _read_start(content: dict[str, Any], emotions: Sequence[str]) -> Start:
    _know(content, "start", ("sample_rate", "format", "identity", "emotion", "frames"))
    given: dict[str, Any] = {}
    if "sample_rate" in content:
        given["sample_rate"] = check_rate(content["sample_rate"])
    for listed in CHOICES:
        value = content.get(listed.name, listed.choices[0])
        if value not in listed.choices:
            raise Refusal(Fault.BAD_OPTION, f"{listed.name} is {shown(value)}, expected {' or '.join(listed.choices)}")
        given[listed.name] = value
    if "identity" in content:
        identity = content["identity"]
        if not isinstance(identity, str | int) or isinstance(identity, bool):
            raise Refusal(Fault.BAD_OPTION, f"identity is {shown(identity)}, expected a name or a number")
        given["identity"] = str(identity)
    if "emotion" in content:
        given["emotion"] = read_emotion(content["emotion"], emotions)
    return Start(**given)


def read_emotions(text: str, known: Sequence[str]) -> Emotions:
    """The field `emotion` of an upload: names with strengths, or such at moments: [[seconds, {...}], ...]"""
    content = read_json(text, "emotion", Fault.BAD_OPTION)
    if isinstance(content, dict):
        return [(0.0, read_emotion(content, known))]
    wanted = "expected names with strengths, or a list of [seconds, names with strengths]"
    if not isinstance(content, list) or not content:
        raise Refusal(Fault.BAD_OPTION, f"emotion is {shown(content)}, {wanted}")
    moments: Emotions = []
    for entry in content:
        if not isinstance(entry, list) or len(entry) != 2:
            raise Refusal(Fault.BAD_OPTION, f"emotion holds {shown(entry)}, {wanted}")
        seconds = _number(entry[0], "a moment of emotion", 0, 1e6)
        if moments and seconds - moments[-1][0] < 0.999 * LEAST_MOMENTS_APART:  # thousandths are not exact
            raise Refusal(
                Fault.BAD_OPTION,
                f"a moment of emotion is {seconds:g}, expected at least {LEAST_MOMENTS_APART:g} seconds behind the "
                f"one before, {moments[-1][0]:g}",
            )
        moments.append((seconds, read_emotion(entry[1], known)))
    return moments


def read_emotion(content: object, known: Sequence[str]) -> dict[str, float]:
    """Strengths by name."""
    if not isinstance(content, dict):
        raise Refusal(Fault.BAD_OPTION, f"emotion is {shown(content)}, expected names with strengths")
    for name in content:
        if name not in known:
            raise Refusal(Fault.BAD_OPTION, f"there is no emotion {shown(name)}, expected one of {', '.join(known)}")
    return {name: _number(value, f"emotion {name}", -MOST_EMOTION, MOST_EMOTION) for name, value in content.items()}


def read_json(text: str, name: str, fault: Fault) -> Any:
    """JSON as it is specified: without NaN and infinities, and not nested without end."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(fault, f"{name} is no JSON: {reason}") from None


def check_rate(rate: object, name: str = "sample_rate", fault: Fault = Fault.BAD_OPTION) -> int:
    """A sample rate that is taken."""
    if type(rate) is not int or not LEAST_RATE <= rate <= MOST_RATE or rate % RATE_STEP:
        raise Refusal(
            fault,
            f"{name} is {shown(rate)}, expected {LEAST_RATE} to {MOST_RATE} Hz, a multiple of {RATE_STEP}",
        )
    return rate


def read_samples(message: bytes, kind: str) -> Tensor:
    """A socket's bytes: mono, little-endian. [n], float32"""
    width = 2 if kind == "int16" else 4
    if not message or len(message) % width:
        raise Refusal(
            Fault.BAD_AUDIO, f"the message has {len(message)} bytes, expected samples of {width} bytes, at least one"
        )
    dtype = torch.int16 if kind == "int16" else torch.float32
    samples = torch.frombuffer(bytearray(message), dtype=dtype)
    return samples.float() / 32768 if kind == "int16" else check_loudness(samples)


def check_loudness(samples: Tensor) -> Tensor:
    """Samples [n] that are sound."""
    loud = samples[~(samples.abs() <= LOUDEST)]  # what is no number is not less
    if len(loud):
        raise Refusal(Fault.BAD_AUDIO, f"a sample is {float(loud[0]):g}, expected -1 to 1, and at most {LOUDEST:g}")
    return samples


def rounded(weights: Tensor) -> list[list[float]]:
    """Weights [F, poses] as JSON holds them."""
    scale = 10.0**DECIMALS
    # Dividing by a power of ten gives the number that has the fewest digits.
    rows: list[list[float]] = (weights.double() * scale).round().div(scale).tolist()
    return rows


def frames_as_text(first: int, weights: Tensor) -> str:
    """A message of F frames."""
    return as_text({"type": "frames", "first": first, "weights": rounded(weights)})


def frames_as_bytes(first: int, weights: Tensor) -> bytes:
    """The number of the first frame and how many there are, uint32, then float32 [F, poses]; little-endian."""
    head = first.to_bytes(4, "little") + len(weights).to_bytes(4, "little")
    content: bytes = weights.contiguous().numpy().astype("<f4").tobytes()
    return head + content


def as_text(content: object) -> str:
    """JSON without spaces, and without what is no number."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def shown(value: object) -> str:
    """A stranger's value, no longer than a sentence bears."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _know(content: dict[str, Any], kind: str, names: Sequence[str]) -> None:
    for name in content:
        if name not in names:
            raise Refusal(
                Fault.BAD_MESSAGE,
                f"the message {kind} has {shown(name)}, expected {', '.join(names) or 'nothing but its type'}",
            )


def _number(value: object, name: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Refusal(Fault.BAD_OPTION, f"{name} is {shown(value)}, expected a number from {least:g} to {most:g}")
    assert math.isfinite(value)
    return float(value)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
