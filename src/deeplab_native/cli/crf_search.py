"""`deeplab-native crf-search`: the CRF parameters that suit a net's scores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from . import options

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native crf-search photos/ scores/ labels/ --out search/[/]  the paper's grid

[cyan]deeplab-native crf-search photos/ scores/ labels/ --out search/ --images 100 --seed 1[/]

[cyan]deeplab-native crf-search photos/ scores/ labels/ --out search/ --w1 4:10:2
--sigma-alpha 40,60,80 --sigma-beta 3:13:5 --rounds 1 --classes 8,12,15[/]"""

_GRID, _DATA, _RUN = "Grid", "Data", "Run"
_AXIS = "Values, as 3,4,5 or first:last:step."


def run(
    images: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    scores: Annotated[
        Path,
        typer.Argument(
            help="Folder of scores named like the images, .npy or .npz, as for "
            "[cyan]deeplab-native crf[/]. What is here is what is searched on."
        ),
    ],
    labels: Annotated[
        Path,
        typer.Argument(help="Folder of label PNGs (palette or grey, the value is the class)."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Folder for search.jsonl, from which the same command goes on, best.json, "
            "candidates.csv and heatmap.png.",
        ),
    ],
    w1: Annotated[str, typer.Option(metavar="VALUES", help=_AXIS, rich_help_panel=_GRID)] = "3:6:1",
    sigma_alpha: Annotated[
        str, typer.Option(metavar="VALUES", help=_AXIS, rich_help_panel=_GRID)
    ] = "30:100:10",
    sigma_beta: Annotated[
        str, typer.Option(metavar="VALUES", help=_AXIS, rich_help_panel=_GRID)
    ] = "3:6:1",
    rounds: Annotated[
        int,
        typer.Option(
            min=0,
            max=10,
            help="Finer grids after the coarse one, each around the best with half the steps.",
            rich_help_panel=_GRID,
        ),
    ] = 2,
    w2: Annotated[
        float, typer.Option(help="Fixed: weight of the smoothness kernel.", rich_help_panel=_GRID)
    ] = 3.0,
    sigma_gamma: Annotated[
        float,
        typer.Option(help="Fixed: its standard deviation in pixels.", rich_help_panel=_GRID),
    ] = 3.0,
    iterations: options.Iterations = 10,
    normalization: options.Normalization = "symmetric",
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Mean IoU over these alone, as 0,8,15. Default: all that the labels have.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    void: Annotated[
        int,
        typer.Option(min=0, max=255, help="Label that is not counted.", rich_help_panel=_DATA),
    ] = 255,
    band: Annotated[
        int,
        typer.Option(
            min=1,
            max=500,
            help="Pixels so close to a boundary have an accuracy of their own.",
            rich_help_panel=_DATA,
        ),
    ] = 5,
    count: Annotated[
        int | None,
        typer.Option(
            "--images", min=1, help="Only so many images, at random.", rich_help_panel=_DATA
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which ones.", rich_help_panel=_DATA)] = 0,
    names: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Only the images named in this file, one a line, without suffix.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="logits, probabilities or auto.", rich_help_panel=_DATA)
    ] = "auto",
    layout: Annotated[str, typer.Option(help="chw, hwc or auto.", rich_help_panel=_DATA)] = "auto",
    key: Annotated[
        str | None, typer.Option(help="Array of the .npz files.", rich_help_panel=_DATA)
    ] = None,
    resize: Annotated[
        bool,
        typer.Option("--resize", help="Scale scores to the images' sizes.", rich_help_panel=_DATA),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", rich_help_panel=_RUN)] = "cpu",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes, each with an image in memory. Default: one for each core.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    threads: Annotated[
        int,
        typer.Option(min=1, help="CPU threads of each process.", rich_help_panel=_RUN),
    ] = 1,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Begin anew in --out.", rich_help_panel=_RUN),
    ] = False,
) -> None:
    """Search the CRF parameters for a net's scores, coarse to fine, as the DeepLab paper did.

    Every candidate is judged by the mean IoU over the labelled images; equal ones by pixel
    accuracy, then by their cost.
    """
    for option, number in (("--workers", workers), ("--threads", threads)):
        options.check_count(option, number or 1)
    axes = {
        "w1": numbers("--w1", w1),
        "sigma_alpha": numbers("--sigma-alpha", sigma_alpha),
        "sigma_beta": numbers("--sigma-beta", sigma_beta),
    }
    chosen = None if classes is None else class_numbers("--classes", classes)

    from ..crf.candidates import Fixed
    from ..crf.search import Grid
    from ..data import read_ids
    from . import crf_search_report
    from .crf_search_cuda import check_device
    from .crf_search_files import FolderLoader, Folders, draw
    from .crf_search_run import Plan

    check_device(device)
    loader = FolderLoader(kind, layout, key, resize)
    fixed = Fixed(w2, sigma_gamma, iterations, normalization, void, band)
    grid = Grid(**axes)
    folders = Folders(images, scores, labels)
    items = draw(folders.items(None if names is None else read_ids(names)), count, seed)
    crf_search_report.check_out(out, folders)
    plan = Plan(
        items,
        loader,
        {"kind": kind, "layout": layout, "key": key, "resize": resize},
        grid,
        rounds,
        fixed,
        chosen,
        workers or len(os.sched_getaffinity(0)),
        threads,
        device,
    )
    crf_search_report.search_and_report(plan, out, overwrite=overwrite)


def numbers(option: str, text: str) -> list[float]:
    """ "3,4,5" or "3:5:1" as numbers; ValueError that names the option."""
    advice = "(give 3,4,5 or first:last:step)"
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        first, last, step = map(float, text.split(":"))
    except ValueError:
        raise ValueError(f"{option} {text}: not a list of numbers {advice}") from None
    if not (step > 0 and 0 <= last - first <= _MOST_VALUES * step):  # also for NaN
        raise ValueError(f"{option} {text}: expected first <= last and a step above 0 {advice}")
    # 1e-9: so that 0.1:0.3:0.1 has its last one
    return [round(first + i * step, 12) for i in range(int((last - first) / step + 1e-9) + 1)]


_MOST_VALUES = 1000


def class_numbers(option: str, text: str) -> list[int]:
    """ "0,8,15" as class numbers, each once; ValueError that names the option."""
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ValueError(f"{option} {text}: not a list of class numbers (give 0,8,15)") from None
