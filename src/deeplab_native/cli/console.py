"""Where the commands print: results on stdout, progress and warnings on stderr."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text

# File names are printed as they are: brackets and colons in them are no markup
out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)


def status(text: str) -> Status:
    """A spinner while the `with` block runs; nothing where stderr is no terminal."""
    return err.status(Text(text))


def images_progress(what: str) -> Progress:
    """A bar with the rate (a field of the task) and the time left; nothing without a terminal."""
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.2f} images/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )


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
