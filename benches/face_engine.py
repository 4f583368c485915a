"""A diffusion network of the published size: ONNX Runtime with the exported file, the same network in eager torch, and
the engine of this project, in one process on the same inputs.

    python benches/face_engine.py diffusion-raw.onnx diffusion-simplified.onnx --out results

The graphs come without weights and are filled by tools/fill_face_graphs.py. Every time is that of a block of 0.5 s of
all tracks, median and median deviation; errors are distances from the same network in float64, relative to the largest
value. Below a clip of 4 s stands what its stages take. `--profile` prints the kernels that take longest. `--device cpu`
measures with two threads.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests"), str(ROOT / "benches")]

import face_regression  # noqa: E402
from face_eager import Eager  # noqa: E402
from stages import print_stages  # noqa: E402
from timing import milliseconds  # noqa: E402

from avatorch.face import Audio2Face, AudioAccumulator, BlendshapeSolver, Bundle, Executor, read_bundle  # noqa: E402
from avatorch.face.engine.blendshapes import FeatureFace  # noqa: E402
from avatorch.face.engine.captured import Captured  # noqa: E402
from avatorch.face.engine.diffusion import Diffusion  # noqa: E402
from avatorch.face.engine.precision import PRECISIONS, computing, precision_of  # noqa: E402
from avatorch.face.engine.recognise import recognise  # noqa: E402
from avatorch.face.engine.regression import Regression  # noqa: E402
from avatorch.face.engine.session import TorchDiffusionInference, TorchNetwork  # noqa: E402
from avatorch.face.engine.streams import FaceStreams  # noqa: E402
from avatorch.face.network import open_network  # noqa: E402
from fill_face_graphs import fill  # noqa: E402

SECONDS = 0.5  # of speech in a block
MANY = 5000  # streams, in blocks of 256
Run = Callable[[], object]
CLIP_STAGES = {
    (AudioAccumulator, "accumulate"): "samples",
    (Executor, "_infer"): "windows and emotions",
    (TorchDiffusionInference, "_hear"): "speech network",
    (TorchDiffusionInference, "_follow"): "GRU, block by block",
    (torch.cuda.CUDAGraph, "replay"): ": graphs",
    (FeatureFace, "products"): "features to products",
    (FeatureFace, "solve"): "solver",
}


def inputs(bundle: Bundle, tracks: int, device: torch.device) -> dict[str, Tensor]:
    """Random, the same for every program; the noise is the same for all tracks."""
    info, random = bundle.info, torch.Generator().manual_seed(1)
    noise = torch.randn(1, info.steps + 1, info.frames, info.values, generator=random)
    given = {
        "window": torch.randn(tracks, info.window, generator=random) * 0.1,
        "identity": torch.eye(len(info.identities))[torch.arange(tracks) % len(info.identities)],
        "emotion": torch.rand(tracks, info.center_frames, len(info.emotions), generator=random),
        "input_latents": torch.randn(info.steps, info.gru_layers, tracks, info.gru_width, generator=random) * 0.3,
        "noise": noise,
    }
    return {name: tensor.to(device) for name, tensor in given.items()}


def each(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the noise of every track."""
    return given | {"noise": given["noise"].expand(len(given["window"]), -1, -1, -1)}


class Bench:
    """Rows of a table, as they are measured."""

    def __init__(self, device: torch.device, out: Path | None, chosen: list[str] | None) -> None:
        self.device, self.out, self.chosen = device, out, chosen
        self.rows: list[dict[str, Any]] = []
        self._before = self._used()

    def wants(self, name: str) -> bool:
        """Whether a row is asked for."""
        return self.chosen is None or any(part in name for part in self.chosen)

    def _used(self) -> int:
        """Bytes of the device that are taken, by whomever."""
        if self.device.type == "cpu":
            return 0
        gc.collect()
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        return total - free

    def time(self, name: str, tracks: int, make: Callable[[], Run], error: float | None = None) -> None:
        """One program at one number of tracks."""
        if not self.wants(name):
            return
        cuda = self.device.type == "cuda"
        row: dict[str, Any] = {"program": name, "tracks": tracks, "error": error}
        try:
            self._used()  # what the program before kept is given back
            run = make()
            median, spread = milliseconds(run, self.device.type, 30 if cuda else 5)
            row |= {"ms": median, "spread": spread, "streams": tracks * SECONDS * 1000 / median}
            if cuda:
                free, total = torch.cuda.mem_get_info()
                row["gigabytes"] = (total - free - self._before) / 1e9  # the network's weights included
            del run
        except Exception as problem:  # what one program cannot do must not end the others
            row["problem"] = f"{type(problem).__name__}: {str(problem).splitlines()[0][:120]}"
        self.rows.append(row)
        print(line(row), flush=True)
        if self.out:
            self.out.with_suffix(".json").write_text(json.dumps(self.rows, indent=1))
            self.out.with_suffix(".md").write_text("\n".join([HEADER, *map(line, self.rows)]) + "\n")


HEADER = "| program | tracks | ms a block | real-time streams | GB | error |\n|---|---|---|---|---|---|"


