"""Where the commands print: results on stdout, progress and warnings on stderr."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from .._logging import ROOT
from .._terminal import TextConsole
from .errors import in_options

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..jobs import Progress as JobProgress

out = TextConsole()
err = TextConsole(stderr=True)


class _Lines(logging.Handler):
    """A line on stderr for a record, above what moves there; with the time from `-vv` on."""

    def __init__(self, verbose: int) -> None:
        super().__init__()
        self._times = verbose > 1

    def emit(self, record: logging.LogRecord) -> None:
        time = f"{datetime.now():%H:%M:%S} " if self._times else ""
        err.print(f"{time}{record.levelname.lower()}: {record.getMessage()}", soft_wrap=True)


def show_log(verbose: int) -> None:
    """What the package logs: 1, what it decides; 2 or more, every step."""
    package = logging.getLogger(ROOT)
    for old in [handler for handler in package.handlers if isinstance(handler, _Lines)]:
        package.removeHandler(old)
    package.addHandler(_Lines(verbose))
    package.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)


def _is_watched() -> bool:
    """Whether what moves can move. FORCE_COLOR alone makes rich take a file for a terminal."""
    return err.is_terminal and err.file.isatty()


def status(text: str) -> AbstractContextManager[object]:
    """A spinner while the `with` block runs; nothing where stderr is no terminal."""
    return err.status(Text(text)) if _is_watched() else nullcontext()


def result(as_json: bool, values: dict[str, Any], *for_people: RenderableType) -> None:
    """The result of a command: one JSON object on one line, or what people read."""
    if as_json:
        # plain print: a console would wrap it
        print(json.dumps(_plain(values), allow_nan=False))
    else:
        out.print(*for_people)


def _plain(value: Any) -> Any:
    """As JSON has it: paths are strings, and what is not finite is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Bars:
    """`progress` of a job: a bar for each of its stages, with rate and time left.

    Nothing where stderr is no terminal, but with `errors` a line for every one of several images
    that fails.
    """

    def __init__(
        self, then: Callable[[JobProgress], None] | None = None, errors: bool = True
    ) -> None:
        """then(progress) is called for every image that is done."""
        self.last: JobProgress | None = None
        self._then, self._errors = then, errors
        self._task: TaskID | None = None
        self._stage: str | None = None
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]:.2f}/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            # over the last minutes: images differ, and one of them is a few seconds
            TimeRemainingColumn(),
            console=err,
            disable=not _is_watched(),
            speed_estimate_period=120,
        )

    def __call__(self, progress: JobProgress) -> None:
        """Moves the bar of the job's stage, which begins with the stage."""
        if self._stage != progress.stage:
            self._stage = progress.stage
            self._task = self._bars.add_task(
                progress.stage, total=progress.total, unit=progress.unit, rate=0.0
            )
            for note in progress.notes:
                err.print(f"warning: {note}", soft_wrap=True)
        assert self._task is not None
        self._bars.update(
            self._task, completed=progress.done, total=progress.total, rate=progress.rate
        )
        self.last = progress
        if progress.error is not None:
            if self._errors and progress.total > 1:  # of one, the command's own error says it
                err.print(f"error: {progress.image}: {in_options(progress.error)}", soft_wrap=True)
        elif progress.image is not None and self._then is not None:
            self._then(progress)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


def table(*columns: str, title: str | None = None) -> Table:
    """A table whose first column holds names and whose other columns hold numbers."""
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        result.add_column(column, justify="right" if i else "left")
    return result


def facts(*rows: tuple[str, str]) -> Table:
    """A two-column table without a head: what, and its value."""
    result = Table(box=None, show_header=False, pad_edge=False)
    result.add_column(style="bold", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in rows:
        result.add_row(name, value)
    return result
