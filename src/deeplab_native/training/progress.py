"""What a run shows while it goes: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .._terminal import TextConsole

_err = TextConsole(stderr=True)


def _is_watched() -> bool:
    """Whether a bar can move. FORCE_COLOR alone makes rich take a file for a terminal."""
    return _err.is_terminal and _err.file.isatty()


def say(text: str) -> None:
    """A line on stderr."""
    _err.print(text, soft_wrap=True)


class Reporter:
    """Shows the iterations of a run on stderr; `quiet` for processes that are not the first."""

    def __init__(self, total: int, start: int, *, quiet: bool = False) -> None:
        self.total = total
        self._start, self._since = start, perf_counter()
        self._quiet = quiet
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=_err,
            speed_estimate_period=600,  # seconds: validations are not to change it much
            disable=quiet or not _is_watched(),
        )

    def __enter__(self) -> Reporter:
        self._bar.start()
        self._task = self._bar.add_task("train", total=self.total, completed=self._start, state="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, iteration: int) -> None:
        """Moves the bar to so many updates; within `with` only."""
        assert self._task is not None
        self._bar.update(self._task, completed=iteration)

    def log(self, iteration: int, *, loss: float, lr: float, rate: float) -> None:
        """Of the last iterations: mean loss, learning rate, images a second."""
        assert self._task is not None
        state = f"loss {loss:.4f}, lr {lr:.2e}, {rate:.1f} images/s"
        self._bar.update(self._task, state=state)
        if not _is_watched():
            share = (perf_counter() - self._since) / max(1, iteration - self._start)
            left = _clock(share * (self.total - iteration))
            self.say(f"iteration {iteration}/{self.total}: {state}, {left} left")

    def say(self, text: str) -> None:
        """A line on stderr, above the bar; none where `quiet`."""
        if not self._quiet:
            say(text)

    @contextmanager
    def images(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """A second bar, for a validation; the function that it gives counts an image."""
        task = self._bar.add_task(what, total=total, state="images")
        try:
            yield lambda: self._bar.advance(task)
        finally:
            self._bar.remove_task(task)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
