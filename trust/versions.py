"""Runs .ci/versions, and records which versions passed which tests.

The oldest torch with the oldest NumPy and Python, the newest torch, and the drop-in for pydensecrf
on every other Python that is found. Five minutes of two cores; it installs into temporary folders.
What is not on this machine is recorded as not checked.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .record import HERE, record

PARTS = ("oldest", "newest", "drop_ins")
_TORCH = re.compile(r"torch (\S+) NumPy (\S+) Python (\S+)")
_DROP_IN = re.compile(r"the drop-in on Python (\S+)")
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|deselected|error)")


def read(lines: Iterable[str]) -> dict[str, Any]:
    """Figures of what .ci/versions printed: runs with their counts, and what was not checked."""
    runs: list[dict[str, Any]] = []
    missing = []
    now: dict[str, Any] = {}
    of_versions = True  # until .ci/run names another step
    for line in lines:
        if line.startswith("==> "):
            of_versions, now = line == "==> oldest and newest versions", {}
        elif not of_versions:
            continue
        elif said := _TORCH.search(line):
            now = dict(zip(("torch", "numpy", "python"), said.groups(), strict=True))
        elif said := _DROP_IN.search(line):
            now = {"python": said[1], "what": "drop-in"}
        elif line.startswith("!!! NOT CHECKED: "):
            missing.append(line.removeprefix("!!! NOT CHECKED: ").strip())
        elif now and " passed" in line and (counts := _COUNTS.findall(line)):
            # of one environment the whole comes first, then the drop-in
            what = "the drop-in" if runs and runs[-1]["of"] == now else "torch's part"
            what = "the drop-in" if "what" in now else what
            found = {word: int(number) for number, word in counts}
            runs.append({"of": now, "tests": what, **found})
    return {
        "runs": [{**{k: v for k, v in r.pop("of").items() if k != "what"}, **r} for r in runs],
        "environments": len(runs),
        "passed": sum(run["passed"] for run in runs),
        "not_checked": missing,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--log", type=Path, help="of a run that has been, of it or of .ci/run")
    asked = parser.parse_args(arguments)
    if asked.log:
        lines = asked.log.read_text().splitlines()
        # it says of each part how long it took, once that has passed
        return _record(read(lines), all(f"--- {part}: " in "\n".join(lines) for part in PARTS))
    command = [str(HERE.parent / ".ci" / "versions"), *asked.parts]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=HERE.parent
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stderr.write(line)
            lines.append(line.rstrip())
    return _record(read(lines), process.returncode == 0)


def _record(figures: dict[str, Any], ended_well: bool) -> bool:
    passed = ended_well and bool(figures["runs"])
    record("versions", figures, passed=passed, command="python -m trust.versions")
    return not passed


if __name__ == "__main__":
    sys.exit(main())
