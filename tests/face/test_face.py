"""What users touch: clips, streams, files, the command line."""

from __future__ import annotations

import csv
import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from avatorch import cli
from avatorch.face import Audio2Face, Audio2FaceSDK, FaceError, Part, save
from avatorch.face.resample import Resampler, resample
from face import bundles


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that opens the jaw when it is loud and shuts the eyes when it is not."""
    sizes = bundles.Sizes(vertices=160, rate=16000, window=4000, emotions=10)
    return bundles.make_regression(tmp_path_factory.mktemp("talking"), sizes, talking=True)


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.make_diffusion(tmp_path_factory.mktemp("diffusion"))


def syllables(seconds: float = 2.0, rate: int = 16000) -> Tensor:
    """Loud and quiet by turns, three times a second."""
    time = torch.arange(int(seconds * rate)) / rate
    return 0.35 * (torch.sin(2 * torch.pi * 180 * time) * (torch.sin(2 * torch.pi * 1.5 * time) ** 2))


def test_the_jaw_follows_the_voice_and_the_lids_close(model: Path) -> None:
    weights, names, fps, counts = Audio2Face(model)(syllables())
    assert (weights.shape, fps, counts) == ((120, 59), 60.0, (120,))
    jaw, lids = weights[:, names.index("jawOpen")], weights[:, names.index("eyeBlinkLeft")]
    loud = syllables().abs().unfold(0, 534, 266)[:118].mean(1)
    assert jaw.max() > 0.3 and jaw.min() < 0.1 and torch.corrcoef(torch.stack([jaw[:118], loud]))[0, 1] > 0.9
    assert lids.max() > 0.3 and torch.corrcoef(torch.stack([jaw, lids]))[0, 1] < -0.8


def test_batches_of_ragged_clips(diffusion: Path) -> None:
    face = Audio2Face(diffusion, "Bo")
    clips = [torch.randn(size) * 0.1 for size in (3000, 1, 777, 0)]
    together = face(clips, emotion={"disgust": 0.5})
    assert together.counts == (30, 1, 8, 0) and together.weights.shape == (4, 30, 59)
    for index, clip in enumerate(clips):
        alone = face(clip, emotion={"disgust": 0.5}).weights if len(clip) else torch.zeros(0, 59)
        assert torch.equal(together.weights[index, : len(alone)], alone)
        assert not together.weights[index, len(alone) :].any()
    assert torch.equal(face(torch.stack([clips[0]] * 2), emotion={"disgust": 0.5}).weights[1], together.weights[0])
    assert face([]).weights.shape[0] == 0


def test_emotions_have_an_effect(diffusion: Path) -> None:
    face, clip = Audio2Face(diffusion), torch.randn(1500)
    calm, afraid = face(clip).weights, face(clip, emotion=torch.tensor([0.0, 0.0, 0.0, 1.0])).weights
    assert not torch.equal(calm, afraid)
    later = face(clip, emotion=[(0.0, torch.zeros(4)), (0.5, {"anger": 1.0})]).weights
    assert not torch.equal(later, calm)
    with pytest.raises(FaceError, match="there is no emotion 'joy'"):
        face(clip, emotion={"joy": 1.0})


@pytest.mark.parametrize("rate", [None, 3000])
def test_a_stream_gives_the_same_bits(diffusion: Path, rate: int | None) -> None:
    face, clip = Audio2Face(diffusion, settings={"skin_strength": 0.8}), torch.randn(5000) * 0.1
    expected = face(clip, rate).weights
    stream = face.stream(rate)
    parts = [stream.push(part) for part in clip.split(171)]
    assert sum(map(len, parts)) > 0
    assert torch.equal(torch.cat([*parts, stream.close()]), expected)


def test_resampling() -> None:
    """A tone keeps its pitch, strength and phase; chunks change nothing; what the new rate cannot hold goes."""
    for source, target in ((48000, 16000), (44100, 16000), (8000, 16000), (16000, 11025)):
        time = torch.arange(source // 2, dtype=torch.float64) / source
        found = resample(torch.sin(2 * torch.pi * 700 * time).float(), source, target)
        assert len(found) == -(-len(time) * target // source)
        expected = torch.sin(2 * torch.pi * 700 * torch.arange(len(found), dtype=torch.float64) / target)
        inside = slice(200, -200)
        torch.testing.assert_close(found[inside].double(), expected[inside], atol=2e-3, rtol=0)
        streamed, clip = Resampler(source, target), torch.randn(4000)
        parts = torch.cat([*(streamed.push(part) for part in clip.split(137)), streamed.flush()])
        assert torch.equal(parts, resample(clip, source, target))
    time = torch.arange(24000) / 48000
    assert resample(torch.sin(2 * torch.pi * 11000 * time), 48000, 16000)[200:-200].abs().max() < 1e-2
    # Without a common factor there is a phase for each result: taps are not made ahead.
    streamed, clip = Resampler(767_999, 16_000), torch.randn(9000)
    parts = torch.cat([*(streamed.push(part) for part in clip.split(1999)), streamed.flush()])
    assert len(parts) == 188 and torch.equal(parts, resample(clip, 767_999, 16_000))
    torch.testing.assert_close(parts, resample(clip, 768_000, 16_000), atol=1e-3, rtol=0)
    with pytest.raises(FaceError, match="sample_rate is 10 Hz, expected 1000 to 768000"):
        resample(torch.zeros(3), 10, 16000)


def test_the_sdk_interface(model: Path) -> None:
    sdk = Audio2FaceSDK(model, 0, use_gpu_solver=False, device="cpu")
    samples = syllables(1.0)
    result = sdk.process_audio(samples.numpy())
    assert isinstance(result["blendshapes"], np.ndarray) and result["blendshapes"].shape == (60, 52)
    assert (result["fps"], result["duration"], result["names"][17]) == (60, 1.0, "jawOpen")
    tensors = sdk.process_audio(samples)["blendshapes"]
    np.testing.assert_array_equal(tensors.numpy(), result["blendshapes"])
    admm = Audio2FaceSDK(model, use_gpu_solver=True, device="cpu").process_audio(samples)["blendshapes"]
    assert 0 < (admm - tensors).abs().max() < 0.5
    with pytest.raises(FaceError, match="audio has a clip of"):
        sdk.process_audio(np.zeros(100, np.int16))


LIVE_LINK_FACE = (
    "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,"
    "EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,"
    "EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,"
    "MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,"
    "MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,"
    "MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,"
    "BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,"
    "TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)


def test_weights_as_files(tmp_path: Path) -> None:
    names = ("jawOpen", "tongueOut", "tongueUp")
    weights = torch.tensor([[0.25, 0.5, 9.0]] * 61)
    for ending in ("csv", "json", "npz"):
        save(tmp_path / f"weights.{ending}", weights, names, 60.0)
    rows = list(csv.reader((tmp_path / "weights.csv").open()))
    assert ",".join(rows[0]) == LIVE_LINK_FACE
    assert rows[1][:2] == ["00:00:00:00.000", "61"] and rows[61][0] == "00:00:01:00.000"
    row = dict(zip(rows[0], rows[1], strict=True))
    assert (row.pop("JawOpen"), row.pop("TongueOut")) == ("0.25", "0.5")
    assert set(list(row.values())[2:]) == {"0"}
    content = json.loads((tmp_path / "weights.json").read_text())
    assert content["facsNames"] == list(names) and content["weightMat"][3] == [0.25, 0.5, 9.0]
    assert (content["numPoses"], content["numFrames"]) == (3, 61)
    assert '"exportFps": 60,' in (tmp_path / "weights.json").read_text()
    stored = np.load(tmp_path / "weights.npz")
    np.testing.assert_array_equal(stored["weights"], weights)
    with pytest.raises(ValueError, match=r"weights are written as .csv, .json, .npz, not as .txt"):
        save(tmp_path / "weights.txt", weights, names, 60.0)
    with pytest.raises(ValueError, match="no weight has one of ARKit's names"):
        save(tmp_path / "weights.csv", weights, ("smile", "tongueUp", "tongueDown"), 60.0)
    save(tmp_path / "empty.csv", weights[:0], names, 60.0)
    assert (tmp_path / "empty.csv").read_text().count("\n") == 1


def test_the_command_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48000)
        sound = (syllables(1.0, 48000).numpy() * 32767).astype("<i2")
        file.writeframes(np.repeat(sound, 2).tobytes())
    outputs = {name: str(tmp_path / f"out.{name}") for name in ("glb", "png", "csv")}
    assert cli.main(["face", str(tmp_path / "speech.wav"), "--model", str(model), "--glb", outputs["glb"],
                     "--png", outputs["png"], "--out", outputs["csv"], "--set", "skin_strength=1.2"]) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "1.00 s of Ada -> 60 frames of 59 weights, 60 a second" in said and f"wrote {outputs['glb']}" in said
    animation = _weights_of_glb(Path(outputs["glb"]))
    rows = list(csv.DictReader(Path(outputs["csv"]).read_text().splitlines()))
    np.testing.assert_allclose(animation[:, 17], [float(row["JawOpen"]) for row in rows], atol=1e-6)
    assert animation[:, 17].max() > 0.3 and animation[:, 0].max() > 0.3 and np.ptp(animation[:, 17]) > 0.25
    assert Path(outputs["png"]).read_bytes().startswith(b"\x89PNG")
    assert cli.main(["face", "info", str(model)]) == 0
    assert "skin 43 of 52 poses active" in capsys.readouterr().out
    speech = [str(tmp_path / "speech.wav"), "--model", str(model)]
    for wrong, sentence in (
        ([*speech, "--out", str(tmp_path / "weights.txt")], "weights are written as .csv, .json, .npz, not as .txt"),
        ([*speech, "--png", str(tmp_path / "none/sheet.png")], "there is no folder"),
        ([speech[0], "other", *speech[1:]], "'other' is one word too many"),
        ([*speech, "--device", "toaster"], "device is 'toaster', expected cpu or cuda"),
    ):  # said before anything is computed
        assert cli.main(["face", *wrong]) == 1
        refused = capsys.readouterr()
        assert sentence in refused.err and refused.out == ""
    for wrong in (["speech.wav"], ["info"], [outputs["png"], "--model", str(model)], ["info", str(tmp_path / "none")]):
        assert cli.main(["face", *wrong]) == 1
        assert capsys.readouterr().err.startswith("avatorch face: ")


def _weights_of_glb(path: Path) -> np.ndarray:
    data = path.read_bytes()
    size = int.from_bytes(data[12:16], "little")
    content, binary = json.loads(data[20 : 20 + size]), data[28 + size :]
    animation = content["animations"][0]
    (channel,) = (channel for channel in animation["channels"] if channel["target"]["path"] == "weights")
    accessor = content["accessors"][animation["samplers"][channel["sampler"]]["output"]]
    view = content["bufferViews"][accessor["bufferView"]]
    flat = np.frombuffer(binary, np.float32, accessor["count"], view["byteOffset"])
    return flat.reshape(-1, 52)


def test_progress_and_parts(model: Path) -> None:
    seen: list[tuple[int, int]] = []
    face = Audio2Face(model, weights=Part.TONGUE)
    result = face(syllables(1.0), progress=lambda done, total: seen.append((done, total)))
    assert (
        result.names == tuple(f"tongue{name}" for name in bundles.Sizes.tongue_poses)
        and seen[-1] == (60, 60)
        and len(seen) == 2
    )
