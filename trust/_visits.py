"""Visits to the page as a browser pays them, without one: page, upload, result, sliders, files."""

from __future__ import annotations

import io
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256

import numpy as np
from PIL import Image

from python_tests.web.server_cases import Visitor

PICTURES = ("photo", "before", "after")
# of a server that is interrupted: 0 where Ctrl-C means nothing, as behind `nohup ... &`
ENDED = (0, 130)
W1 = (2.0, 3.5, 6.0)  # where the slider goes


class Visit:
    """One open page.

    Attributes:
        seconds: of what was asked, by what it was, in turn.
        masks: sha256 of the masks that were downloaded.
    """

    def __init__(self, address: str, page: str, *, stays: bool = True) -> None:
        """stays: whether it keeps the connection by which the server sees that a page is open."""
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.masks: list[str] = []
        self._open = ExitStack()
        with self._timed("page"):
            self._visitor = Visitor(address, page)
            self._open.callback(self._visitor.http.close)
            self._visitor.http.get("/").raise_for_status()
        if stays:
            path = f"/gradio_api/heartbeat/{page}"
            self._open.enter_context(self._visitor.http.stream("GET", path))

    def leave(self) -> None:
        """Closes the page, as far as it kept anything open."""
        self._open.close()

    def photograph(self, name: str, content: bytes, pictures: Sequence[str] = PICTURES) -> None:
        """Uploads one, and waits for the result and its pictures."""
        with self._timed("upload"):
            self._visitor.upload(name, content).raise_for_status()
        with self._timed("first result"):
            self._shown(self._visitor.refine())
        with self._timed("pictures"):
            for what in pictures:
                self._visitor.get(f"picture/{what}").raise_for_status()

    def slide(self, w1: float) -> None:
        """Moves a slider, and waits for the new labels' picture."""
        with self._timed("slider"):
            self._shown(self._visitor.refine(w1=w1))
            self._visitor.get("picture/after").raise_for_status()

    def download(self) -> np.ndarray:
        """The mask (H, W)."""
        with self._timed("download"):
            answer = self._visitor.get("download/mask.png")
            answer.raise_for_status()
        self.masks.append(sha256(answer.content).hexdigest())
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    def ask_without_waiting(self, requests: int) -> list[tuple[int, str]]:
        """Status and text of what the queue answers to so many moves of a slider at once."""
        visitor = self._visitor
        event, found = visitor.event("dn-w1", "change"), []
        for number in range(requests):
            values = visitor.controls(event, w1=1 + number % 20 * 0.5)
            body = {"data": values, "fn_index": event["id"], "session_hash": visitor.page}
            answer = visitor.http.post("/gradio_api/queue/join", json=body)
            found.append((answer.status_code, answer.text))
        return found

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what].append(time.perf_counter() - start)

    def _shown(self, answer: dict) -> None:
        wrong = answer.get("error") or answer.get("refused")
        if wrong or "version" not in answer:
            raise RuntimeError(f"the page says: {wrong or answer}")


def jpeg(photo: np.ndarray) -> bytes:
    """As a camera sends it."""
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=92)
    return file.getvalue()


def whole_visit(address: str, page: str, photo: bytes, sliders: Sequence[float] = W1) -> Visit:
    """Page, upload, first result, every place of the slider, download; and the page is closed."""
    visit = Visit(address, page)
    try:
        visit.photograph(f"{page}.jpg", photo)
        for w1 in sliders:
            visit.slide(w1)
        visit.download()
    finally:
        visit.leave()
    return visit
