"""Speech in, the weights of a face out: Audio2Face models as torch tensors, or on ONNX Runtime, without TensorRT.

    face = Audio2Face("audio2face-3d-v3.0", identity="Claire")
    weights, names, fps, _ = face(samples)

Networks of another structure than the published ones need the package onnxruntime: `pip install avatorch[face]`, or
`avatorch[face-cuda]` for a GPU.
"""

from avatorch.face.accumulators import AudioAccumulator, EmotionAccumulator
from avatorch.face.bundle import Bundle, Identity, NetworkInfo, read_bundle
from avatorch.face.emotion import Audio2Emotion
from avatorch.face.engine.streams import Block, FaceStreams
from avatorch.face.errors import FaceError
from avatorch.face.executor import Executor, Frames, Part
from avatorch.face.interactive import InteractiveExecutor, Layer
from avatorch.face.model import Audio2Face, FaceStream
from avatorch.face.parameters import AnimatorParameters, SolverParameters, SolverPoses
from avatorch.face.rig import Rig
from avatorch.face.sdk import Audio2FaceSDK
from avatorch.face.solver import BlendshapeSolver
from avatorch.face.weights import FaceWeights
from avatorch.face.write import save

__all__ = [
    "AnimatorParameters",
    "Audio2Emotion",
    "Audio2Face",
    "Audio2FaceSDK",
    "AudioAccumulator",
    "BlendshapeSolver",
    "Block",
    "Bundle",
    "EmotionAccumulator",
    "Executor",
    "FaceError",
    "FaceStream",
    "FaceStreams",
    "FaceWeights",
    "Frames",
    "Identity",
    "InteractiveExecutor",
    "Layer",
    "NetworkInfo",
    "Part",
    "Rig",
    "SolverParameters",
    "SolverPoses",
    "read_bundle",
    "save",
]
