"""What a search leaves: a table, a figure, the best parameters."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__, viz
from .._files import atomic_path
from ..crf import CRFParams
from ..crf.search import Candidate, Figures, figures
from ._search import Found, Plan
from ._search_figure import draw_coarse_grid

BEST, CANDIDATES, HEATMAP = "best.json", "candidates.csv", "heatmap.png"


def write_results(plan: Plan, found: Found, out: Path, seconds: float) -> list[Path]:
    """Each file whole or not at all."""
    written = [out / BEST, out / CANDIDATES, out / HEATMAP]
    _write_csv(out / CANDIDATES, found)
    text = json.dumps(best_record(plan, found, seconds), indent=2) + "\n"
    with atomic_path(out / BEST) as temporary:
        temporary.write_text(text, encoding="utf-8")
    viz.save_figure(out / HEATMAP, draw_coarse_grid(found.search))
    return written


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
