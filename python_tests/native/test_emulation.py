"""The emulator itself: its built-ins work, and each planted bug is caught by what should catch it.

Every kernel of emulation/planted*.cu runs in a Python of its own, as the sanitized tests do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from python_tests import sanitizers
from python_tests.emulation.build import build, default_folder
from python_tests.emulation.sanitize import SANITIZERS

CORRECT = ["barriers", "syncwarp", "shuffles", "votes", "atomics", "dynamic_shared", "indices"]
TENSOR = ["copies", "load_matrices", "mma_bfloat16", "mma_float16", "mma_tfloat32"]
PIPELINE_BUGS = ["no_wait_for_copies", "stage_filled_too_early", "misaligned_copy"]
SEEDS = ["0", "1", "7"]  # ascending, descending, shuffled


class Planted:
    """Runs a kernel of planted*.cu as it is ("plain") or under a sanitizer."""

    def __init__(self, kind: str) -> None:
        self.kind, self.options = kind, ()
        self.python, self.environment = [sys.executable], dict(os.environ)
        if kind != "plain":
            try:
                self.environment = sanitizers.check(kind, more=("halt_on_error=1",))
            except sanitizers.UnavailableError as error:
                pytest.skip(f"no {kind} sanitizer: {error}")
            self.python = sanitizers.command(kind)
            self.options = (f"-DSANITIZE={SANITIZERS[kind]}",)
        self.folder = default_folder("" if kind == "plain" else f"-{kind}")
        build(self.folder, *self.options, target="planted")

    def run(self, name: str, *, bug: bool, seed: str = "0") -> tuple[int, str]:
        """The exit status (negative: a signal) and stderr."""
        function = "run_planted_tensor" if name in (*TENSOR, *PIPELINE_BUGS) else "run_planted"
        call = f"ctypes.CDLL({str(self._library())!r}).{function}({name.encode()!r}, {bug})"
        done = subprocess.run(
            [*self.python, "-c", f"import ctypes, os; os._exit({call})"],
            env={**self.environment, "CUDA_EMU_SEED": seed},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stderr

    def _library(self) -> Path:
        return next(self.folder.glob("planted*.so"))


@pytest.fixture(scope="module", params=["plain", "address", "thread"])
def any_kind(request) -> Planted:
    return Planted(request.param)


@pytest.fixture(scope="module")
def plain() -> Planted:
    return Planted("plain")


@pytest.fixture(scope="module")
def address() -> Planted:
    return Planted("address")


@pytest.fixture(scope="module")
def thread() -> Planted:
    return Planted("thread")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CORRECT + TENSOR)
def test_built_ins(name, seed, plain):
    assert plain.run(name, bug=False, seed=seed) == (0, "")


@pytest.mark.parametrize("name", CORRECT + TENSOR)
def test_built_ins_are_right_for_sanitizers_too(name, any_kind):
    assert any_kind.run(name, bug=False) == (0, "")


@pytest.mark.parametrize(
    "name, words",
    [
        ("read_behind", "heap-buffer-overflow"),
        ("write_behind_static", "global-buffer-overflow|insufficient space"),
        ("write_behind_dynamic", "heap-buffer-overflow"),
        ("misaligned", "misaligned address"),
        ("overflow", "signed integer overflow"),
    ],
)
def test_address_and_undefined_behaviour_sanitizers_find(name, words, address):
    status, report = address.run(name, bug=True)
    assert status != 0
    assert re.search(words, report)
    assert "planted.cu" in report


@pytest.mark.parametrize("name", ["no_barrier", "no_second_barrier", "no_syncwarp", "last_writer"])
def test_thread_sanitizer_finds(name, thread):
    status, report = thread.run(name, bug=True)
    assert status != 0
    assert "data race" in report
    assert "planted.cu" in report


@pytest.mark.parametrize(
    "name",
    [
        *("no_barrier", "no_second_barrier", "no_syncwarp", "last_writer", "float_sum"),
        *("no_wait_for_copies", "stage_filled_too_early"),
    ],
)
def test_another_schedule_changes_the_result(name, plain):
    assert len({plain.run(name, bug=True, seed=seed)[0] for seed in SEEDS}) > 1


@pytest.mark.parametrize(
    "name, words",
    [
        ("divergent_barrier", ["barrier deadlock", "__syncthreads, ", "__syncwarp"]),
        ("misaligned_copy", ["copy_async: misaligned address"]),
        ("not_in_mask", ["__shfl_sync: lane", "is not in mask 0000ffff"]),
    ],
)
def test_barriers_that_do_not_fit_end_the_process(name, words, any_kind):
    status, report = any_kind.run(name, bug=True)
    assert status != 0
    assert all(word in report for word in words)
