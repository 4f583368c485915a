"""An upload to samples: a form with a WAV file, from a stranger, read no further than the limits allow."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message
from torch import Tensor

from avatorch import audio
from avatorch.face.resample import resample
from avatorch.serve.limits import Limits
from avatorch.serve.protocol import Emotions, Fault, Refusal, check_loudness, check_rate, read_emotions, shown

FIELDS = ("file", "identity", "emotion")
MOST_FIELD_BYTES = 1 << 16


@dataclass(frozen=True)
class Upload:
    """What a form holds."""

    file: IO[bytes]
    identity: str
    emotions: Emotions


@asynccontextmanager
async def received(request: Request, limits: Limits, emotions: tuple[str, ...]) -> AsyncIterator[Upload]:
    """A form, while its file is there; `emotions` are the names that the model knows."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refusal(
            Fault.BAD_UPLOAD, f"the content type is {shown(kind)}, expected multipart/form-data with a field file"
        )
    form = await _receive_form(request, limits)
    try:
        yield _checked(form, emotions)
    finally:
        await form.close()


async def read_sound(upload: Upload, limits: Limits, sample_rate: int) -> tuple[Tensor, float]:
    """Samples [n] at `sample_rate`, and how long they are in seconds."""
    return await asyncio.to_thread(_read_sound, upload.file, limits, sample_rate)


def _checked(form: FormData, emotions: tuple[str, ...]) -> Upload:
    for name in form:
        if name not in FIELDS or len(form.getlist(name)) != 1:
            problem = "is there more than once" if name in FIELDS else f"is unknown, expected {', '.join(FIELDS)}"
            raise Refusal(Fault.BAD_UPLOAD, f"the field {shown(name)} {problem}")
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise Refusal(Fault.BAD_UPLOAD, "the form has no file in its field file, expected a WAV file")
    texts = {name: value for name, value in form.items() if isinstance(value, str)}
    known = read_emotions(texts["emotion"], emotions) if texts.get("emotion") else []
    return Upload(file.file, texts.get("identity") or "0", known)


async def _receive_form(request: Request, limits: Limits) -> FormData:
    """Its file is on the disk, if it is larger than a megabyte."""
    most = limits.upload_bytes
    too_large = Refusal(Fault.TOO_LARGE, f"the upload is too large, expected at most {most} bytes")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > 2 * most:
        raise too_large
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > most:
            # An answer that comes while a client still sends is lost to most of them: a little more is heard out.
            while message.get("more_body") and received <= 2 * most:
                message = await request.receive()
                received += len(message.get("body", b""))
            raise too_large
        return message

    limited = Request(request.scope, receive)
    try:
        reading = limited.form(max_files=1, max_fields=len(FIELDS), max_part_size=MOST_FIELD_BYTES)
        return await asyncio.wait_for(reading, limits.upload_seconds)
    except asyncio.TimeoutError:
        sentence = f"the upload was not there within {limits.upload_seconds} seconds"
        raise Refusal(Fault.TOO_SLOW, sentence) from None
    except HTTPException as error:  # Starlette's word for a broken form
        raise Refusal(Fault.BAD_UPLOAD, f"the form cannot be read: {error.detail}") from None
    except UnicodeError as error:  # of the charset that the client names
        raise Refusal(Fault.BAD_UPLOAD, f"the form cannot be read: {error}") from None


def _read_sound(file: IO[bytes], limits: Limits, sample_rate: int) -> tuple[Tensor, float]:
    with tempfile.NamedTemporaryFile(suffix=".wav") as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        try:
            sound = audio.load_wav(copy.name)
        except (ValueError, OSError) as error:
            raise Refusal(Fault.BAD_AUDIO, str(error).replace(copy.name, "the file")) from None
    rate, seconds = sound.sample_rate, sound.samples.shape[1] / sound.sample_rate
    if not sound.samples.numel():
        raise Refusal(Fault.BAD_AUDIO, "the file holds no samples")
    if seconds > limits.clip_seconds:
        raise Refusal(
            Fault.TOO_LONG, f"the file holds {seconds:.1f} seconds of sound, expected at most {limits.clip_seconds}"
        )
    check_rate(rate, "the file's sample rate", Fault.BAD_AUDIO)
    return resample(check_loudness(sound.samples.mean(0)), rate, sample_rate), seconds
