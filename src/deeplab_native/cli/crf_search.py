"""`deeplab-native crf-search`: the CRF parameters that suit a net's scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .option_groups import RunOptions, ScoreOptions, expanded
from .values import class_numbers, numbers

if TYPE_CHECKING:
    from ..crf.search import Figures
    from ..jobs import SearchResult

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native crf-search photos/ scores/ labels/ -o search/[/]  the paper's grid

[cyan]deeplab-native crf-search photos/ scores/ labels/ -o search/ --images 100 --seed 1[/]

[cyan]deeplab-native crf-search photos/ scores/ labels/ -o search/ --w1 4:10:2
--sigma-alpha 40,60,80 --sigma-beta 3:13:5 --rounds 1 --classes 8,12,15[/]

OUTPUT gets report.html, to look at, best.json, candidates.csv, heatmap.png, and search.sqlite, from
which the same command goes on."""

_GRID, _DATA = "Grid", "Data"
_ROWS = 10  # of the table; candidates.csv has all
_COLUMNS = ("mean IoU", "accuracy", "band accuracy")


def _axis() -> Any:
    return typer.Option(
        metavar="VALUES", help="Values, as 3,4,5 or first:last:step.", rich_help_panel=_GRID
    )


def _grid(text: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=_GRID, **more)


def _data(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_DATA, **more)


_SCORES = (
    "Folder of scores named like the images, .npy, .npz or .pt, as for [cyan]deeplab-native crf[/]."
    " What is here is what is searched on."
)
_ROUNDS = "Finer grids after the coarse one, each around the best with half the steps."
_LIST = "Only the images named in this file, one a line, without suffix."


@expanded
def run(
    images: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    scores: Annotated[Path, typer.Argument(help=_SCORES)],
    labels: Annotated[
        Path,
        typer.Argument(help="Folder of label PNGs (palette or grey, the value is the class)."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    w1: Annotated[str, _axis()] = "3:6:1",
    sigma_alpha: Annotated[str, _axis()] = "30:100:10",
    sigma_beta: Annotated[str, _axis()] = "3:6:1",
    rounds: Annotated[int, _grid(_ROUNDS, min=0, max=10)] = 2,
    w2: Annotated[float, _grid("Fixed: weight of the smoothness kernel.")] = 3.0,
    sigma_gamma: Annotated[float, _grid("Fixed: its standard deviation in pixels.")] = 3.0,
    iterations: options.Iterations = 10,
    normalization: options.Normalization = "symmetric",
    classes: Annotated[
        str | None,
        _data(metavar="NUMBERS", help="Mean IoU over these alone, as 0,8,15. Default: all there."),
    ] = None,
    void: Annotated[int, _data(min=0, max=255, help="Label that is not counted.")] = 255,
    band: Annotated[
        int,
        _data(min=1, max=500, help="Pixels so close to a boundary have an accuracy of their own."),
    ] = 5,
    count: Annotated[
        int | None, _data("--images", min=1, help="Only so many images, at random.")
    ] = None,
    seed: Annotated[int, _data(help="Which ones.")] = 0,
    names: Annotated[Path | None, _data("--list", metavar="FILE", help=_LIST)] = None,
    exif: options.Exif = True,
    write_report: options.Report = True,
    *,
    reading: ScoreOptions,
    running: RunOptions,
) -> None:
    """Search the CRF parameters for a net's scores, coarse to fine, as the DeepLab paper did.

    Every candidate is judged by the mean IoU over the labelled images; equal ones by pixel
    accuracy, then by their cost.
    """
    axes = {
        "w1": numbers("--w1", w1),
        "sigma_alpha": numbers("--sigma-alpha", sigma_alpha),
        "sigma_beta": numbers("--sigma-beta", sigma_beta),
    }
    chosen = None if classes is None else class_numbers("--classes", classes)

    from .. import jobs
    from ..crf.candidates import Fixed
    from ..crf.search import Grid
    from ..data import read_ids
    from . import repeat, report

    try:
        with report.bar("are done", errors=False) as progress:
            found = jobs.search_crf(
                images, scores, labels, output,
                grid=Grid(**axes), rounds=rounds,
                fixed=Fixed(w2, sigma_gamma, iterations, normalization, void, band),
                classes=chosen, count=count, seed=seed,
                names=None if names is None else read_ids(names),
                scores_format=reading.format(), exif=exif, progress=progress,
                report=write_report, command=repeat.command(), **running.arguments(),
            )  # fmt: skip
    except jobs.ImagesFailedError as error:
        report.explain(error)
        raise
    _print(found, running.json, reading.kind)


def _print(done: SearchResult, as_json: bool, kind: str) -> None:
    from ..jobs._reports import paste
    from . import console, report
    from .errors import in_options

    found, search = done.found, done.found.search
    table = console.table("w1", "sigma_alpha", "sigma_beta", *_COLUMNS)
    table.add_row("before", "", "", *_percent(done.before))
    for ranked in search.ranked[:_ROWS]:
        table.add_row(*(f"{v:g}" for v in ranked.candidate), *_percent(ranked.figures))
    facts = console.facts(
        ("images", str(done.images)),
        *([("scores", report.kinds(found.about.kinds, kind))] if found.about.kinds else []),
        ("classes", f"{len(found.classes)} of {found.num_labels} in the mean IoU"),
        ("candidates", f"{len(search.ranked)} in {len(search.rounds)} grids"),
        ("time", f"{done.seconds:.1f} s"),
        ("written", ", ".join(map(str, done.written))),
    )
    console.result(
        as_json,
        {
            **done.record(),
            "kinds": found.about.kinds,
            "notes": found.about.notes,
            "written": done.written,
        },
        facts,
        table,
    )
    for note in done.notes():
        console.err.print(f"note: {in_options(note)}", soft_wrap=True)
    if not as_json:
        console.out.print(paste(done.params), soft_wrap=True)


def _percent(values: Figures) -> list[str]:
    return ["-" if value != value else f"{value:.3%}" for value in values]
