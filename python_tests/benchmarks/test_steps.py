"""Processes side by side, with limits, and what is kept of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)


@pytest.fixture
def steps(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _steps

    def new(limit_s=600.0):
        return _steps.Steps(tmp_path, limit_s)

    new.job = lambda name, code, limit_s=600.0, **environment: _steps.Job(
        name, [sys.executable, "-c", code], limit_s, environment
    )
    return new


def test_outcomes(steps):
    run = steps()
    loud = "import sys; print('x' * 200_000); sys.exit(3)"  # more than a pipe holds
    asks = "import os; print(os.environ['A'])"
    (good, printed), (bad, loud_output) = run.run(
        [steps.job("good", asks, A="from outside"), steps.job("bad", loud)]
    )
    assert (good.status, good.reason, printed) == ("passed", "", "from outside\n")
    assert (bad.status, bad.code, bad.reason) == ("failed", 3, "exit code 3")
    assert len(loud_output) == 200_001 and len(bad.tail) == 6000
    assert run.outcomes == [good, bad]


def test_jobs_of_a_group_run_at_the_same_time(steps, tmp_path):
    """Each waits for the other's file."""
    code = "import pathlib, time; pathlib.Path({!r}).touch()\n"
    code += "while not pathlib.Path({!r}).exists(): time.sleep(0.01)"
    jobs = [steps.job("a", code.format("a", "b")), steps.job("b", code.format("b", "a"))]
    assert [outcome.status for outcome, _ in steps().run(jobs)] == ["passed", "passed"]


def test_a_limit_ends_one_step_and_what_it_started(steps, tmp_path):
    child = "import time; time.sleep(2); open('late', 'w')"
    code = (
        f"import subprocess, sys; print('here'); subprocess.run([sys.executable, '-c', {child!r}])"
    )
    jobs = [steps.job("slow", code, limit_s=1.0), steps.job("quick", "print('there')")]
    (slow, output), (quick, _) = steps().run(jobs)
    assert (slow.status, quick.status) == ("timeout", "passed")
    assert slow.reason == f"ended after {slow.seconds:.0f} s"
    assert output in ("here\n", "")  # a busy machine may not have come so far
    time.sleep(2)
    assert not (tmp_path / "late").exists()


def test_nothing_begins_when_no_time_is_left(steps):
    run = steps(limit_s=4.0)
    ((outcome, output),) = run.run([steps.job("late", "open('late', 'w')")])
    assert (outcome.status, outcome.reason, output) == ("skipped", "no time is left", "")
