"""The interface that programs around NVIDIA's SDK have: samples in, the 52 weights of the skin out."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from avatorch.face.errors import FaceError
from avatorch.face.executor import Part
from avatorch.face.model import Audio2Face, Emotions
from avatorch.face.modes import tensor_of


class Audio2FaceSDK:
    """`process_audio` of a bundle and one of its identities.

    `use_gpu_solver` takes the four steps of ADMM that the SDK's GPU solver takes, and gives what they give; otherwise
    weights are exact, as those of its CPU solver. Everything is computed on `device`, a GPU if there is one.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        character_index: int = 0,
        use_gpu_solver: bool = False,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> None:
        where = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
        method = "admm" if use_gpu_solver else "exact"
        self.face = Audio2Face(
            model_path, character_index, where, **{"weights": Part.SKIN, "method": method, **options}
        )

    def process_audio(self, audio: Any, emotion: Emotions = None) -> dict[str, Any]:
        """`audio` [samples] is float32, mono, at the network's rate: numpy's array or a tensor, and so is the result.

        -> `blendshapes` [frames, 52], `names`, `fps`, `duration` in seconds
        """
        samples = tensor_of(audio)
        if samples.ndim != 1:
            raise FaceError("eInvalidValue", f"audio has shape {list(samples.shape)}, expected one clip [samples]")
        result = self.face(samples, emotion=emotion)
        return {
            "blendshapes": result.weights if isinstance(audio, Tensor) else result.weights.cpu().numpy(),
            "names": list(result.names),
            "fps": int(result.fps) if result.fps.is_integer() else result.fps,
            "duration": len(samples) / self.face.bundle.info.sample_rate,
        }