def line(row: dict[str, Any]) -> str:
    """A row in Markdown."""
    error = "" if row.get("error") is None else f"{row['error']:.1e}"
    if "problem" in row:
        return f"| {row['program']} | {row['tracks']} | {row['problem']} | | | |"
    memory = f"{row['gigabytes']:.2f}" if "gigabytes" in row else ""
    time = f"{row['ms']:.3f} +- {row['spread']:.3f}"
    streams = "" if "clip" in row["program"] or "regression" in row["program"] else f"{row['streams']:.0f}"
    return f"| {row['program']} | {row['tracks']} | {time} | {streams} | {memory} | {error} |"


def runtime(bundle: Bundle, given: dict[str, Tensor], tf32: bool) -> Run:
    """ONNX Runtime with the file as it is; every track has its noise, as the file wants it."""
    info, tracks = bundle.info, len(given["window"])
    device = given["window"].device
    network = open_network(bundle.network, info, device, tf32=tf32)
    whole = {name: tensor.contiguous() for name, tensor in each(given).items()}
    shapes = {
        "prediction": (tracks, info.frames, info.values),
        "output_latents": tuple(given["input_latents"].shape),
    }
    return lambda: network.run(whole, shapes)


def distance(found: Tensor, truth: Tensor) -> float:
    """Relative to the largest value."""
    return float((found.double() - truth).abs().max() / truth.abs().max())


def engines(bundle: Bundle, weights: Any, device: torch.device, names: list[str]) -> Iterator[tuple[str, Diffusion]]:
    """One after another, so that memory is that of one."""
    for name in names:
        yield name, Diffusion(weights, bundle.info, device, precision_of(name))


def features(engine: Diffusion, given: dict[str, Tensor]) -> Callable[..., Any]:
    """A block without its geometry."""
    embedded = engine.embed_noise(given["noise"])

    def run(window: Tensor, identity: Tensor, emotion: Tensor, latents: Tensor) -> Any:
        return engine(window, identity, emotion, latents, embedded)

    return run


def streaming(bundle: Bundle, network: TorchNetwork, tracks: int) -> Run:
    """A block of every stream to weights: samples in, everything that is remembered of a track updated."""
    streams = FaceStreams(bundle, 0, tracks, network=network)
    samples = torch.randn(tracks, streams.hop, device=network.device) * 0.1
    for _ in range(3):
        streams.push(samples)
    return lambda: streams.push(samples)


def offline(bundle: Bundle, network: TorchNetwork | None, device: torch.device, *seconds: float) -> Run:
    """A whole clip to weights, as Audio2Face computes it; of several lengths one after the other."""
    face = Audio2Face(bundle, 0, device, network=network) if network else Audio2Face(bundle, 0, device, engine="onnx")
    clips = itertools.cycle([torch.randn(int(each * bundle.info.sample_rate)) * 0.1 for each in seconds])
    return lambda: face(next(clips))


def solving(bundle: Bundle, tracks: int, device: torch.device) -> Run:
    """Only the solver, for the skin: 30 frames of every track that follow one another."""
    random = torch.Generator(device).manual_seed(2)
    solver = BlendshapeSolver(bundle.identities[0].skin, tracks, device)
    rhs = solver.project(torch.randn(4, len(solver.columns), generator=random, device=device))
    # Frames that move as faces do: between a few expressions, one leading to the next.
    # A third of the poses would go below 0.
    weights = torch.rand(4, len(rhs[0]), generator=random, device=device).double() * 1.5 - 0.5
    poses = weights @ (solver._deltas.mT @ solver._deltas)
    way = torch.linspace(0, 3, 30, device=device, dtype=torch.float64)
    near = (1 - (way[:, None] - torch.arange(4, device=device)).abs()).clamp(min=0)
    frames = (near @ (poses + 0.1 * rhs)).expand(tracks, -1, -1).contiguous()
    return lambda: solver.solve_products(slice(0, tracks), frames)


def regression(bench: Bench, name: str, device: torch.device, counts: list[int]) -> None:
    """Frames of the regression network; here a track is one frame, of which 30 or 60 make a second."""
    info = face_regression.information()
    engine = Regression(face_regression.weights(), info, device, precision_of(name))
    for count in counts:
        given = [torch.randn(count, info.window, device=device) * 0.1, torch.rand(count, 26, device=device)]

        def make(given: list[Tensor] = given) -> Run:
            if device.type == "cpu":
                return torch.no_grad()(lambda: engine(*given))
            graph = Captured(engine, given)
            return lambda: graph(*given)

        bench.time(f"engine {name}, regression, frames at once", count, make)


