"""What a child made by fork inherits and could not use: threads, and locks that threads hold."""

from __future__ import annotations

import os
import threading
from types import TracebackType


def one_torch_thread_in_children() -> None:
    """From now on: torch has one thread in every child, as in a data loader's workers.

    Of OpenMP's threads, which torch has, none is there after a fork; torch does not notice, and
    would wait for them forever in its next loop over some ten thousand values. A child that knows
    that its parent used none may call `torch.set_num_threads`.
    """
    import torch

    def one_thread() -> None:
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)

    os.register_at_fork(after_in_child=one_thread)


class ForkSafeLock:
    """A lock that may be taken again by the thread that has it, and that is free in every child.

    It guards what is whole whenever Python runs another thread: a child may look at it at once.
    """

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
