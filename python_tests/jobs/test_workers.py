"""Worker processes: errors and deaths cost one job, and leaving ends all workers."""

from __future__ import annotations

import os
import time

import pytest

from deeplab_native.jobs._workers import run_jobs
from deeplab_native.jobs.refine import PRELOAD  # the server that loads it serves all tests
from python_tests.jobs.worker_cases import work

pytestmark = pytest.mark.usefixtures("quick_workers")


def results(jobs, workers):
    return {
        o.job: (o.result and o.result[0], o.error) for o in run_jobs(work, jobs, workers, [PRELOAD])
    }


def test_every_job_is_done_on_several_processes():
    jobs = [("give", i) for i in range(7)]
    outcomes = list(run_jobs(work, jobs, 2, [PRELOAD]))
    assert sorted(o.job for o in outcomes) == jobs
    assert all(o.error is None and o.result[0] == o.job[1] for o in outcomes)
    assert len({o.result[1] for o in outcomes} - {os.getpid()}) == 2
    assert list(run_jobs(work, [], 2, [PRELOAD])) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_and_deaths_cost_one_job(workers):
    bad = {
        ("raise", "no"): "no (say another)",
        ("odd", "why"): "KeyError: 'why'",
        ("exit", 3): "its worker process ended with exit code 3",
        ("kill", 0): "its worker process was ended by SIGKILL (out of memory? try fewer `workers`)",
    }
    good = [("give", i) for i in range(4)]
    jobs = [good[0], *bad, *good[1:]]
    assert results(jobs, workers) == {
        **{job: (job[1], None) for job in good},
        **{job: (None, error) for job, error in bad.items()},
    }


def test_leaving_ends_the_workers_at_once(tmp_path):
    started = [tmp_path / "a", tmp_path / "b"]
    jobs = [("give", 0), *(("sleep", str(path)) for path in started)]
    iterator = run_jobs(work, jobs, 3, [PRELOAD])
    first = next(iterator)
    assert first.job == ("give", 0)
    deadline = time.monotonic() + 20
    while not all(path.exists() for path in started):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    start = time.monotonic()
    iterator.close()
    assert time.monotonic() - start < 10
    with pytest.raises(ProcessLookupError):
        os.kill(first.result[1], 0)
