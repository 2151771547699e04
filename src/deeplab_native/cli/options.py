"""Options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from .._files import check_output

CRF, RUN = "CRF parameters", "Run"

Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", rich_help_panel=RUN)]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of each process. Default: the cores, shared among the processes.",
        rich_help_panel=RUN,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print the result as JSON, for machines.", rich_help_panel=RUN),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        help="Go on where an earlier run into this folder stopped.",
        rich_help_panel=RUN,
    ),
]
Iterations = Annotated[int, typer.Option(min=0, help="Mean field iterations.", rich_help_panel=CRF)]
Normalization = Annotated[
    str,
    typer.Option(help="symmetric, before, after (the authors' tool) or none.", rich_help_panel=CRF),
]
Palette = Annotated[
    str | None,
    typer.Option(
        help="Colours of the labels: voc, cityscapes or okabe-ito. Default: the weights', or voc."
    ),
]
Exif = Annotated[
    bool,
    typer.Option(
        "--exif/--no-exif",
        help="Turn photographs upright by their EXIF orientation, as telephones write it.",
    ),
]
Report = Annotated[
    bool,
    typer.Option(
        "--report/--no-report",
        help="Write report.html, too: one file with tables, figures and pictures.",
        rich_help_panel=RUN,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Network, one of those in [cyan]deeplab-native info[/]. Default: the one that the "
        "weights belong to.",
    ),
]
NumClasses = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Labels that the weights were trained for. Default: those of the weights, or 21.",
    ),
]


def use_threads(threads: int | None) -> int:
    """Sets torch's thread count when one was asked for; returns the count in use.

    Raises ValueError where that is more than the cores can have any use for.
    """
    import torch

    from ..jobs._execution import check_count

    if threads is not None:
        check_count("threads", threads)
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def one_of(option: str, *given: Any) -> Any:
    """The value of an option that has another way to say it, too; ValueError for both or none."""
    values = [value for value in given if value is not None]
    if len(values) != 1:
        raise ValueError(f"{option}: expected it once, got it {len(values)} times (give {option})")
    return values[0]


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raises ValueError or OSError before the work starts, where a file could not be written.

    An output that is an input, or that is named twice, would destroy what the user has.
    """
    taken = {path.resolve() for path in inputs}
    for path in outputs:
        target = check_output(path)
        if target in taken:
            raise ValueError(f"{path} is already an input or another output (give another name)")
        taken.add(target)


def check_suffix(option: str, path: Path, suffix: str) -> None:
    """Raises ValueError where the format would not be what the name says."""
    if path.suffix.lower() != suffix:
        raise ValueError(f"{option} {path}: this file is written as {suffix} (end it in {suffix})")
