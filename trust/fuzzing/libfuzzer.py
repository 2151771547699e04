"""Runs of libFuzzer in a process of its own, and what they say."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .child import Measured
from .target import Target

ROOT = Path(__file__).parent.parent.parent
# of the clock, for loops without an end; processor time has a closer limit (target.SLOWEST), since
# a machine may stop a process for a while
_HANG_SECONDS = 300
_PROCESS_MB = 4096
_STATUS = re.compile(r"^#(\d+)\s.*\bcov: (\d+) ft: (\d+) corp: (\d+)/")
_FINAL = re.compile(r"^stat::number_of_executed_units:\s+(\d+)")
_RSS = re.compile(r"\brss: (\d+)Mb")


class Finished(NamedTuple):
    """Of one run: `artifacts` are (kind, content) of files that a reader does not survive.

    `peak` and `slowest` are those of `child.Measured`, `seconds` the processor's.
    """

    executions: int
    edges: int
    features: int
    corpus: int
    rss_mb: int
    peak: float
    slowest: float
    seconds: float
    artifacts: list[tuple[str, bytes]]


def run(target: Target, corpus: Path, scratch: Path, executions: int, seconds: int = 0) -> Finished:
    """Fuzzes until there are so many executions, or seconds, or a finding."""
    samples, artifacts = scratch / "samples", scratch / "artifacts"
    artifacts.mkdir(exist_ok=True)
    limits = [f"-runs={executions}"]
    if seconds:
        limits.append(f"-max_total_time={seconds}")
    if target.tokens:
        words = scratch / "words"
        words.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens))
        limits.append(f"-dict={words}")
    numbers = {"executions": 0, "edges": 0, "features": 0, "corpus": 0, "rss_mb": 0}
    before = _processor_seconds()
    for line in _child(
        target,
        scratch,
        f"-artifact_prefix={artifacts}/",
        f"-max_len={target.max_len}",
        f"-timeout={_HANG_SECONDS}",
        f"-rss_limit_mb={_PROCESS_MB}",
        "-print_final_stats=1",
        "-reload=0",
        "-report_slow_units=1000000",  # seconds of the clock; see SLOWEST
        *limits,
        str(corpus),
    ):
        if status := _STATUS.match(line):
            values = map(int, status.groups())
            numbers |= zip(("executions", "edges", "features", "corpus"), values, strict=True)
        elif final := _FINAL.match(line):
            numbers["executions"] = int(final[1])
        if rss := _RSS.search(line):
            numbers["rss_mb"] = max(numbers["rss_mb"], int(rss[1]))
        if not line.startswith("INFO: Instrumenting") and "Recommended dict" not in line:
            sys.stderr.write(line)
    found = [(path.name.split("-")[0], path.read_bytes()) for path in artifacts.iterdir()]
    measured = Measured.read(samples)._asdict()
    return Finished(**numbers, **measured, seconds=_processor_seconds() - before, artifacts=found)


def merge(target: Target, corpus: Path, scratch: Path) -> list[bytes]:
    """The fewest files of a corpus that reach what all of it reaches."""
    least = scratch / "least"
    least.mkdir()
    folders = (str(least), str(corpus))
    for line in _child(target, scratch, "-merge=1", f"-max_len={target.max_len}", *folders):
        if line.startswith("MERGE-OUTER"):
            sys.stderr.write(line)
    return [path.read_bytes() for path in least.iterdir()]


def _child(target: Target, scratch: Path, *arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", "trust.fuzzing.child", target.name, str(scratch)]
    command += [str(scratch / "samples"), *arguments]
    (scratch / "samples").touch()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        yield from process.stdout


def _processor_seconds() -> float:
    """Of processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)
