"""Python with a module that a sanitizer of the compiler watches.

Python itself is not built with the sanitizer, so its run time is preloaded. Reports go to files,
those of children, too, whose stderr a test may swallow.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("address", "thread")
_LIBRARIES = {  # libstdc++: ASan looks for the functions it replaces before Python loads it
    "address": ["libasan.so", "libstdc++.so"],
    "thread": ["libtsan.so"],
}
_OPTIONS = {
    "address": {
        # leaks: Python leaves memory to the system when it ends; sanitizers.leaks reads the reports
        # of LeakSanitizer where they are asked for.
        # new memory is filled, as far as 1 MB: what is read before it was written changes results.
        "ASAN_OPTIONS": ["detect_leaks=0", "max_malloc_fill_size=1048576"],
        "UBSAN_OPTIONS": ["print_stacktrace=1"],
    },
    "thread": {
        "TSAN_OPTIONS": [
            # Python's and torch's own threads are not compiled with TSan, which cannot see how they
            # synchronize: accesses by them are left out. Ours are seen, also those of memset and
            # memcpy that our code calls; python_tests/native/test_sanitizers.py plants races.
            "ignore_noninstrumented_modules=1",
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
