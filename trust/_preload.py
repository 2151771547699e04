"""Libraries of ours that a process loads before all others, to let calls of the system fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def build(name: str, folder: Path) -> Path:
    """The library of trust/<name>.cpp; FileNotFoundError without a compiler."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise FileNotFoundError("g++: not here (install it)")
    library, source = folder / f"lib{name}.so", HERE / f"{name}.cpp"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def is_loaded(name: str) -> bool:
    """Whether this process has it."""
    return f"lib{name}.so" in os.environ.get("LD_PRELOAD", "")


def run(name: str, *options: str) -> Any:
    """`python -m trust.<name> OPTIONS` in a process that has the library: the JSON it prints."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", f"trust.{name}", *options],
            env={**os.environ, "LD_PRELOAD": str(build(name, Path(folder)))},
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(done.stdout)
