"""Disks that are full, memory that is short: a few of the faults of `python -m trust.faults`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trust import failing_allocations, failing_files, out_of_memory
from trust._forked import Forked, in_child

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="preloads a library of its own"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no g++"),
]


def test_the_disk_is_full():
    found = failing_files.run("crf, a folder", 3, ["disk full"])
    assert found["crf, a folder"]["wrong"] == []
    assert found["crf, a folder"]["calls"] > 50
    assert found["crf, a folder"]["outcomes"]["said"] >= 2


@pytest.mark.parametrize("threads", [1, 2])
def test_an_allocation_fails(threads):
    found = failing_allocations.run("MeanField", 6, threads)
    assert len(found) == 2  # of two labels and of more, which are other code
    for one in found.values():
        assert one["bad"] == 0, one
        assert one["outcomes"]["MemoryError: out of memory in a native kernel"] >= 2


def test_memory_is_limited(tmp_path):
    """In a process of its own: this one may have threads, which are not forked."""
    line = [sys.executable, "-m", "trust.out_of_memory", "--steps", "6", "--which", "MeanField"]
    subprocess.run([*line, "--results", tmp_path], cwd=ROOT, check=True)
    found = json.loads((tmp_path / "out_of_memory.json").read_text())["figures"]
    assert found["limits"] == 6 and found["bad"] == 0
    assert found["right"] >= 1 and found["clean_errors"] >= 1


def test_what_a_child_says_and_how_it_ends():
    def work(say):
        say({"n": 1})
        raise SystemExit

    assert list(in_child(work, 60)) == [{"n": 1}, {"ended": "1"}]
    assert list(in_child(lambda say: os.kill(os.getpid(), 9), 60)) == [{"ended": "SIGKILL"}]
    assert list(in_child(lambda say: time.sleep(60), 0.1)) == [{"ended": "hang"}]


def test_a_child_that_nobody_listens_to_is_ended():
    def work(say):
        say(os.getpid())
        time.sleep(300)

    start = time.monotonic()
    said = in_child(work, 60)
    child = next(said)
    said.close()
    with pytest.raises(AssertionError, match="the child hung: no result"):
        Forked(lambda: time.sleep(300)).result(0.1)
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_which_outcomes_are_promised():
    for module in (failing_allocations, out_of_memory):
        assert module.is_good("right")
        assert module.is_good("MemoryError")
        for outcome in ("wrong result", "process ended: SIGSEGV", "ValueError: x"):
            assert not module.is_good(outcome)
