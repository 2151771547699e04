"""Worker processes: errors and deaths cost one job, and leaving ends all workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deeplab_native.jobs._workers import run_here, run_jobs
from deeplab_native.jobs.refine import PRELOAD  # the server that loads it serves all tests
from python_tests.jobs.worker_cases import in_turn, work

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


def test_no_more_at_a_time_than_the_memory_is_for(tmp_path):
    """Jobs of 3, 1 and 1 of 4 bytes; and one of 9, which is alone."""
    jobs = [(f"{size} {i}", str(tmp_path)) for i, size in enumerate([3, 1, 1, 9, 3, 3, 1])]

    def need(job):
        return int(job[0].split()[0])

    outcomes = list(run_jobs(in_turn, jobs, 3, [PRELOAD], memory=4, need=need))
    assert sorted(o.job for o in outcomes) == sorted(jobs)
    assert all(o.error is None for o in outcomes)
    spans = [(o.result, need(o.job)) for o in outcomes]
    for (start, _), _ in spans:
        together = [size for (a, b), size in spans if a <= start < b]
        assert sum(together) <= 4 or together == [9]
    assert any(len([1 for (a, b), _ in spans if a <= start < b]) > 1 for (start, _), _ in spans)


def test_needs_are_looked_at_as_jobs_are_given_out():
    """Each opens a file: not thousands of them before the first job begins, and none twice."""
    asked = []

    def need(job):
        asked.append(job)
        return 1

    jobs = [("give", i) for i in range(20)]
    outcomes = run_jobs(work, jobs, 2, [PRELOAD], memory=9, need=need)
    next(outcomes)
    assert len(asked) < 8
    assert len(list(outcomes)) == 19 and asked == jobs


def test_stop_is_asked_while_all_are_busy(tmp_path):
    jobs = [("sleep", str(tmp_path / "a"))]
    start = time.monotonic()
    stopping = (tmp_path / "a").exists  # once it sleeps
    assert list(run_jobs(work, jobs, 1, [PRELOAD], stop=stopping)) == []
    assert time.monotonic() - start < 30


def test_without_processes():
    jobs = [("give", 1), ("raise", "no"), ("odd", "why"), ("give", 2)]
    outcomes = list(run_here(work, jobs))
    assert [o.error for o in outcomes] == [None, "no (say another)", "KeyError: 'why'", None]
    assert outcomes[0].result == (1, os.getpid())
    assert list(run_here(work, jobs, stop=lambda: True)) == []


def test_from_any_thread():
    """A web server calls jobs from threads, in which no signal handler can be set."""
    with ThreadPoolExecutor(1) as pool:
        given = pool.submit(lambda: results([("give", 1)], 1)).result(60)
    assert given == {("give", 1): (1, None)}


UNGUARDED = """
from deeplab_native.jobs._workers import run_jobs
from python_tests.jobs.worker_cases import work
list(run_jobs(work, [("give", 1)], 1))
"""


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 1
    assert "before it could begin (does the script call it under `if __name__ ==" in done.stderr


ORPHANS = """
import sys
from deeplab_native.jobs._workers import run_jobs
from python_tests.jobs.worker_cases import work
if __name__ == "__main__":
    jobs = [("give", 0), ("sleep", sys.argv[1])]
    for outcome in run_jobs(work, jobs, 2, [sys.argv[2]]):
        print(outcome.result[1], flush=True)
"""


def test_workers_end_with_the_one_who_gave_them_work(tmp_path):
    """By SIGKILL of that process alone, as the kernel does it where memory is short."""
    (tmp_path / "orphans.py").write_text(ORPHANS)
    line = [sys.executable, str(tmp_path / "orphans.py"), str(tmp_path / "started"), PRELOAD]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}) as p:
        deadline = time.monotonic() + 60
        while not ((tmp_path / "started").exists() and (tmp_path / "started").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        worker = int((tmp_path / "started").read_text())
        p.kill()
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
