"""Many visitors at once at the page's real server: no error, a bounded queue, how long they wait.

Each opens the page, uploads a photograph of 120 x 160 pixels, waits for the result and its
pictures, moves a slider to three places, downloads the mask and closes the page; all begin
together. Each mask is compared with the one that a visitor of the same photograph got alone. Then
one page sends more requests at once than the queue has places: what finds none, and what is more
than a page may ask for, is refused at once; and the next visitor is served.

With 50 visitors it takes about a minute of two cores. The visitors run on the same machine, in this
process, so that the figures include their own work.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any

import httpx
import numpy as np

from deeplab_native.web.limits import Limits
from python_tests.web.server_cases import Server, serving

from ._pictures import Pictures
from ._process import shares_of, use_of
from ._visits import W1, Visit, jpeg, whole_visit
from .record import record

_PHOTOS = 5
_SIZE = 120, 160
_PATIENCE = 300.0  # seconds
_RUNNING = 8  # requests of one kind that Gradio gives to threads at once


def visits_at_once(server: Server, visitors: int, photos: Sequence[bytes]) -> list[Visit | str]:
    """Of each what it saw, or in words what went wrong."""
    start = Barrier(visitors)

    def visit(number: int) -> Visit | str:
        start.wait()
        try:
            return whole_visit(server.address, f"visitor {number}", photos[number % len(photos)])
        except Exception as error:  # whatever it is, it is what the visitor got
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(visitors) as pool:
        return list(pool.map(visit, range(visitors)))


def percentiles(visits: Sequence[Visit]) -> dict[str, dict[str, float]]:
    """Seconds of each step, over all visitors."""
    found = {}
    for step in visits[0].seconds:
        seconds = np.concatenate([visit.seconds[step] for visit in visits])
        values = np.percentile(seconds, [50, 90, 99, 100]).round(3).tolist()
        found[step] = dict(zip(("p50", "p90", "p99", "max"), values, strict=True))
    return found


def measure(visitors: int, photos: Sequence[bytes], small: bytes) -> dict[str, Any]:
    """Figures of so many visitors at once, of the server before and after, and of a flood."""
    with TemporaryDirectory() as folder, serving(folder) as server:
        process = server.process.pid
        alone = [whole_visit(server.address, f"alone {i}", photo) for i, photo in enumerate(photos)]
        before = _memory(process)
        start = time.perf_counter()
        seen = visits_at_once(server, visitors, photos)
        seconds = time.perf_counter() - start
        print(f"{visitors} visitors: {seconds:.1f} s", file=sys.stderr, flush=True)
        after = _memory(process)
        queue = flood(server, small, Limits().waiting + 2 * _RUNNING)
        code, _, said = server.stop()
    wrong = Counter(one for one in seen if isinstance(one, str))
    right = [one for one in seen if isinstance(one, Visit)]
    others = [
        i
        for i, one in enumerate(seen)
        if isinstance(one, Visit) and one.masks != alone[i % len(photos)].masks
    ]
    return {
        "visitors": visitors,
        "computations": visitors * (1 + len(W1)),
        "errors": sum(wrong.values()),
        "what_errors": dict(wrong),
        "other_masks": len(others),
        "seconds": round(seconds, 1),
        "latency_seconds": percentiles(right) if right else {},
        "alone_seconds": percentiles(alone[1:]),
        "server_before": before,
        "server_after": after,
        "queue": queue,
        "exit_code": code,
        "server_said": said.replace("stopped\n", ""),
        "most_pages": Limits().sessions,
    }


def flood(server: Server, photo: bytes, requests: int) -> dict[str, Any]:
    """What the queue does with so many at once, and whether the page answers afterwards."""
    visit = Visit(server.address, "flood")
    try:
        visit.photograph("flood.jpg", photo)
        answers = visit.ask_without_waiting(requests)
    finally:
        visit.leave()
    refused = [(status, text) for status, text in answers if status != 200]
    start = time.perf_counter()
    seconds = _until_served(server, photo) - start
    return {
        "most_waiting": Limits().waiting,
        "sent": requests,
        "taken": requests - len(refused),
        "refused": len(refused),
        "status": refused[0][0] if refused else None,
        "words": refused[0][1] if refused else "",
        "seconds_until_the_next_was_served": round(seconds, 1),
    }


def _until_served(server: Server, photo: bytes) -> float:
    """When a visitor had a result, who tries again while the queue is full."""
    end = time.perf_counter() + _PATIENCE
    for number in itertools.count():
        try:
            whole_visit(server.address, f"after the flood {number}", photo)
            return time.perf_counter()
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 503 or time.perf_counter() > end:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")


def _memory(process: int) -> dict[str, float]:
    use = use_of(process)
    return {
        **shares_of(process),
        "resident_mb": round(use.resident / 1e6, 1),
        "threads": use.threads,
        "descriptors": use.descriptors,
    }


def main(words: list[str] | None = None) -> int:
    """Measures, prints and records it; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m trust.load_web",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=50, help="default: %(default)s")
    parser.add_argument(
        "--quiet-machine", action="store_true", help="say that nothing else ran meanwhile"
    )
    asked = parser.parse_args(words)
    pictures = Pictures()
    photos = [jpeg(pictures.photo(number, _SIZE)) for number in range(_PHOTOS)]
    figures = measure(asked.clients, photos, jpeg(pictures.photo(0)))
    figures["quiet_machine"] = asked.quiet_machine
    passed = figures["errors"] == 0 and figures["other_masks"] == 0
    passed = passed and figures["exit_code"] == 130 and not figures["server_said"]
    path = record("load_web", figures, passed=passed, command="python -m trust.load_web")
    print(path.read_text())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
