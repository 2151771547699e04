"""Ctrl-C and SIGTERM end a run after the update that is under way."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interruption:
    """Within, the first SIGINT or SIGTERM sets `signal`; a second one is as always.

    In another thread than the main one, signals stay as they are: Python allows nothing else.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
