"""Runs the steps of gpu_suite.py: one process each, with a time limit, none stopping another."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
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

    def last_line(self) -> str:
        lines = [line for line in self.tail.splitlines() if line.strip()]
        return lines[-1] if lines else "no output"


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

    def run(
        self, name: str, command: list, limit_s: float, environment: dict[str, str] | None = None
    ) -> Outcome:
        """Runs a command to its end or its limit; what it started ends with it."""
        limit_s = min(limit_s, self.end - time.monotonic())
        if limit_s < 5:
            return self.skip(name, "no time is left")
        print(f"==> {name}", flush=True)
        start = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=self.root,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timed_out = False
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        seconds, code = time.monotonic() - start, process.returncode
        status = "timeout" if timed_out else "failed" if code else "passed"
        reason = (
            f"ended after {limit_s:.0f} s" if timed_out else f"exit code {code}" if code else ""
        )
        tail = output.decode(errors="replace")[-TAIL:]
        self.outcomes.append(Outcome(name, status, seconds, reason, code, tail))
        print(f"==> {name}: {status}, {seconds:.0f} s", flush=True)
        if status != "passed":
            print("    " + "\n    ".join(tail.splitlines()[-25:]), flush=True)
        return self.outcomes[-1]

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
