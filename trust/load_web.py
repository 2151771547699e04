"""Many visitors at once at the page's real server: no error, a bounded queue, how long they wait.

Each opens the page, uploads a photograph, waits for the result and its pictures, moves a slider to
three places, downloads the mask and closes the page; all begin together. Each mask is compared with
the one that a visitor of the same photograph got alone. Then comes one visitor for each place that
there is and as many more at once, to show what the bound of the queue is and what they see.

With 50 visitors it takes half a minute on two cores. The visitors run on the same machine, in this
process, so that the figures include their own work.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any

import numpy as np

from deeplab_native.web.limits import Limits
from python_tests.web.server_cases import Server, serving

from ._pictures import Pictures
from ._process import shares_of, use_of
from ._visits import W1, Visit, jpeg, whole_visit
from .record import record

_PHOTOS = 5


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


def measure(visitors: int, photos: Sequence[bytes]) -> dict[str, Any]:
    """Figures of so many visitors at once, and of the server before and after."""
    with TemporaryDirectory() as folder, serving(folder) as server:
        process = server.process.pid
        alone = [whole_visit(server.address, f"alone {i}", photo) for i, photo in enumerate(photos)]
        before = {**shares_of(process), **_mb(process)}
        start = time.perf_counter()
        seen = visits_at_once(server, visitors, photos)
        seconds = time.perf_counter() - start
        after = {**shares_of(process), **_mb(process)}
        # nothing stays: the same once more
        again = visits_at_once(server, visitors, photos)
        third = {**shares_of(process), **_mb(process)}
        code, _, errors = server.stop()
    wrong = Counter(one for one in (*seen, *again) if isinstance(one, str))
    right = [one for one in seen if isinstance(one, Visit)]
    others = sum(
        one.masks != alone[i % len(photos)].masks
        for visited in (seen, again)
        for i, one in enumerate(visited)
        if isinstance(one, Visit)
    )
    return {
        "visitors": visitors,
        "computations": visitors * (1 + len(W1)),
        "errors": sum(wrong.values()),
        "what_errors": dict(wrong),
        "other_masks": others,
        "seconds": round(seconds, 1),
        "latency_seconds": percentiles(right) if right else {},
        "alone_seconds": percentiles(alone[1:]),
        "server_before": before,
        "server_after": after,
        "server_after_once_more": third,
        "exit_code": code,
        "server_said": errors.replace("stopped\n", ""),
        "most_waiting": Limits().waiting,
        "most_pages": Limits().sessions,
    }


def _mb(process: int) -> dict[str, float]:
    use = use_of(process)
    return {
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
    photos = [jpeg(pictures.photo(number)) for number in range(_PHOTOS)]
    figures = measure(asked.clients, photos)
    figures["quiet_machine"] = asked.quiet_machine
    passed = figures["errors"] == 0 and figures["other_masks"] == 0
    passed = passed and figures["exit_code"] == 130 and not figures["server_said"]
    path = record("load_web", figures, passed=passed, command="python -m trust.load_web")
    print(path.read_text())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
