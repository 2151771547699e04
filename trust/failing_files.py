"""Every call by which a command changes its folder fails once: what comes of it.

A disk that is full from the first write on, from the second, and so on to the last; or that gives
an input/output error once. Every outcome must be one line that names a file and says what to do,
exit code 1, no file that is not whole and none that is temporary; or, where the write did not
matter, the whole result. The same command, given once more when the disk has room, must then end
with the files of an undisturbed run. `python -m trust.faults` runs and records it; alone it prints
what it found. Half an hour; it needs g++.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import _preload

NAME = "failing_files"
KINDS = {  # error, and whether all that follow fail, too
    "disk full": (errno.ENOSPC, True),
    "read-only": (errno.EROFS, True),
    "input/output error": (errno.EIO, False),
}
_WAYS = {"said", "not needed"}  # outcomes that are promised


class Fault(NamedTuple):
    kind: str
    number: int


def run(which: str = "", most: int = 0, kinds: Sequence[str] = tuple(KINDS)) -> dict[str, Any]:
    """In a process of its own, what `main` prints; the arguments are its options."""
    found: dict[str, Any] = _preload.run(
        NAME, "--which", which, "--most", str(most), "--kinds", *kinds
    )
    return found


def _arm(folder: Path | None, fault: Fault | None = None) -> None:
    library = ctypes.CDLL(None)
    library.fail_file.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    error, sticky = KINDS[fault.kind] if fault else (0, False)
    name = b"" if folder is None else os.fsencode(folder)
    library.fail_file(name, fault.number if fault else 0, error, sticky)


def _what_is_wrong(said: Any, out: Path, whole: dict[str, bytes], fault: Fault) -> str | None:
    """None where a failed command did what is promised."""
    from deeplab_native._files import TEMPORARY

    from ._file_cases import contents

    lines = said.err.splitlines()
    if said.code != 1:
        return f"exit code {said.code}: {lines[-1:]}"
    if "Traceback" in said.err or not any(line.startswith("error: ") for line in lines):
        return f"no line says it: {lines[-2:]}"
    why = os.strerror(KINDS[fault.kind][0])
    of_record = "disk is full", "disk I/O error", "unable to open", "readonly"  # SQLite's words
    said_why = [line for line in lines if why in line or any(w in line for w in of_record)]
    if not said_why:
        return f"the cause is not said: {lines[-1]}"
    if not any("out" in line and "(--debug" not in line for line in said_why):
        return f"no file or no advice: {said_why[-1]}"
    for name, content in contents(out).items():
        if TEMPORARY.fullmatch(Path(name).name):
            return f"left over: {name}"
        if name.endswith("-journal"):
            continue  # of SQLite, which plays it back
        if name in whole and content != whole[name]:
            return f"not whole: {name}"
    return None


def _one(command: Any, out: Path, whole: dict[str, bytes], fault: Fault) -> tuple[str, str]:
    """The outcome, and what is wrong."""
    from ._file_cases import call, contents

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    _arm(out, fault)
    try:
        said = call(command.arguments)
    finally:
        _arm(None)
    if said.code == 0 and contents(out) == whole:
        return "not needed", ""
    if wrong := _what_is_wrong(said, out, whole, fault):
        return "wrong", wrong
    there = any(out.rglob("iteration_*.safetensors")) or not command.again
    again = call([*command.arguments, *(command.again if there else ())])
    if again.code != 0 or contents(out) != whole:
        if again.code == 0:
            other = [n for n, c in contents(out).items() if whole.get(n) != c]
            return "wrong", f"the same command once more: other files {other}"
        return "wrong", f"the same command once more: {again.code}, {again.err[-300:]}"
    return "said", ""


def _faults_of(command: Any, out: Path, most: int, kinds: Sequence[str]) -> dict[str, Any]:
    from ._file_cases import call, contents

    out.mkdir(exist_ok=True)
    first = call(command.arguments)  # what is made once in a process: caches of fonts and the like
    shutil.rmtree(out)
    out.mkdir()
    _arm(out)
    said = call(command.arguments)
    count = ctypes.CDLL(None).file_calls()
    _arm(None)
    whole = contents(out)
    if first.code or said.code:
        return {"calls": 0, "outcomes": {"wrong": 1}, "wrong": [f"undisturbed: {said.err[-300:]}"]}
    step = max(1, -(-count // most)) if most else 1
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for kind in kinds:
        for number in range(1, count + 1, step):
            outcome, why = _one(command, out, whole, Fault(kind, number))
            outcomes[outcome] += 1
            if why:
                wrong.append(f"{kind} at call {number} of {count}: {why}")
    return {"calls": count, "outcomes": outcomes, "wrong": wrong}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--which", default="", help="part of a command's name; all without it")
    parser.add_argument("--most", type=int, default=0, help="calls of a command; 0: every one")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    asked = parser.parse_args(arguments)
    if not _preload.is_loaded(NAME):
        print(json.dumps(run(asked.which, asked.most, asked.kinds), indent=1))
        return 0
    from ._file_cases import commands, within, write_inputs

    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_inputs(folder)
        with within(folder):
            for title, command in commands().items():
                if asked.which not in title:
                    continue
                found[title] = _faults_of(command, folder / "out", asked.most, asked.kinds)
                shutil.rmtree(folder / "out", ignore_errors=True)
                print(f"{title}: {found[title]}", file=sys.stderr, flush=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
