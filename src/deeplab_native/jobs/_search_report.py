"""What a search leaves: a table, a figure, the best parameters."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__, viz
from .._files import atomic_path
from ..crf.search import Candidate, Figures, figures
from ._reports import REPORT
from ._search import Found, Plan
from ._search_html import draw_coarse_grid

BEST, CANDIDATES, HEATMAP = "best.json", "candidates.csv", "heatmap.png"


def write_results(
    plan: Plan, found: Found, out: Path, seconds: float, html: viz.HTMLReport | None
) -> list[Path]:
    """Each file whole or not at all.

    Without `html` a report of an earlier run goes, which would say something else.
    """
    written = [out / CANDIDATES, out / HEATMAP]
    _write_csv(out / CANDIDATES, found)
    best = found.search.best
    title = (
        "Coarse grid; the best of all: "
        f"w1 = {best.candidate.w1:g}, sigma_alpha = {best.candidate.sigma_alpha:g}, "
        f"sigma_beta = {best.candidate.sigma_beta:g}, {best.figures.mean_iou:.3%}"
    )
    viz.save_figure(out / HEATMAP, draw_coarse_grid(found.search, columns=4, title=title))
    if html is None:
        (out / REPORT).unlink(missing_ok=True)
    else:
        written.insert(0, out / REPORT)
        html.write(out / REPORT)
    text = json.dumps(best_record(plan, found, seconds), indent=2) + "\n"
    with atomic_path(out / BEST) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return [out / BEST, *written]


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
