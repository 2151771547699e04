"""The CUDA kernels without a GPU: emulated, as the tests build them."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path


def on_the_emulated_kernels() -> AbstractContextManager[None]:
    """Within, CPU tensors take every op's CUDA implementation and the emulator's kernels."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from python_tests.emulation.build import load_emulator, on_the_emulator

    return on_the_emulator(load_emulator())
