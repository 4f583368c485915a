"""The routes: a face for an upload, a face for a socket, health, metrics, the page and its description."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import torch
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import HTMLResponse
from torch import Tensor

import avatorch
from avatorch.serve import page
from avatorch.serve.protocol import Fault, Refusal, as_text, rounded, shown
from avatorch.serve.service import Service
from avatorch.serve.sockets import Conversation
from avatorch.serve.uploads import Upload, read_sound, received
from avatorch.serve.worker import Block, Face

T = TypeVar("T")
log = logging.getLogger("avatorch.serve")
RETRY_AFTER = "2"  # seconds, told to those who come when all is taken
FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "A WAV file of 8 to 32-bit integers or 32-bit floats; channels are averaged.",
        },
        "identity": {"type": "string", "description": "Whose face, by name or number; default: the first."},
        "emotion": {
            "type": "string",
            "description": 'JSON: {"joy": 0.7}, or [[seconds, {"joy": 0.7}], ...], between which it moves.',
        },
    },
}


class FaceAnswer(BaseModel):
    """A face for a clip."""

    blendshapes: list[list[float]]  # [frames, names]
    names: list[str]
    fps: float
    duration: float
    identity: str


class FaultAnswer(BaseModel):
    """Why not."""

    code: str
    message: str


class HealthAnswer(BaseModel):
    """How it is."""

    status: str
    identities: list[str]
    emotions: list[str]
    names: list[str]
    fps: float
    sample_rate: int
    device: str
    tracks: int
    tracks_taken: int
    waiting: int
    limits: dict[str, int]


def create_app(service: Service, origins: Sequence[str] = ()) -> FastAPI:
    """An ASGI application. `origins` are pages of other servers that may ask it; `*` stands for all."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.worker.stop)

    app = FastAPI(
        title="avatorch serve",
        version=avatorch.__version__,
        description="Speech to a moving face. `/stream` is a WebSocket, which this page cannot describe.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page takes its scripts from elsewhere; ours is below
        redoc_url=None,
    )
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST"])
    app.add_exception_handler(HTTPException, _answer_http_fault)
    app.add_exception_handler(Exception, _answer_failure)
    faults: dict[int | str, dict[str, Any]] = {
        status: {"model": FaultAnswer, "description": text}
        for status, text in {
            400: "The upload or the sound in it cannot be read.",
            403: "The page that asks is of another server.",
            408: "The upload took too long.",
            413: "The upload is too large, or its sound too long.",
            422: "There is no such identity or emotion.",
            500: "The network failed for this clip; the log says why.",
            503: "All tracks are taken, or the service ends: try again after `Retry-After` seconds.",
        }.items()
    }

    @app.post(
        "/process-audio",
        summary="A face for a WAV file",
        response_model=FaceAnswer,
        responses=faults,
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}},
    )
    async def process_audio(request: Request) -> Response:
        """Weights of blend shapes, frame after frame, in the order of `names`, to five decimals."""
        began = time.perf_counter()
        response = await _answer(service, lambda: _process(service, request, origins))
        service.metrics.answers.labels(response.status_code).inc()
        service.metrics.answer_seconds.observe(time.perf_counter() - began)
        return response

    @app.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        conversation = Conversation(service, websocket)
        try:
            _check_origin(websocket, origins)
            service.enter(conversation)
        except Refusal as refusal:
            await websocket.send_denial_response(_fault(service, refusal))
            return
        try:
            await conversation.run()
        finally:
            service.leave(conversation)

    @app.get("/health", summary="How it is", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}})
    async def health() -> Response:
        """Status 200 while clips are taken, else 503."""
        executor, places = service.worker.faces[0].executor, service.desk.places
        answer = HealthAnswer(
            status="ok" if service.takes_clips else "ending" if service.is_ending else "failed",
            identities=[face.executor.identity.name for face in service.worker.faces],
            emotions=list(service.bundle.info.emotions),
            names=list(executor.weight_names),
            fps=float(executor.frame_rate),
            sample_rate=service.bundle.info.sample_rate,
            device=str(executor.device),
            tracks=service.limits.tracks,
            tracks_taken=places.taken,
            waiting=places.waiting,
            limits=vars(service.limits),
        )
        return Response(answer.model_dump_json(), 200 if service.takes_clips else 503, media_type="application/json")

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    for path, content in {"/": page.face_page, "/docs": page.docs_page}.items():
        app.add_api_route(path, _sends(content), include_in_schema=False, response_class=HTMLResponse)

    @app.get("/head", include_in_schema=False)
    async def head() -> Response:
        content = await asyncio.to_thread(page.head)
        return Response(content, media_type="application/json", headers={"Cache-Control": "max-age=3600"})

    return app


