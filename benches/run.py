"""Every benchmark of the operators, one after another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

for name in ("overhead.py", "body.py", "fit.py", "face_parts.py", "mel_gpu.py"):
    print(f"\n## {name}\n", flush=True)
    options = ["1", "8", "--device", "cpu"] if name == "mel_gpu.py" and not torch.cuda.is_available() else []
    subprocess.run([sys.executable, str(Path(__file__).parent / name), *options], check=True)
