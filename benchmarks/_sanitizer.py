"""compute-sanitizer on sanitizer_set.py: its command line, and what its output says of our kernels.

A report begins with a line such as "========= Invalid __global__ write of size 4 bytes"; the lines
that belong to it are indented, and one of them says "at <function>+0x...".
"""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from _steps import Outcome

SCRIPT = Path(__file__).parent / "sanitizer_set.py"
FINISHED = "calls, forward and backward"  # what the script prints at its end
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ERRORS = 9  # the exit code that stands for reports
# torch's allocator gives pieces of large blocks, beyond whose ends is memory of others
ENVIRONMENT = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}

_FIRST = re.compile(r"^========= (?! )(.+)$")
_WHERE = re.compile(r"^========= +(?:at|and is at|Device Frame:) *(.+)$")
# the function itself, not one of others that has our types among its arguments
_OURS = re.compile(r"^(?:0x[0-9a-f]+ in )?(?:void )?deeplab_native::.*?(\w+_kernel)\b")
_RACE = re.compile(r"access (?:at|by) (.+?)(?= and | \[|$)")
_ENDS = re.compile(r"COMPUTE-SANITIZER|(ERROR|RACECHECK|LEAK) SUMMARY|Target application")
_REFUSED = re.compile(r".*(not supported|Unable to|Failed to init).*", re.I)


@dataclass(frozen=True)
class Report:
    """kind: its first line without numbers; kernel: ours that it names, or None."""

    kind: str
    kernel: str | None


def find() -> str | None:
    """compute-sanitizer, on PATH or where CUDA's installation has it."""
    places = "/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer"
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=places)


def command(sanitizer: str, tool: str) -> list[str]:
    """Every kernel is watched, torch's too: initcheck has to see what they write."""
    how = [sanitizer, "--tool", tool, "--error-exitcode", str(ERRORS)]
    # reads by torch's own kernels must not use up what is printed before one of ours comes
    how += ["--print-limit", "100000" if tool == "initcheck" else "20"]
    return [*how, "--show-backtrace", "no", sys.executable, str(SCRIPT)]


def reports(output: str) -> list[Report]:
    """All that a tool reported, in its order."""
    found: list[Report] = []
    for line in output.splitlines():
        first, where = _FIRST.match(line), _WHERE.match(line)
        if first and not _ENDS.search(first[1]):
            named = [_OURS.match(place) for place in _RACE.findall(first[1])]
            kind = first[1].partition(" access ")[0] if named else first[1]
            kernel = next((match[1] for match in named if match), None)
            found.append(Report(kind, kernel))
        elif where and found and found[-1].kernel is None and (ours := _OURS.match(where[1])):
            found[-1] = Report(found[-1].kind, ours[1])
    return found


def judge(tool: str, outcome: Outcome, output: str) -> None:
    """Sets the status of a step by what the tool reported.

    initcheck fails on reads by our kernels alone: torch's and CUB's may read what nobody wrote,
    and do not use it. The other tools fail on every report.
    """
    if outcome.status == "timeout":
        return
    found = reports(output)
    ours = Counter(f"{report.kernel}: {report.kind}" for report in found if report.kernel)
    outcome.detail = {"ours": dict(ours), "others": len(found) - ours.total()}
    finished = FINISHED in output and "never called" not in output
    refused = _REFUSED.search(output)
    if tool == "initcheck" and outcome.code == ERRORS and finished and found and not ours:
        outcome.status, outcome.reason = "passed", ""
    elif outcome.code not in (0, ERRORS) and not finished and refused:
        outcome.status, outcome.reason = "skipped", refused[0].strip("= ")
    elif not finished:
        outcome.status = "failed"
        outcome.reason = outcome.reason or "sanitizer_set.py did not come to its end"
    elif ours:
        outcome.status, outcome.reason = "failed", "; ".join(ours)
