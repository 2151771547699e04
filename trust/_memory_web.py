"""Images through the page's server: visitors upload them, wait for results, and download masks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from python_tests.web.server_cases import serving

from ._pictures import Pictures
from ._process import Growth, Use, growth, shares_of, use_of
from ._visits import ENDED, Visit, jpeg

_AT_ONCE = 3  # visitors
_IMAGES = 39  # of a visitor, at most; 20 in the mean


def web(
    images: int, every: int, say: Callable[[int, int], None], minutes: float = float("inf")
) -> tuple[dict[str, Growth], dict[str, Any]]:
    """Of the server's process; and how many pages were opened, its shares of memory at the end.

    Of two visitors one closes the page, the other is not heard of any more.

    minutes: after which no visitor comes any more.
    """
    end = time.monotonic() + 60 * minutes
    done: list[int] = []
    uses: list[Use] = []
    visitors: queue.SimpleQueue[tuple[int, range]] = queue.SimpleQueue()
    pictures = Pictures()
    pages, first = 0, 0
    random = np.random.default_rng(0)
    while first < images:
        last = min(images, first + int(random.integers(1, _IMAGES + 1)))
        visitors.put((pages, range(first, last)))
        pages, first = pages + 1, last
    finished, opened, lock, wrong = 0, 0, threading.Lock(), []

    def count() -> None:
        nonlocal finished
        with lock:
            finished += 1
            if finished % every == 0:
                done.append(finished)
                uses.append(use_of(process))
            say(finished, images)

    def visit_in_turn() -> None:
        nonlocal opened
        while not wrong and time.monotonic() < end:
            try:
                page, numbers = visitors.get_nowait()
            except queue.Empty:
                return
            try:
                opened += 1
                visit = Visit(address, f"page {page}", stays=page % 2 == 0)
                for number in numbers:
                    photo = pictures.photo(number)
                    visit.photograph(f"{number}.jpg", jpeg(photo), pictures=("after",))
                    if visit.download().shape != photo.shape[:2]:
                        raise AssertionError(f"image {number}: a mask of another size")
                    count()
                visit.leave()
            except Exception as error:
                wrong.append(error)

    with TemporaryDirectory() as folder, serving(folder, "--threads", "1") as server:
        process, address = server.process.pid, server.address
        threads = [threading.Thread(target=visit_in_turn) for _ in range(_AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shares = shares_of(process)
        code, _, said = server.stop()
    if wrong:
        raise wrong[0]
    if code not in ENDED or said not in ("", "stopped\n"):
        raise AssertionError(f"the server ended with {code}, and said: {said}")
    return {"server": growth(done, uses)}, {
        "images": finished,
        "pages": opened,
        "at_the_end": shares,
    }
