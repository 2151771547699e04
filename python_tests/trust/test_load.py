"""The long runs under load, short: memory that is flat, calls at the same time, data loaders."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from trust import _memory_here, load_concurrency, load_memory
from trust._process import Use, descendants, growth, shares_of, use_of
from trust.record import record


@pytest.fixture(autouse=True)
def own_threads():
    yield
    load_concurrency.threads(None)


@pytest.fixture
def set_back(set_threads):
    """The number of torch's threads is as it was, whatever the test sets."""


def samples(resident, descriptors=10, threads=4):
    done = list(range(10, 10 * len(resident) + 1, 10))
    return done, [Use(int(bytes_), descriptors, threads) for bytes_ in resident]


def test_growth_is_of_what_comes_after_the_warm_up():
    warm = np.linspace(1e8, 3e8, 10)
    flat = growth(*samples(np.concatenate([warm, np.full(90, 3e8)])))
    assert abs(flat.percent) < 1e-6 and abs(flat.slope) < 1e-3 and flat.is_flat(2)
    leak = growth(*samples(np.concatenate([warm, 3e8 + 2e4 * np.arange(10, 910, 10)])))
    assert leak.slope == pytest.approx(2e4) and leak.percent == pytest.approx(5.3, abs=0.2)
    assert not leak.is_flat(2)
    falls = growth(*samples(np.concatenate([warm, np.linspace(3e8, 2e8, 90)])))
    assert falls.percent < -20 and falls.is_flat(2)
    # all of it is lost by the end of the last but one tenth: the medians alone say nothing
    back = np.concatenate([warm, np.full(10, 3e8), np.full(70, 3.3e8), np.full(10, 3e8)])
    assert growth(*samples(back)).peak_mb == pytest.approx(330)


@pytest.mark.parametrize("kept", ["descriptors", "threads"])
def test_more_descriptors_or_threads_are_growth(kept):
    done, uses = samples(np.full(100, 3e8))
    uses = [use._replace(**{kept: number}) for number, use in enumerate(uses)]
    assert not growth(done, uses).is_flat(2)


def taken(megabytes: int) -> mmap.mmap:
    """From the system: an array could lie in what this process has left of earlier tests."""
    block = mmap.mmap(-1, megabytes << 20)
    block.write(b"\1" * (megabytes << 20))
    return block


def test_what_a_process_has_is_seen():
    before = use_of()
    block = taken(32)
    with open(__file__):
        held = use_of()
    assert held.resident - before.resident >= 0.9 * len(block)
    assert held.descriptors == before.descriptors + 1
    assert shares_of()["uss_mb"] <= shares_of()["pss_mb"] <= held.resident / 1e6 + 10
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in list(descendants(os.getpid()))
        child.communicate(b"\n")


def test_a_leak_is_found():
    """The measure itself, on images of which each leaves a part of what there is behind."""
    left, each = [], 1 + use_of().resident // (2000 << 20)  # megabytes: 10 % in 200 images

    def leaking():
        yield lambda number: left.append(taken(each))

    assert not growth(*load_memory.here(leaking, 200)).is_flat(load_memory.TOLERATED)


def test_memory_of_the_crf(set_back):
    """200 images: the caches fill with the first hundred."""
    load_concurrency.threads(1)
    found = growth(*load_memory.here(_memory_here.crf, 200), warm_up=0.5)
    assert found.percent < 5 and found.descriptors <= 0 and found.threads <= 0


def test_memory_of_the_net_and_the_command(set_back, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(load_memory, "record", partial(record, folder=tmp_path))
    code = load_memory.main(["net", "--images", "100"])
    assert code in (0, 1)  # so few say nothing of 2 %
    assert '"images": 100' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        load_memory.main(["net", "--images", "5"])


def test_threads_and_forked_processes_at_once(set_back):
    found = load_concurrency.threads_and_forks(1, numbers=1, forks=2)
    assert found["different"] == 0
    assert (found["threads"], found["processes"], found["forks_meanwhile"]) == (8, 4, 2)
    assert found["calls_in_threads"] == 8 * 7 and found["calls_in_processes"] == 4 * 7


def test_what_differs_is_counted(set_back):
    load_concurrency.threads(1)
    expected = load_concurrency.alone(("refine", "aspp"), 2)
    wrong = {**expected, ("aspp", 1): "another"}
    assert load_concurrency.differing(expected, 0, 1) == []
    assert load_concurrency.differing(wrong, 0, 2) == ["aspp 1"] * 2


def test_threads_that_end_leave_nothing(set_back):
    found = load_concurrency.threads_that_end(3)
    assert found["different"] == 0
    assert found["more_threads"] <= 0 and found["more_descriptors"] <= 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loaders_with_workers_that_stay(set_back, quick_workers, method):
    for found in load_concurrency.loaders(3, 6, (method,), of_threads=(2,)):
        assert found["different"] == 0 and found["items"] == 18


FIRST_USE = """
import threading, time
from deeplab_native.demo.photo import photograph

found = []

def ask():
    found.append(photograph().shape)

threads = [threading.Thread(target=ask) for _ in range(30)]
for thread in threads:
    thread.start()
    time.sleep(0.01)  # some come while the first still imports
for thread in threads:
    thread.join()
assert found == [(600, 512, 3)] * 30, found
"""


def test_the_photograph_is_asked_for_first_by_several_threads():
    """As by visitors of the page who take the example: each had a half of matplotlib."""
    done = subprocess.run([sys.executable, "-c", FIRST_USE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
