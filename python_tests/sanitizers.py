"""Python with a module that a sanitizer of the compiler watches.

Python itself is not built with the sanitizer, so its run time is preloaded. Reports go to files,
those of children, too, whose stderr a test may swallow.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COUNTS = "DEEPLAB_NATIVE_COUNTS"  # the environment's name for where sanitized_run.py writes them
NAMES = ("address", "thread")
_LIBRARIES = {  # libstdc++: ASan looks for the functions it replaces before Python loads it
    "address": ["libasan.so", "libstdc++.so"],
    "thread": ["libtsan.so"],
}
_OPTIONS = {
    "address": {
        "ASAN_OPTIONS": [
            # Python leaves memory to the system when it ends; python_tests/native/leaks.py looks
            "detect_leaks=0",
            # new memory is filled: what is read before it was written changes results
            "max_malloc_fill_size=1048576",
        ],
        "UBSAN_OPTIONS": ["print_stacktrace=1"],
    },
    "thread": {
        "TSAN_OPTIONS": [
            # Python and torch are not compiled with TSan, which cannot see how their threads
            # synchronize: what functions of the C library access is left out. Of our own calls it
            # is not: python_tests/native/tsan_memory.cpp
            "ignore_noninstrumented_modules=1",
            # the threads of a pool end with the thread that owns it, or with the process
            "report_thread_leaks=0",
            # a child of a process with threads may start threads: what our pools are made for
            "die_after_fork=0",
            # no second of sleep at the end, in which no thread of ours runs
            "atexit_sleep_ms=0",
            # the stack of the earlier access, also where some hundred thousand came after it
            "history_size=5",
        ]
    },
}


class UnavailableError(Exception):
    """The compiler has no such sanitizer, or it does not run here; says why."""


def environment(
    sanitizer: str, *, reports: Path | None = None, more: tuple[str, ...] = ()
) -> dict[str, str]:
    """What a Python process that loads an instrumented module needs.

    Args:
        sanitizer: "address" or "thread".
        reports: a folder; each process with findings writes them to a file there, not to stderr.
        more: options of the sanitizer, such as "halt_on_error=1".
    """
    compiler = os.environ.get("CXX", "c++")
    paths = []
    for library in _LIBRARIES[sanitizer]:
        try:
            done = subprocess.run(
                [compiler, f"-print-file-name={library}"], capture_output=True, text=True
            )
        except OSError as error:
            raise UnavailableError(f"{compiler}: {error}") from None
        paths.append(done.stdout.strip())
        if not Path(paths[-1]).is_absolute():  # what is not found is printed as it was asked for
            raise UnavailableError(f"{compiler} has no {library}")
    to = [f"log_path={reports / 'report'}"] if reports else []
    options = {
        name: ":".join((*values, *to, *more)) for name, values in _OPTIONS[sanitizer].items()
    }
    return {**os.environ, **options, "LD_PRELOAD": " ".join(paths)}


def command(sanitizer: str) -> list[str]:
    """What to run Python by: TSan of older compilers fails where addresses are too random."""
    setarch = shutil.which("setarch")
    if sanitizer == "thread" and setarch:
        fixed = [setarch, "-R"]
        if subprocess.run([*fixed, "true"], capture_output=True).returncode == 0:
            return [*fixed, sys.executable]
    return [sys.executable]


def check(sanitizer: str, **options: object) -> dict[str, str]:
    """The environment, after a Python has started in it; raises UnavailableError."""
    variables = environment(sanitizer, **options)
    done = subprocess.run(
        [*command(sanitizer), "-c", "pass"], env=variables, capture_output=True, text=True
    )
    if done.returncode:
        raise UnavailableError(f"Python does not start under it: {done.stderr.strip()[-500:]}")
    return variables


@dataclass(frozen=True)
class Run:
    """What a run of pytest under a sanitizer came to.

    Attributes:
        status: pytest's exit status.
        counts: tests by outcome, "passed" and so on.
        reports: what the sanitizer wrote, a text for each process that had something to report.
        seconds, processor_seconds: by the clock, and of all processes.
    """

    status: int
    counts: dict[str, int]
    reports: list[str]
    seconds: float
    processor_seconds: float

    @property
    def failed(self) -> bool:
        """Whether a test failed or the sanitizer found something, or nothing ran."""
        return self.status != 0 or bool(self.reports)

    def figures(self) -> dict[str, Any]:
        """For trust.record."""
        return {
            **{name: self.counts.get(name, 0) for name in ("passed", "skipped", "failed", "error")},
            "findings": len(self.reports),
            "seconds": round(self.seconds),
            "processor_seconds": round(self.processor_seconds),
        }


def run_pytest(sanitizer: str, arguments: Sequence[str], variables: Mapping[str, str]) -> Run:
    """Runs pytest under a sanitizer, and prints what it reported.

    Args:
        sanitizer: "address" or "thread".
        arguments: of pytest.
        variables: of the environment, besides those of the sanitizer.
    """
    with tempfile.TemporaryDirectory() as folder:
        reports, counts = Path(folder, "reports"), Path(folder, "counts.json")
        reports.mkdir()
        environment = {**check(sanitizer, reports=reports), **variables, COUNTS: str(counts)}
        # no output capture: what ends the process would take it along
        pytest = [*command(sanitizer), "-m", "pytest", "-p", "no:cacheprovider", "--capture=sys"]
        start, before = time.monotonic(), _processor_seconds()
        done = subprocess.run(
            [*pytest, "-p", "python_tests.sanitized_run", *arguments], env=environment, cwd=ROOT
        )
        run = Run(
            done.returncode,
            json.loads(counts.read_text()) if counts.exists() else {},
            [path.read_text(errors="replace") for path in sorted(reports.iterdir())],
            time.monotonic() - start,
            _processor_seconds() - before,
        )
    for report in run.reports:
        print(report, file=sys.stderr)
    if run.reports:
        print(f"!!! the {sanitizer} sanitizer: {len(run.reports)} reports, above", file=sys.stderr)
    return run


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
