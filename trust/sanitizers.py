"""Runs every test of the native code under a sanitizer of the compiler, and records the findings.

    python -m trust.sanitizers cpu address         # ASan, UBSan and LeakSanitizer
    python -m trust.sanitizers cpu thread          # TSan
    python -m trust.sanitizers emulated address    # the CUDA kernels, emulated
    python -m trust.sanitizers emulated thread

One core takes some ten minutes for the CPU's kernels, up to hours for the emulated ones. With
`--selection`, the tests that .ci/run has: minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from python_tests.emulation import sanitize as emulated
from python_tests.native import sanitize as cpu
from python_tests.sanitizers import NAMES, UnavailableError

from .record import RESULTS, record


def measure(code: str, sanitizer: str, arguments: list[str]) -> tuple[dict[str, Any], bool]:
    """Figures of a run, and whether nothing failed and nothing was found.

    Args:
        code: "cpu" or "emulated".
        sanitizer: "address" or "thread".
        arguments: of that code's sanitize.py.
    """
    if code == "emulated":
        run, ran, there = emulated.run(sanitizer, arguments)
        figures = {**run.figures(), "kernels_ran": len(ran), "kernels": len(there)}
        return figures, not run.failed
    result = cpu.run(sanitizer, arguments)
    figures = {**result.run.figures(), "processes": result.processes}
    if sanitizer == "address":
        figures["leaks"] = len(result.leaks)
    return figures, not result.failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trust.sanitizers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("code", choices=("cpu", "emulated"), help="which kernels")
    parser.add_argument("sanitizer", choices=NAMES)
    parser.add_argument(
        "--selection", action="store_true", help="the tests that .ci/run has, and not all"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    chosen = parser.parse_args(arguments)
    try:
        figures, passed = measure(
            chosen.code, chosen.sanitizer, [] if chosen.selection else ["--all"]
        )
    except UnavailableError as error:
        parser.exit(2, f"the {chosen.sanitizer} sanitizer is not here: {error}\n")
    name = f"sanitizers_{'emulated_' if chosen.code == 'emulated' else ''}{chosen.sanitizer}"
    command = f"python -m trust.sanitizers {chosen.code} {chosen.sanitizer}"
    if chosen.selection:
        command += " --selection"
    path = record(name, figures, passed=passed, command=command, folder=chosen.results)
    print(f"{path}: {figures}", file=sys.stderr)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
