"""Every benchmark of the operators, one after another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

for name in ("overhead.py", "body.py"):
    print(f"\n## {name}\n", flush=True)
    subprocess.run([sys.executable, str(Path(__file__).parent / name)], check=True)
