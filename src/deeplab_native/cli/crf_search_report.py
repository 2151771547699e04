"""What `deeplab-native crf-search` leaves: files, a table, the parameters to paste."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import typer

from .. import __version__
from .._files import atomic_path
from ..crf.search import Candidate, Figures, Ranked, figures
from . import console, crf_search_run
from .crf_search_files import Folders
from .crf_search_run import Found, Plan

if TYPE_CHECKING:
    from ..crf import CRFParams

_ROWS = 10  # of the table; candidates.csv has all
_COLUMNS = ("mean IoU", "accuracy", "band accuracy")


def check_out(out: Path, folders: Folders) -> None:
    """Raises where results could not lie in `out`."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} is a file (give a folder)")
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise ValueError(f"--out {out}: results would lie among the inputs (give another folder)")


def search_and_report(plan: Plan, out: Path, *, overwrite: bool) -> None:
    """Raises typer.Exit(130) after Ctrl-C."""
    start = perf_counter()
    try:
        found = crf_search_run.run(plan, out, overwrite=overwrite)
    except KeyboardInterrupt:
        console.err.print("interrupted: the same command goes on from there")
        raise typer.Exit(130) from None
    seconds = perf_counter() - start
    _write_csv(out / "candidates.csv", found)
    _write_best(out / "best.json", plan, found, seconds)
    from .crf_search_figure import save_heatmap

    save_heatmap(out / "heatmap.png", found)
    _print(plan, found, out, seconds)


def paste(params: CRFParams) -> str:
    """The parameters as Python code."""
    # 12 digits: exact for steps that were halved ten times
    values = ", ".join(f"{name}={value:.12g}" for name, value in asdict(params).items())
    return f"CRFParams({values})"


def _write_csv(path: Path, found: Found) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*Candidate._fields, *Figures._fields, "vertices"])
        writer.writerows([*r.candidate, *r.figures, r.vertices] for r in found.search.ranked)


def best_record(plan: Plan, found: Found, seconds: float) -> dict[str, Any]:
    """The result as JSON values: figures in 0..1, `seconds` of this run alone."""
    best = found.search.best
    return {
        "deeplab_native": __version__,
        "params": asdict(plan.fixed.params(best.candidate)),
        "figures": _json(best.figures),
        "before": _json(figures(found.before.counts, found.classes)),
        "classes": found.classes,
        "num_labels": found.num_labels,
        "candidates": len(found.search.ranked),
        "rounds": [
            {
                **{name: list(getattr(r.grid, name)) for name in Candidate._fields},
                "best": r.best.candidate._asdict(),
                "mean_iou": r.best.figures.mean_iou,
            }
            for r in found.search.rounds
        ],
        "settings": {**plan.reading, **asdict(plan.fixed)},
        "device": plan.device,
        "seconds": round(seconds, 1),
        "images": [item.name for item in plan.items],
    }


def _json(values: Figures) -> dict[str, float | None]:
    """NaN, of a band without pixels, is no JSON."""
    return {name: value if value == value else None for name, value in values._asdict().items()}


def _write_best(path: Path, plan: Plan, found: Found, seconds: float) -> None:
    text = json.dumps(best_record(plan, found, seconds), indent=2) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _print(plan: Plan, found: Found, out: Path, seconds: float) -> None:
    before = figures(found.before.counts, found.classes)
    best = found.search.best
    table = console.table("w1", "sigma_alpha", "sigma_beta", *_COLUMNS)
    table.add_row("before", "", "", *_percent(before))
    for ranked in found.search.ranked[:_ROWS]:
        table.add_row(*(f"{v:g}" for v in ranked.candidate), *_percent(ranked.figures))
    files = ", ".join(str(out / n) for n in ("best.json", "candidates.csv", "heatmap.png"))
    classes = f"{len(found.classes)} of {found.num_labels}"
    console.out.print(
        console.facts(
            ("images", str(len(plan.items))),
            ("classes", f"{classes} in the mean IoU"),
            ("candidates", f"{len(found.search.ranked)} in {len(found.search.rounds)} grids"),
            ("time", f"{seconds:.1f} s"),
            ("written", files),
        ),
        table,
    )
    for note in _notes(best, before, found):
        console.err.print(f"note: {note}", soft_wrap=True)
    console.out.print(paste(plan.fixed.params(best.candidate)), soft_wrap=True)


def _percent(values: Figures) -> list[str]:
    return ["-" if value != value else f"{value:.3%}" for value in values]


def _notes(best: Ranked, before: Figures, found: Found) -> list[str]:
    notes = []
    edges = found.search.rounds[0].grid.at_edge(best.candidate)
    if edges:
        notes.append(
            f"the best {' and '.join(edges)} is at the end of the coarse grid or beyond: "
            "a wider grid may have a better one"
        )
    if best.figures.mean_iou <= before.mean_iou:
        notes.append("no candidate has a higher mean IoU than the scores alone")
    return notes
