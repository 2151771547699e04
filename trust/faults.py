"""Lets what a command or a call asks of the system fail, and records what came of it.

Two parts: every command that writes, on a disk that is full, read-only or broken from its n-th call
on (trust/failing_files.py); and every native call while its n-th allocation fails, with one thread
and with two (trust/failing_allocations.py). With `--most 0` every n, which takes some hours; by
default up to 12 of each, evenly spread. It needs g++ and, for two of the commands, the extras.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import failing_allocations, failing_files
from .record import record

COMMANDS = ("crf", "segment", "evaluate", "crf-search", "convert-weights")
WITH_THREADS = ("dense_crf", "MeanField", "pydensecrf")  # a thread that fails, others that wait


def of_files(found: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of `failing_files`."""
    outcomes = sum((Counter(one["outcomes"]) for one in found.values()), Counter[str]())
    return {
        "commands": len(found),
        "file_faults": outcomes.total(),
        "said": outcomes["said"],
        "not_needed": outcomes["not needed"],
        "file_wrong": outcomes.total() - outcomes["said"] - outcomes["not needed"],
        "wrong_files": {name: one["wrong"] for name, one in found.items() if one["wrong"]},
    }


def of_allocations(found: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of `failing_allocations`."""
    outcomes = sum((Counter(one["outcomes"]) for one in found.values()), Counter[str]())
    good = {o: n for o, n in outcomes.items() if failing_allocations.is_good(o)}
    return {
        "calls": len(found),
        "memory_faults": outcomes.total(),
        "memory_errors": sum(n for outcome, n in good.items() if outcome != "right"),
        "memory_right": outcomes["right"],
        "memory_wrong": sum(one["bad"] for one in found.values()),
        "most_left_kb": round(max((one["left_bytes"] for one in found.values()), default=0) / 1e3),
        "wrong_memory": {name: one for name, one in found.items() if one["bad"]},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=12, help="faults of each kind and command")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), help="parts of names")
    parser.add_argument("--calls", default="", help="part of the names of native calls")
    parser.add_argument("--results", type=Path, help="folder of the result, in place of trust's")
    asked = parser.parse_args(arguments)
    files: dict[str, Any] = {}
    for command in asked.commands:
        files |= failing_files.run(command, asked.most)
    memory = failing_allocations.run(asked.calls, asked.most)
    for name in WITH_THREADS if not asked.calls else ():
        found = failing_allocations.run(name, asked.most, threads=2)
        memory |= {f"{n}, two threads": one for n, one in found.items()}
    figures = {**of_files(files), **of_allocations(memory), "most_of_each": asked.most}
    figures["faults"] = figures["file_faults"] + figures["memory_faults"]
    passed = figures["file_wrong"] == figures["memory_wrong"] == 0 < figures["faults"]
    how = {} if asked.results is None else {"folder": asked.results}
    # as it was asked for
    command = " ".join(["python -m trust.faults", *(sys.argv[1:] if arguments is None else ())])
    record("faults", figures, passed=passed, command=command, **how)
    return not passed


if __name__ == "__main__":
    sys.exit(main())
