"""Runs the steps of gpu_suite.py: one process each, with a time limit, none stopping another."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

TAIL = 6000  # characters of output that are kept


@dataclass
class Outcome:
    """status: passed, failed, timeout or skipped; reason: why not passed, where it is known."""

    name: str
    status: str
    seconds: float = 0.0
    reason: str = ""
    code: int | None = None
    tail: str = ""
    detail: dict = field(default_factory=dict)

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """A process to run."""

    name: str
    command: Sequence[object]
    limit_s: float
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    """A job's process; `poll` ends it when its time is over."""

    job: Job
    process: subprocess.Popen
    out: Path
    start: float
    limit_s: float
    seconds: float | None = None  # once it has ended
    timed_out: bool = False

    def poll(self) -> bool:
        """Whether it still runs."""
        if self.seconds is not None:
            return False
        elapsed = time.monotonic() - self.start
        if self.process.poll() is None and elapsed < self.limit_s:
            return True
        self.timed_out = self.process.poll() is None
        self.kill()
        self.seconds = elapsed
        return False

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Steps:
    """The steps so far, and the time that is left for others."""

    def __init__(self, root: Path, limit_s: float) -> None:
        self.root = root
        self.end = time.monotonic() + limit_s
        self.outcomes: list[Outcome] = []

    def skip(self, name: str, reason: str) -> Outcome:
        print(f"==> {name}: SKIPPED, {reason}", flush=True)
        self.outcomes.append(Outcome(name, "skipped", reason=reason))
        return self.outcomes[-1]

    def run(self, jobs: Sequence[Job]) -> list[tuple[Outcome, str]]:
        """Runs processes side by side to their ends or limits; of each the outcome and the output.

        What a process started ends with it.
        """
        left = self.end - time.monotonic()
        if left < 5:
            return [(self.skip(job.name, "no time is left"), "") for job in jobs]
        with tempfile.TemporaryDirectory() as folder:
            running = [self._start(job, Path(folder) / str(i), left) for i, job in enumerate(jobs)]
            try:
                while any([process.poll() for process in running]):
                    time.sleep(0.05)
            finally:  # also where this run is interrupted
                for process in running:
                    process.kill()
            return [self._end(process) for process in running]

    def _start(self, job: Job, out: Path, left: float) -> _Running:
        print(f"==> {job.name}", flush=True)
        with open(out, "wb") as file:  # not a pipe, which would fill up unread
            process = subprocess.Popen(
                [str(part) for part in job.command],
                cwd=self.root,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **job.environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _Running(job, process, out, time.monotonic(), min(job.limit_s, left))

    def _end(self, running: _Running) -> tuple[Outcome, str]:
        output = running.out.read_text(errors="replace")
        code = running.process.returncode
        status = "timeout" if running.timed_out else "failed" if code else "passed"
        reason = (
            f"ended after {running.seconds:.0f} s" if running.timed_out else f"exit code {code}"
        )
        reason = "" if status == "passed" else reason
        name, seconds = running.job.name, running.seconds
        outcome = Outcome(name, status, seconds, reason, code, output[-TAIL:])
        self.outcomes.append(outcome)
        return outcome, output

    def show(self, outcome: Outcome) -> None:
        """Says how a step ended, and what it printed last where it did not pass."""
        why = f", {outcome.reason}" if outcome.reason else ""
        print(f"==> {outcome.name}: {outcome.status}, {outcome.seconds:.0f} s{why}", flush=True)
        if outcome.status in ("failed", "timeout"):
            print("    " + "\n    ".join(outcome.tail.splitlines()[-25:]), flush=True)

    @staticmethod
    def junit(report: Path) -> dict:
        """Counts, and the names of the tests that failed, of a JUnit file."""
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))
        failed, skipped = [], 0
        for case in cases:
            bad = case.find("failure") if case.find("failure") is not None else case.find("error")
            skipped += case.find("skipped") is not None
            if bad is not None:
                why = (bad.get("message") or "").splitlines()
                failed.append(f"{case.get('name')}: {why[0][:200] if why else ''}")
        passed = len(cases) - len(failed) - skipped
        summary = f"{passed} passed, {len(failed)} failed, {skipped} skipped"
        return {"summary": summary, "passed": passed, "failed": failed, "skipped": skipped}