def profile(run: Run) -> None:
    """The kernels that take longest."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    for _ in range(3):
        run()
    with torch.profiler.profile(activities=kinds) as seen:
        for _ in range(3):
            run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(seen.key_averages().table(sort_by=by, row_limit=25, max_name_column_width=90))


def measure(given: argparse.Namespace, folders: dict[str, Path]) -> None:
    """The whole table."""
    device = torch.device(given.device)
    bench = Bench(device, given.out, given.rows)
    bundles = {form: read_bundle(folder) for form, folder in folders.items()}
    bundle = next(iter(bundles.values()))
    weights = recognise(bundle.network, bundle.info)
    few = inputs(bundle, 2, device)
    order = ("window", "identity", "emotion", "input_latents")
    truth = Eager(weights, bundle.info, device, torch.float64)(*each(few).values())[0]
    print(HEADER)
    for tracks in [*given.tracks, *([1000] if device.type == "cuda" else [])]:
        bench.time("solver, 30 frames of the skin", tracks, lambda t=tracks: solving(bundle, t, device))
    for name, engine in engines(bundle, weights, device, given.precisions):
        with torch.no_grad():
            run = features(engine, few)
            found = engine.frames(run(*(few[key] for key in order)).features, few["identity"])
        error = distance(found, truth)
        for tracks in given.tracks:
            block = inputs(bundle, tracks, device)
            tensors = [block[key] for key in order]
            run = features(engine, block)

            def captured(run: Any = run, tensors: list[Tensor] = tensors) -> Run:
                if device.type == "cpu":
                    return torch.no_grad()(lambda: run(*tensors))
                graph = Captured(run, tensors)
                return lambda: graph(*tensors)

            bench.time(f"engine {name}", tracks, captured, error)
            if given.profile and name in given.profile and bench.wants(f"engine {name}"):
                profile(torch.no_grad()(lambda run=run, tensors=tensors: run(*tensors)))
        network = TorchNetwork(bundle, device, name, engine=engine)
        for tracks in given.tracks:
            bench.time(
                f"engine {name}, streams to weights", tracks, lambda t=tracks, n=network: streaming(bundle, n, t)
            )
            if given.profile and name in given.profile and bench.wants(f"engine {name}, streams to weights"):
                profile(streaming(bundle, network, tracks))
        if device.type == "cuda" and name in ("float16", "bfloat16"):
            bench.time(f"engine {name}, streams to weights", MANY, lambda n=network: streaming(bundle, n, MANY))
        bench.time(f"engine {name}, clip of 4 s", 1, lambda n=network: offline(bundle, n, device, 4.0))
        if bench.wants(f"engine {name}, clip of 4 s"):
            print_stages(offline(bundle, network, device, 4.0), CLIP_STAGES, device)
        lengths = [2 + (7 * place % 41) / 10 for place in range(41)]
        bench.time(f"engine {name}, clips of 2 to 6 s", 1, lambda n=network: offline(bundle, n, device, *lengths))  # noqa: B023
        if given.profile and name in given.profile and bench.wants(f"engine {name}, clip of 4 s"):
            profile(offline(bundle, network, device, 4.0))
        del engine, run, network
        regression(bench, name, device, given.tracks)
    if given.runtime:
        for form, own in bundles.items():
            bench.time(f"ONNX Runtime {form}, clip of 4 s", 1, lambda o=own: offline(o, None, device, 4.0))
    if given.eager:
        for name in [name for name in given.precisions if name != "float64"]:
            precision = precision_of(name)
            with computing(precision):
                eager = Eager(weights, bundle.info, device, precision.speech)
                error = distance(eager(*each(few).values())[0], truth)
                for tracks in given.tracks:
                    block = inputs(bundle, tracks, device)
                    values = list(each(block).values())
                    bench.time(f"torch eager {name}", tracks, lambda e=eager, v=values: lambda: e(*v), error)
            del eager
    if given.runtime:
        for form, own in bundles.items():
            for tf32 in (False, True) if device.type == "cuda" else (False,):
                for tracks in [tracks for tracks in given.tracks if tracks <= given.runtime]:
                    block = inputs(own, tracks, device)
                    name = f"ONNX Runtime {form}{' tf32' if tf32 else ''}"
                    bench.time(name, tracks, lambda o=own, b=block, t=tf32: runtime(o, b, t))


def main() -> None:
    """Fills the graphs and measures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("graphs", nargs="+", type=Path, help="graphs without weights, or bundles that were filled")
    arguments.add_argument("--tracks", nargs="+", type=int, default=[1, 8, 64, 256])
    arguments.add_argument("--device", default="cuda")
    arguments.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), help="of the engine")
    arguments.add_argument("--runtime", type=int, default=64, help="most tracks of ONNX Runtime; 0 leaves it out")
    arguments.add_argument("--no-eager", dest="eager", action="store_false", help="leave eager torch out")
    arguments.add_argument("--profile", nargs="+", choices=list(PRECISIONS), help="precisions whose kernels to print")
    arguments.add_argument("--rows", nargs="+", help="parts of the names of programs; others are left out")
    arguments.add_argument("--out", type=Path, help="where to write .json and .md, without the suffix")
    given = arguments.parse_args()
    if given.precisions is None:
        given.precisions = ["float32", "tf32", "float16", "bfloat16"] if given.device == "cuda" else ["float32"]
    if given.device == "cpu":
        torch.set_num_threads(2)
    else:
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    with tempfile.TemporaryDirectory() as scratch:
        folders = {}
        for graph in given.graphs:
            form = graph.stem.rpartition("-")[2]
            folders[form] = graph if graph.is_dir() else fill(graph, Path(scratch) / form)
        measure(given, folders)


if __name__ == "__main__":
    main()
