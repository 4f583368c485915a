"""The network of a bundle, run by ONNX Runtime straight on torch's tensors, device and stream."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from avatorch.face import sessions
from avatorch.face.bundle import NetworkInfo
from avatorch.face.engine.merge import merged_copies
from avatorch.face.errors import FaceError
from avatorch.face.sessions import SharedSession

MOST_WINDOW_VALUES = 1 << 31
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
MOST_STATE_VALUES = 1 << 24  # of one track
Shapes = Mapping[str, tuple[int | None, ...]]  # None stands for any size


class Network:
    """An ONNX network with named float32 inputs and outputs.

    On a GPU inputs and outputs stay there, and runs are in order with torch's current stream, without waiting for it.
    `tf32` lets products be rounded to TF32, and `tensorrt` takes TensorRT where ONNX Runtime has it.
    """

    def __init__(
        self,
        path: Path,
        inputs: Shapes,
        outputs: Shapes,
        device: torch.device,
        *,
        tf32: bool = False,
        tensorrt: bool = False,
    ) -> None:
        self.device = device
        self.why = ""  # this and not torch
        self._runtime = load_runtime()
        try:
            threads = torch.get_num_threads() if device.type == "cpu" else 0
            identity = sessions.identity_of(path, device, tf32, tensorrt, threads)
        except OSError as error:
            raise FaceError("eOpenFileFailed", f"{path.name}: cannot be read: {error.strerror}") from None
        self._shared = sessions.take(identity, lambda: self._open(path, tf32, tensorrt))
        self._close = weakref.finalize(self, sessions.give_back, identity, self._shared)
        self._close.atexit = False
        session = self._shared.session
        for kind, nodes, expected in (("input", session.get_inputs, inputs), ("output", session.get_outputs, outputs)):
            try:
                found = {node.name: (node.type, node.shape) for node in nodes()}
            except UnicodeDecodeError:
                raise FaceError("eReadFileFailed", f"{path.name}: has an {kind} whose name is not UTF-8") from None
            self._check(path.name, kind, found, expected)

    def close(self) -> None:
        """It cannot be run again; its memory is freed on a CPU, and on a GPU kept for whoever opens the same file."""
        self._close()

    def run(self, inputs: dict[str, Tensor], outputs: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Results by name, of the shapes given."""
        if not self._close.alive:
            raise FaceError("eNotInitialized", "the network is closed, expected it open")
        held = {name: tensor.to(self.device, torch.float32).contiguous() for name, tensor in inputs.items()}
        results = {name: torch.empty(shape, dtype=torch.float32, device=self.device) for name, shape in outputs.items()}
        with self._shared.turn:
            failure = self._run(held, results)
        if failure:  # Not within `except`: its traceback would keep what was bound.
            raise FaceError("eMismatch", f"the network cannot be run: {failure}")
        return results

    def _run(self, inputs: dict[str, Tensor], results: dict[str, Tensor]) -> str:
        """Writes the results; says what is wrong, nothing if all went well."""
        session, stream = self._shared.session, self._shared.stream
        binding, options = session.io_binding(), self._runtime.RunOptions()
        place = (self.device.type, self.device.index or 0)
        number = importlib.import_module("numpy").float32
        for name, tensor in inputs.items():
            binding.bind_input(name, *place, number, tuple(tensor.shape), tensor.data_ptr())
        for name, tensor in results.items():
            binding.bind_output(name, *place, number, tuple(tensor.shape), tensor.data_ptr())
        if stream is None:
            return _failure(session, binding, options)
        # On the session's stream, after what the current one holds, and before what follows there.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        current = torch.cuda.current_stream(self.device)
        stream.wait_stream(current)
        try:
            return _failure(session, binding, options)
        finally:  # A run that failed may have begun.
            current.wait_stream(stream)
            for tensor in (*inputs.values(), *results.values()):
                tensor.record_stream(stream)

    def _open(self, path: Path, tf32: bool, tensorrt: bool) -> SharedSession:
        # Not the current stream: the default one is 0, which ONNX Runtime cannot be told from none.
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        options = self._runtime.SessionOptions()
        options.log_severity_level = 4
        providers: list[Any] = ["CPUExecutionProvider"]
        if stream is not None:
            available = self._runtime.get_available_providers()
            where = {"device_id": self.device.index or 0, "user_compute_stream": str(stream.cuda_stream)}
            wanted = ["TensorrtExecutionProvider"] if tensorrt else []
            for provider in [*wanted, "CUDAExecutionProvider"]:
                if provider not in available:
                    raise RuntimeError(
                        f"onnxruntime has no {provider}, expected it for {self.device}: "
                        "install onnxruntime-gpu instead of onnxruntime (avatorch[face-cuda])"
                    )
            providers.insert(
                0, ("CUDAExecutionProvider", {**where, "use_tf32": int(tf32), "cudnn_conv_algo_search": "HEURISTIC"})
            )
            if tensorrt:
                providers.insert(0, ("TensorrtExecutionProvider", where))
        else:
            options.intra_op_num_threads = torch.get_num_threads()
        try:
            merged = merged_copies(path)
            if merged:  # tensors in other files are still beside this one
                options.add_session_config_entry(EXTERNAL_FOLDER, str(path.parent))
            source = merged or str(path)
            session = self._runtime.InferenceSession(source, options, providers=providers, enable_fallback=0)
        except Exception as error:
            raise FaceError(
                "eReadFileFailed", f"{path.name}: is no network that ONNX Runtime opens: {_first_line(error)}"
            ) from None
        if stream is not None and session.get_providers()[0] == "CPUExecutionProvider":
            raise RuntimeError(
                f"onnxruntime could not start on {self.device}: its CUDA libraries must be those of torch's version"
            )
        return SharedSession(session, stream)

    def _check(self, file: str, kind: str, found: dict[str, Any], expected: Shapes) -> None:
        for name, shape in expected.items():
            if name not in found:
                raise FaceError("eMismatch", f"{file}: has no {kind} '{name}', it has {', '.join(found) or 'none'}")
            element, sizes = found[name]
            fits = len(sizes) == len(shape) and all(
                not isinstance(size, int) or wanted is None or size == wanted
                for size, wanted in zip(sizes, shape, strict=True)
            )
            if not fits or element != "tensor(float)":
                words = ", ".join("*" if size is None else str(size) for size in shape)
                raise FaceError(
                    "eMismatch",
                    f"{file}: {kind} '{name}' is {element} of shape {list(sizes)}, expected float32 [{words}]",
                )
        for name in found:
            if name not in expected:
                raise FaceError("eMismatch", f"{file}: has an unknown {kind} '{name}', expected {', '.join(expected)}")


