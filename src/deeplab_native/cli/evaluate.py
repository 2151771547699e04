"""`deeplab-native evaluate`: mean IoU and trimaps of weights or of scores, with and without CRF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options, weights_words
from .dataset_options import DatasetOptions
from .names import DATASETS
from .option_groups import CRFOptions, RunOptions, ScoreOptions, expanded

if TYPE_CHECKING:
    from rich.table import Table

    from ..jobs import EvaluateResult
    from ..jobs._evaluate_report import Report

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native evaluate voc VOCdevkit --weights net.safetensors -o results/[/]

[cyan]deeplab-native evaluate voc VOCdevkit --weights net.safetensors --multi-scale -o both/[/]

[cyan]deeplab-native evaluate folder shapes/ --scores logits/ --w1 10 -o results/[/]

The same command again goes on where it was interrupted; images whose files have changed are counted
anew. OUTPUT gets report.html, to look at, evaluation.json, classes.csv, trimap.csv, evaluation.png,
and counts.sqlite, the counts of every image."""

_DATASET = f"One of {', '.join(DATASETS)}."
_MAPS = (
    "Instead of a net: .npy, .npz or .pt score maps named like the images, as "
    "[cyan]deeplab-native crf[/] reads them."
)
_TRIMAP = (
    "void (the paper's bands around the void outlines of VOC), boundary (around changes of the "
    "label), none, or auto: what the data set has."
)
_CRF = (
    "Also with the CRF, beside without: with the parameters in the weights, or voc-resnet101, "
    "unless others are given."
)
_BAD = "Leave out images that cannot be read. Without it they are an error in the end."
_MSC = "Also at 1, 0.75 and 0.5, fused (the paper's MSC)."


@expanded
def run(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help=_DATASET)],
    root: Annotated[Path, typer.Argument(help="Its folder, in the set's own layout.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A net: .safetensors written by us.")
    ] = None,
    scores: Annotated[Path | None, typer.Option(metavar="DIR", help=_MAPS)] = None,
    mean_over: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Classes of the means, by commas. Default: all."),
    ] = None,
    single_scale: Annotated[
        bool, typer.Option("--single-scale/--no-single-scale", help="Images at their own size.")
    ] = True,
    multi_scale: Annotated[bool, typer.Option("--multi-scale", help=_MSC)] = False,
    trimap: Annotated[str, typer.Option(help=_TRIMAP)] = "auto",
    use_crf: Annotated[bool, typer.Option("--crf/--no-crf", help=_CRF)] = True,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help=_BAD)] = False,
    exif: options.Exif = True,
    write_report: options.Report = True,
    *,
    choice: DatasetOptions,
    reading: ScoreOptions,
    crf: CRFOptions,
    running: RunOptions,
) -> None:
    """Evaluate weights or score maps on a data set, before and after the CRF."""
    from .. import jobs
    from . import console, repeat, report

    if weights is not None and scores is None:
        for option in reading.given():
            raise ValueError(f"{option} is for score maps, not for a net (give --scores)")
    crf.settings()  # a wrong value is an error before anything is read
    opened = choice.open(dataset, root)
    try:
        with weights_words.in_options(), report.bar("are counted") as progress:
            found = jobs.evaluate(
                opened, output,
                weights=weights, scores=scores,
                scores_format=None if scores is None else reading.format(),
                crf=crf.settings if use_crf else None,
                single_scale=single_scale, multi_scale=multi_scale, trimap=trimap,
                mean_over=mean_over and [name.strip() for name in mean_over.split(",")],
                skip_bad=skip_bad, exif=exif, root=root, progress=progress,
                report=write_report, command=repeat.command(), **running.arguments(),
            )  # fmt: skip
    except jobs.ImagesFailedError as error:
        what = "are left out" if skip_bad else "failed, so that no figures are written"
        report.print_failed(error.failed, error.total, what)
        if not skip_bad:
            console.err.print(
                "mend them and run the same command again, or leave them out with --skip-bad"
            )
        raise typer.Exit(1) from None
    if found.failed:
        report.print_failed(found.failed, found.images + len(found.failed), "are left out")
    facts = _facts(found, reading.kind)
    console.result(running.json, _values(found), facts, *_tables(found.report))
    report.print_notes(found.notes)


def _values(found: EvaluateResult) -> dict[str, Any]:
    return {
        **found.report.record(),
        "counted": found.counted,
        "counted before": found.skipped,
        "kinds": found.kinds,
        "notes": found.notes,
        "seconds": found.seconds,
        "written": found.written,
    }


def _facts(found: EvaluateResult, kind: str) -> Table:
    from . import console, report

    settings, bad = found.settings, found.failed
    pixels = next(iter(found.report.variants.values())).scores.pixels
    rate = f", {found.counted / max(1e-9, found.seconds):.2f} images/s" if found.counted else ""
    total = found.images + len(bad)
    return console.facts(
        ("data set", f"{found.report.title}, {found.images} images, {pixels} pixels"),
        *([("left out", f"{len(bad)} of {total} images: named above")] if bad else []),
        *([("scores", report.kinds(found.kinds, kind))] if found.kinds else []),
        ("CRF", report.describe_crf(settings.crf)),
        ("trimap", f"around {settings.around}" if settings.around else "none"),
        ("time", f"{found.seconds:.1f} s{rate}, {found.skipped} images counted before"),
        ("written", ", ".join(map(str, found.written))),
    )


def _tables(report: Report) -> list[Table]:
    """Percentages: IoU by class, and the measures."""
    from ..jobs._evaluate_report import MEASURES, percent
    from . import console

    title = None if report.mean_over is None else "The means leave out (classes in parentheses)."
    by_class = console.table("IoU, %", *report.variants, title=title)
    for i, name in enumerate(report.classes):
        values = [float(v.scores.class_iou[i]) for v in report.variants.values()]
        counted = report.mean_over is None or i in report.mean_over
        by_class.add_row(name if counted else f"({name})", *map(percent, values))
    overall = console.table("%", *report.variants)
    for key, name in MEASURES.items():
        values = [getattr(v.scores, key) for v in report.variants.values()]
        overall.add_row(name, *map(percent, values))
    return [by_class, overall]
