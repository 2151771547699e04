"""Threads, forked processes and data loaders' workers at once: the same bits as alone, no hang.

- 8 threads and 4 forked processes at the same time, each calling every op, the CRF by its three
  doors and the net, with sizes of their own and shared ones, in orders of their own; one more
  thread makes calls that are refused.
- Children that are forked while the threads are in native code, and compute (all but the net).
- Threads that end, with what they had.
- Data loaders whose items call the CRF: workers forked, by a fork server and spawned, persistent,
  over many epochs, while this process has one thread and two.

Each result is compared, bit by bit, with the one of the same call alone. A child, and an epoch, has
a time limit that only a hang exceeds. Some minutes of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from deeplab_native import refine

from ._calls import CALLS, Refined, digest, threads
from ._forked import Forked
from ._process import use_of
from .record import record

SECONDS = 300.0  # far more than a busy machine needs
_NUMBERS = 24  # inputs of each call
_NO_NET = tuple(name for name in CALLS if name != "predict")

Expected = dict[tuple[str, int], str]


def alone(names: tuple[str, ...] = tuple(CALLS), numbers: int = _NUMBERS) -> Expected:
    """Every call with every input, one after the other, by the threads that are set."""
    return {(name, number): digest(name, number) for name in names for number in range(numbers)}


def differing(expected: Expected, order: int, rounds: int) -> list[str]:
    """Calls whose result is another than expected; all of them in an order of its own."""
    calls = [*expected] * rounds
    random.Random(order).shuffle(calls)
    return [f"{call[0]} {call[1]}" for call in calls if digest(*call) != expected[call]]


def _in_child(expected: Expected, order: int, rounds: int) -> Callable[[], bytes]:
    def compute() -> bytes:
        threads(1)  # the drop-in has what was set before the fork
        return json.dumps(differing(expected, order, rounds)).encode()

    return compute


def threads_and_forks(
    rounds: int,
    *,
    of_threads: int = 8,
    of_children: int = 4,
    forks: int = 8,
    numbers: int = _NUMBERS,
) -> dict[str, int]:
    """Counts of what was compared, and of what differed."""
    threads(1)
    in_children = alone(numbers=numbers)
    threads(2)
    here = alone(numbers=numbers)
    without_net = {call: value for call, value in in_children.items() if call[0] in _NO_NET}
    stop, refused = threading.Event(), [0]

    def call_wrongly() -> None:
        while not stop.wait(0.01):
            try:
                refine(np.zeros((8, 8, 3), np.uint8), np.zeros((3, 5, 7), np.float32))
            except ValueError:
                refused[0] += 1

    wrong = threading.Thread(target=call_wrongly)
    # while nobody computes: the net's libraries have locks of their own
    children = [Forked(_in_child(in_children, i, rounds)) for i in range(of_children)]
    wrong.start()
    different: list[str] = []
    with ThreadPoolExecutor(of_threads) as pool:
        running: list[Future[list[str]]] = [
            pool.submit(differing, here, 100 + i, rounds) for i in range(of_threads)
        ]
        forked = 0
        while forked < forks:
            child = Forked(_in_child(without_net, 200 + forked, 1))
            different += json.loads(child.result(SECONDS))
            forked += 1
        for child in children:
            different += json.loads(child.result(SECONDS))
        for future in running:
            different += future.result(SECONDS)
    stop.set()
    wrong.join()
    return {
        "threads": of_threads,
        "processes": of_children,
        "calls_in_threads": of_threads * rounds * len(here),
        "calls_in_processes": of_children * rounds * len(in_children),
        "forks_meanwhile": forks,
        "calls_in_those": forks * len(without_net),
        "refused_meanwhile": refused[0],
        "different": len(different),
    }


def threads_that_end(pools: int) -> dict[str, int]:
    """What stays of pools of threads that computed, each with threads of its own."""
    threads(2)
    expected = alone(("dense_crf", "pydensecrf", "aspp"), 3)

    def one_pool() -> int:
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda order: differing(expected, order, 1), range(4))
            return sum(map(len, found))

    different = one_pool()
    before = use_of()
    different += sum(one_pool() for _ in range(pools))
    end = time.monotonic() + 10
    while (after := use_of()).threads > before.threads and time.monotonic() < end:
        time.sleep(0.05)  # the system takes a moment to remove what has ended
    return {
        "pools": pools,
        "more_threads": after.threads - before.threads,
        "more_descriptors": after.descriptors - before.descriptors,
        "different": different,
    }


def loaders(
    epochs: int, items: int, methods: tuple[str, ...], of_threads: tuple[int, ...] = (1, 2)
) -> Iterator[dict[str, Any]]:
    """Of each way to start workers, and each number of threads of this process."""
    threads(1)
    expected = [Refined(items)[i] for i in range(items)]
    for method in methods:
        for number in of_threads:
            threads(number)
            alone(("refine", "aspp"), 1)  # this process has used its threads
            threads(None)  # of the drop-in, whose workers would have as many
            torch.set_num_threads(number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads
                loader = DataLoader(
                    Refined(items),
                    batch_size=None,
                    num_workers=2,
                    persistent_workers=True,
                    multiprocessing_context=method,
                    timeout=SECONDS,
                )
                different = 0
                for _ in range(epochs):
                    different += sum(a != b for a, b in zip(loader, expected, strict=True))
            del loader
            yield {
                "workers": method,
                "threads_of_parent": number,
                "epochs": epochs,
                "items": epochs * items,
                "different": different,
            }


def main(words: list[str] | None = None) -> int:
    """Shows all of it, prints and records it; 1 where something differs."""
    parser = argparse.ArgumentParser(
        prog="python -m trust.load_concurrency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=int, default=4, help="of each thread, default: %(default)s"
    )
    parser.add_argument(
        "--epochs", type=int, default=20, help="of each loader, default: %(default)s"
    )
    asked = parser.parse_args(words)
    start = time.perf_counter()
    figures: dict[str, Any] = {"at_once": threads_and_forks(asked.rounds)}
    print(figures, file=sys.stderr)
    figures["threads_that_end"] = ended = threads_that_end(20)
    print(ended, file=sys.stderr)
    figures["loaders"] = []
    for one in loaders(asked.epochs, 24, ("fork", "forkserver", "spawn")):
        print(one, file=sys.stderr)
        figures["loaders"].append(one)
    threads(None)
    figures["seconds"] = round(time.perf_counter() - start)
    figures["cores"] = len(os.sched_getaffinity(0))
    compared = figures["at_once"]
    figures["compared"] = (
        compared["calls_in_threads"]
        + compared["calls_in_processes"]
        + compared["calls_in_those"]
        + sum(one["items"] for one in figures["loaders"])
    )
    figures["different"] = (
        compared["different"]
        + ended["different"]
        + sum(one["different"] for one in figures["loaders"])
    )
    passed = figures["different"] == 0 and ended["more_threads"] <= 0
    passed = passed and compared["refused_meanwhile"] > 0 and ended["more_descriptors"] <= 0
    path = record(
        "load_concurrency", figures, passed=passed, command="python -m trust.load_concurrency"
    )
    print(path.read_text())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
