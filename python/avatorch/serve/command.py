"""`avatorch serve`: speech to face over HTTP and WebSocket."""

from __future__ import annotations

import argparse
import dataclasses

from avatorch.serve.limits import Limits


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command and its options."""
    serving = commands.add_parser("serve", help="answer speech with a face over HTTP and WebSocket")
    serving.add_argument("--model", required=True, help="the folder or model.json of an Audio2Face model")
    serving.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: this machine alone")
    serving.add_argument("--port", type=int, default=8000, help="0 takes one that is free; default: 8000")
    serving.add_argument("--device", default="cpu", help="cpu or cuda; default: cpu")
    serving.add_argument("--engine", default="auto", help="auto, torch or onnx (ONNX Runtime); default: auto")
    serving.add_argument("--precision", default="float32", help="of torch: float32, tf32, float16, bfloat16 or float64")
    serving.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of all clips, such as skin_strength=1.2"
    )
    serving.add_argument(
        "--allow-origin",
        nargs="+",
        default=[],
        metavar="ORIGIN",
        help="pages of other servers that may ask, such as https://example.org, or * for all",
    )
    for limit in dataclasses.fields(Limits):
        option = f"--max-{limit.name.replace('_', '-')}"
        text = f"the most {limit.metadata['text']}; default: {limit.default}"
        serving.add_argument(option, dest=limit.name, type=int, default=limit.default, metavar="N", help=text)
    serving.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Serves until a signal comes."""
    from avatorch.face.command import pairs
    from avatorch.serve import Server, Service

    limits = Limits(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Limits)})
    computed = {"engine": given.engine, "precision": given.precision}
    service = Service(given.model, given.device, limits, settings=pairs(given.set), **computed)
    info, executor = service.bundle.info, service.worker.faces[0].executor
    identities = ", ".join(identity.name for identity in service.bundle.identities)
    print(f"{info.kind} model of {identities}, {limits.tracks} tracks on {executor.device}")
    if executor.why:
        print(f"the network is computed by ONNX Runtime: {executor.why}")
    Server(service, given.host, given.port, given.allow_origin).run()
    return 0
