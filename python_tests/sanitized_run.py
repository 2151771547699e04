"""The plugin of pytest in a run under a sanitizer: what is watched is what tests load; counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from python_tests.sanitizers import COUNTS

# The environment's names, also in native/instrumented/sitecustomize.py: for the instrumented
# module, and for the folder in which every process that loads it leaves a file
MODULE = "DEEPLAB_NATIVE_C"
LOADED = "DEEPLAB_NATIVE_LOADED"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Fails where `_C`, here or in a Python that a test starts, is not the instrumented one."""
    expected = os.environ.get(MODULE)
    if expected is None or hasattr(session.config, "workerinput"):
        return
    code = "from deeplab_native import _C; print(_C.__file__)"
    for options in ([], ["-P"] if sys.version_info >= (3, 11) else []):
        done = subprocess.run(
            [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True
        )
        if done.stdout.strip() != expected:
            pytest.exit(f"tests would load {done.stdout.strip()}, not {expected}", returncode=4)
    from deeplab_native import _C

    if _C.__file__ != expected:
        pytest.exit(f"this process has {_C.__file__}, not {expected}", returncode=4)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Writes how many tests there were of each outcome."""
    counts = {name: len(tests) for name, tests in terminalreporter.stats.items() if name}
    Path(os.environ[COUNTS]).write_text(json.dumps(counts))
