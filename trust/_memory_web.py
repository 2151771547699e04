"""Images through the page's server: visitors upload them, wait for results, and download masks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from deeplab_native.web.limits import Limits
from python_tests.web.server_cases import serving

from ._pictures import Pictures
from ._process import Growth, Use, growth, shares_of, use_of
from ._visits import ENDED, Visit, jpeg

_AT_ONCE = 3  # visitors
_IMAGES = 39  # of a visitor, at most; 20 in the mean
_LAST = (120, 160)  # pixels of the photograph on a page that is left open


def web(
    images: int, every: int, say: Callable[[int, int], None], minutes: float = float("inf")
) -> tuple[dict[str, Growth], dict[str, Any]]:
    """Of the server's process; and how many pages were opened, its shares of memory at the end.

    Of two visitors one closes the page, the other is not heard of any more: his page is kept, and
    as many as the server keeps are there before the first image counts. They end with photographs
    of one size, or what is kept would go up and down with it.

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
                    stays_open = page % 2 and number == numbers[-1]
                    photo = pictures.photo(number, _LAST if stays_open else None)
                    visit.photograph(f"{number}.jpg", jpeg(photo), pictures=("after",))
                    if visit.download().shape != photo.shape[:2]:
                        raise AssertionError(f"image {number}: a mask of another size")
                    count()
                visit.leave()
            except Exception as error:
                wrong.append(error)

    with TemporaryDirectory() as folder, serving(folder, "--threads", "1") as server:
        process, address = server.process.pid, server.address
        _leave_open(address, pictures, Limits().sessions)
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


def _leave_open(address: str, pictures: Pictures, pages: int) -> None:
    for page in range(pages):
        visit = Visit(address, f"left open {page}", stays=False)
        photo = pictures.photo(page, _LAST)
        visit.photograph(f"{page}.jpg", jpeg(photo), pictures=("after",))
        visit.leave()