def _check_origin(asking: HTTPConnection, origins: Sequence[str]) -> None:
    """Browsers say whose page sends a form or opens a socket, and leave it to the server to mind."""
    origin = asking.headers.get("origin")
    if origin is None or "*" in origins or origin in origins:
        return
    if origin.partition("://")[2] != asking.headers.get("host"):
        raise Refusal(Fault.FOREIGN, f"the page is of {shown(origin)}, expected one of this server, or --allow-origin")


async def _process(service: Service, request: Request, origins: Sequence[str]) -> Response:
    _check_origin(request, origins)
    async with received(request, service.limits, service.bundle.info.emotions) as upload:
        face = service.face(upload.identity)
        weights, seconds = await _while_connected(request, _compute(service, face, upload))
    content = {
        "names": face.executor.weight_names,
        "fps": float(face.executor.frame_rate),
        "duration": seconds,
        "identity": face.executor.identity.name,
    }
    text = await asyncio.to_thread(lambda: as_text({"blendshapes": rounded(weights), **content}))
    return Response(text, media_type="application/json")


async def _compute(service: Service, face: Face, upload: Upload) -> tuple[Tensor, float]:
    """Sound to weights [F, poses], and how long it is in seconds.

    The track is taken before the sound is unpacked, which bounds what is in memory.
    """
    parts = [torch.empty(0, len(face.executor.weight_names))]
    with await service.desk.open(face, upload.emotions, live=False) as clip:
        samples, seconds = await read_sound(upload, service.limits, service.bundle.info.sample_rate)
        clip.push(samples)
        clip.end()
        async for event in clip.blocks():
            if isinstance(event, Block):
                parts.append(event.weights)
    return torch.cat(parts), seconds


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; where the client goes, the work ends."""
    gone, working = asyncio.ensure_future(_disconnected(request)), asyncio.ensure_future(work)
    try:
        await asyncio.wait({gone, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (gone, working):
            task.cancel()
        await asyncio.gather(gone, working, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _answer(service: Service, process: Callable[[], Awaitable[Response]]) -> Response:
    """What an upload is answered, whatever happens."""
    try:
        service.enter_upload()
        try:
            return await process()
        finally:
            service.leave_upload()
    except Refusal as refusal:
        return _fault(service, refusal)
    except ClientDisconnect:
        return Response(status_code=499)  # nobody reads it; the metrics do
    except Exception:
        log.exception("an upload failed")
        return _fault(service, Refusal(Fault.FAILED, "the service failed; its log says why"))


def _fault(service: Service, refusal: Refusal) -> Response:
    service.count_fault(refusal)
    headers = {"Retry-After": RETRY_AFTER} if refusal.fault.status == 503 else {}
    if refusal.fault in (Fault.TOO_LARGE, Fault.TOO_SLOW):
        headers["Connection"] = "close"  # the rest of the upload is not awaited
    text = as_text(refusal.content())
    return Response(text, refusal.fault.status, headers, media_type="application/json")


def _sends(content: Callable[[], str]) -> Callable[[], Awaitable[HTMLResponse]]:
    async def send() -> HTMLResponse:
        return HTMLResponse(content())

    return send


async def _answer_http_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "bad_method"}
    sentence = {404: f"there is no {request.url.path[:100]}", 405: f"{request.method[:20]} is not for this path"}
    status = error.status_code
    content = {"code": codes.get(status, "bad_request"), "message": sentence.get(status, str(error.detail))}
    return Response(as_text(content), status, error.headers, media_type="application/json")


async def _answer_failure(_: Request, __: Exception) -> Response:
    content = {"code": Fault.FAILED.code, "message": "the service failed; its log says why"}
    return Response(as_text(content), 500, media_type="application/json")
