"""avatorch.audio beside other programs: Whisper, sound from files; the command line, the example."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
import whisper

from audio.signals import signals, speech
from avatorch import cli
from avatorch.audio import MelSpectrogram, load_wav
from avatorch.picture import write_png

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import optimise_waveform


@pytest.mark.parametrize("padding", [0, 480000])
def test_whisper_is_whispers(padding: int) -> None:
    """Of a whole file with zeros appended, and of clips that are 30 s long by then."""
    samples = torch.from_numpy(speech(3 * 16000 + 55))
    theirs = whisper.log_mel_spectrogram(samples, padding=padding)
    found = MelSpectrogram("whisper", padding=f"append:{padding}")(samples)
    assert found.shape == theirs.shape
    assert (found - theirs).abs().max() <= 1e-4
    trimmed = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples))
    assert (MelSpectrogram("whisper", padding="to:480000")(samples) - trimmed).abs().max() <= 1e-4


def test_a_batch_is_whispers_batch_with_the_loudest_of_the_batch() -> None:
    clips = torch.from_numpy(np.stack([0.001 * signals(16000)["noise"], signals(16000)["speech"]]))
    found = MelSpectrogram("whisper", loudest="batch")(clips)
    assert (found - whisper.log_mel_spectrogram(clips)).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("subtype", "scale"), [("PCM_U8", 128), ("PCM_16", 32768), ("PCM_24", 2**23), ("FLOAT", 2**30)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_files(tmp_path: Path, subtype: str, scale: int, channels: int) -> None:
    samples = np.random.default_rng(3).uniform(-0.9, 0.9, (1001, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 22050, subtype=subtype)
    sound = load_wav(tmp_path / "a.wav")
    assert sound.sample_rate == 22050 and sound.samples.shape == (channels, 1001)
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    assert np.array_equal(sound.samples.T.numpy(), stored)
    assert np.abs(stored - samples).max() <= 1 / scale
    other = load_wav(tmp_path / "a.wav", 16000)
    assert other.sample_rate == 16000 and other.samples.shape == (channels, -(-1001 * 16000 // 22050))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_wav_files_with_the_longer_header(tmp_path: Path, subtype: str) -> None:
    samples = np.random.default_rng(3).uniform(-0.9, 0.9, (101, 2))
    soundfile.write(tmp_path / "a.wav", samples, 16000, format="WAVEX", subtype=subtype)
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert np.array_equal(load_wav(tmp_path / "a.wav").samples.T.numpy(), stored)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("WAV", "IMA_ADPCM"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
    ],
)
def test_other_formats_are_sentences(tmp_path: Path, kind: str, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 16000, format=kind, subtype=subtype)
    with pytest.raises(ValueError, match=r"a\.wav: not a WAV file: ") as caught:
        load_wav(tmp_path / "a.wav")
    assert "\n" not in str(caught.value)


def test_a_resampled_file_is_torchaudios_almost(tmp_path: Path) -> None:
    samples = speech(44100, 44100)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    found = load_wav(tmp_path / "a.wav", 16000).samples[0]
    theirs = torchaudio.functional.resample(torch.from_numpy(samples), 44100, 16000, lowpass_filter_width=64)
    assert (found - theirs)[200:-200].abs().max() <= 0.02 * theirs.abs().max()


def test_broken_files_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.wav"
    with pytest.raises(FileNotFoundError, match=r"broken\.wav"):
        load_wav(path)
    good = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 44, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16, b"data", 8)
    for content in (b"", b"RIFF", b"ID3 not a wave file", good, good[:20], good[:40] + b"\xff\xff\xff\xff" + b"12"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.wav: ") as caught:
            load_wav(path)
        assert "\n" not in str(caught.value)
    soundfile.write(path, np.array([0.0, 0.5, np.nan, 0.5], np.float32), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"broken\.wav: sample 2 is NaN, expected a finite number"):
        load_wav(path)
    assert cli.main(["mel", str(path)]) == 1
    assert "avatorch mel: " in (told := capsys.readouterr().err) and "sample 2 is NaN" in told
    path.write_bytes(good + bytes(8))
    with pytest.raises(ValueError, match=r"broken\.wav: the rate resampled to is 5 Hz, expected 1000 to 768000"):
        load_wav(path, 5)
    path.write_bytes(good[:24] + struct.pack("<II", 999983, 2 * 999983) + good[32:] + bytes(8))
    with pytest.raises(ValueError, match=r"broken\.wav: the rate resampled from is 999983 Hz, expected 1000 to 768000"):
        load_wav(path, 16000)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "in.wav", np.stack([speech(30000)] * 2, 1), 16000, subtype="FLOAT")
    files = [str(tmp_path / name) for name in ("in.wav", "mel.npy", "mel.png")]
    assert (
        cli.main(["mel", files[0], "--dialect", "whisper", "--set", "n_mels=40", "--out", files[1], "--png", files[2]])
        == 0
    )
    values = np.load(files[1])
    expected = MelSpectrogram("whisper", n_mels=40)(load_wav(files[0]).samples.mean(0))
    assert values.dtype == np.float32 and np.array_equal(values, expected.numpy())
    assert "1.88 s -> [40, 187]" in capsys.readouterr().out
    assert cli.main(["mel", files[0], "--dialect", "kaldi", "--out", files[1], "--png", files[2]]) == 0
    assert np.load(files[1]).shape == (186, 23)
    energetic = ["--set", "energy=raw", "dither=1e-5"]
    assert cli.main(["mel", files[0], "--dialect", "kaldi", *energetic, "--out", files[1], "--png", files[2]]) == 0
    assert np.load(files[1]).shape == (186, 24)
    assert cli.main(["mel", str(tmp_path / "none.wav")]) == 1
    assert "avatorch mel: " in capsys.readouterr().err


def test_a_picture_shows_the_spectrogram(tmp_path: Path) -> None:
    spectrogram = torch.zeros(40, 100)
    spectrogram[30, 70] = 1.0
    write_png(tmp_path / "a.png", spectrogram, 0.01)
    content = (tmp_path / "a.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    at = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[at - 4 : at])
    rows = np.frombuffer(zlib.decompress(content[at + 4 : at + 4 + length]), np.uint8).reshape(height, 1 + 3 * width)
    pixels = rows[:, 1:].reshape(height, width, 3)
    bright = np.argwhere((pixels == (250, 250, 190)).all(2))
    assert len(bright) == 8 * 6  # a band is 8 pixels tall, a frame 6 wide
    assert bright.min(0).tolist() == [12 + 8 * (39 - 30), 58 + 6 * 70]
    for bad in (torch.zeros(0, 5), torch.full((3, 3), torch.nan)):
        with pytest.raises(ValueError, match="cannot be drawn"):
            write_png(tmp_path / "b.png", bad, 0.01)


def test_the_example_finds_a_waveform_of_the_spectrogram(tmp_path: Path) -> None:
    _, losses = optimise_waveform.optimise(optimise_waveform.melody(0.1), 60)
    assert losses[-1] < 0.5 * losses[0]
    command = [optimise_waveform.__file__, "--seconds", "0.1", "--steps", "3", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True)
    assert "mean difference" in done.stdout
    assert load_wav(tmp_path / "out" / "mel_found.wav").samples.shape == (1, 1600)
