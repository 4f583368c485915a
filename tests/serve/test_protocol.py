"""Messages, read and written."""

from __future__ import annotations

import json
import random

import pytest
import torch

from avatorch.serve.protocol import (
    End,
    Fault,
    Feel,
    Refusal,
    Start,
    as_text,
    frames_as_text,
    read_emotions,
    read_message,
    read_samples,
    rounded,
)

EMOTIONS = ("anger", "joy")


def test_messages() -> None:
    assert read_message('{"type": "start"}', EMOTIONS) == Start()
    text = json.dumps(
        {
            "type": "start", "sample_rate": 48000, "format": "float32", "identity": 2, "emotion": {"joy": 1},
            "frames": "binary",
        }
    )  # fmt: skip
    assert read_message(text, EMOTIONS) == Start(48000, "float32", "2", {"joy": 1.0}, "binary")
    assert read_message('{"type": "emotion", "emotion": {}}', EMOTIONS) == Feel({})
    assert read_message('{"type": "end"}', EMOTIONS) == End()
    assert read_emotions('[[0, {"joy": 0.5}], [2.5, {}]]', EMOTIONS) == [(0.0, {"joy": 0.5}), (2.5, {})]


def test_strangers_messages_are_read_or_refused() -> None:
    """Whatever is cut from a good message, or put into it."""
    source = random.Random(3)
    good = '{"type": "start", "sample_rate": 48000, "format": "int16", "identity": "Ada", "emotion": {"joy": 0.5}}'
    scraps = [*'[]{},:"-é\ud800', "null", "true", "1e999", "9" * 40, "\\u0000", "NaN"]
    refused: list[Refusal] = []
    for _ in range(3000):
        text = good
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(text))
            text = text[:at] + source.choice([*scraps, ""]) + text[at + source.randint(0, 6) :]
            if not text:
                break
        for read in (read_message, read_emotions):
            try:
                read(text, EMOTIONS)
            except Refusal as refusal:
                refused.append(refusal)
    assert len(refused) > 3000
    assert all(len(one.sentence) < 400 and one.content()["code"] == one.fault.code for one in refused)


def test_samples() -> None:
    assert read_samples(b"\0\x80\xff\x7f\0\0", "int16").tolist() == [-1.0, 32767 / 32768, 0.0]
    assert read_samples(b"\0\0\x80\x3f", "float32").tolist() == [1.0]
    for message, kind in ((b"", "int16"), (b"\0", "int16"), (b"\0\0", "float32")):
        with pytest.raises(Refusal, match="expected samples of"):
            read_samples(message, kind)


def test_weights_are_rounded_and_short() -> None:
    weights = torch.rand(50, 68)
    text = frames_as_text(3, weights)
    said = json.loads(text)
    assert said["type"] == "frames" and said["first"] == 3
    assert (torch.tensor(said["weights"], dtype=torch.float64) - weights.double()).abs().max() <= 0.5001e-5
    assert all(len(str(value)) <= 7 for row in rounded(weights) for value in row)
    with pytest.raises(ValueError, match="JSON"):
        as_text([float("nan")])


def test_faults_have_codes_of_their_own() -> None:
    assert len({fault.code for fault in Fault}) == len(Fault)
    assert all(fault.status >= 400 and 1002 <= fault.closing <= 1013 for fault in Fault)