def open_regression(path: Path, info: NetworkInfo, device: torch.device, **options: bool) -> Network:
    """The network of a regression bundle."""
    emotions = info.implicit_emotions + len(info.emotions)
    inputs = {"input": (None, 1, info.window), "emotion": (None, 1, emotions)}
    return Network(path, inputs, {"result": (None, 1, info.values)}, device, **options)


def open_diffusion(path: Path, info: NetworkInfo, device: torch.device, **options: bool) -> Network:
    """The network of a diffusion bundle."""
    latents = (info.steps, info.gru_layers, None, info.gru_width)
    if (info.steps + 1) * info.frames * info.values > MOST_WINDOW_VALUES:
        raise FaceError(
            "eOutOfRange",
            f"network_info.json: {info.steps} steps of {info.frames} frames of {info.values} values are too many",
        )
    if info.steps * info.gru_layers * info.gru_width > MOST_STATE_VALUES:
        raise FaceError(
            "eOutOfRange",
            f"network_info.json: {info.steps} steps of {info.gru_layers} layers of {info.gru_width} are too many",
        )
    inputs = {
        "window": (None, info.window),
        "identity": (None, len(info.identities)),
        "emotion": (None, info.center_frames, len(info.emotions)),
        "input_latents": latents,
        "noise": (None, info.steps + 1, info.frames, info.values),
    }
    outputs = {"prediction": (None, info.frames, info.values), "output_latents": latents}
    return Network(path, inputs, outputs, device, **options)


def open_network(path: Path, info: NetworkInfo, device: torch.device, **options: bool) -> Network:
    """The network of a bundle of either kind."""
    opened = open_regression if info.kind == "regression" else open_diffusion
    return opened(path, info, device, **options)


def load_runtime() -> ModuleType:
    """The package onnxruntime, which only this part needs."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ImportError(
            "faces need the package onnxruntime: pip install 'avatorch[face]', or 'avatorch[face-cuda]' for a GPU"
        ) from error


def _failure(session: Any, binding: Any, options: Any) -> str:
    """Runs; the first line of what went wrong, if anything did."""
    try:
        session.run_with_iobinding(binding, options)
    except Exception as error:  # ONNX Runtime's exceptions have no common type but this
        return _first_line(error)
    return ""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
