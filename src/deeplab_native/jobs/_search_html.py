"""The report of a search: report.html, whose numbers are those of best.json and candidates.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from .. import viz
from ..crf.search import Candidate, Figures, Search, figures
from ._reports import paste
from ._search import Found, Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 30  # candidates of the table


def build(
    plan: Plan,
    found: Found,
    notes: Sequence[str],
    *,
    command: str | None,
    machine: Mapping[str, str],
) -> viz.HTMLReport:
    """`notes`: what should be known of the best parameters before they are used."""
    search, best = found.search, found.search.best
    before = figures(found.before.counts, found.classes)
    title = f"{len(plan.items):,} images, {found.num_labels} labels"
    html = viz.HTMLReport("CRF search", title, command, machine)
    for name, now, then in zip(("mean IoU", "pixel accuracy"), best.figures, before, strict=False):
        html.headline(name, f"{100 * now:.3f} %", f"{100 * then:.3f} % before the CRF")
    html.headline("candidates", f"{len(search.ranked)}", f"in {len(search.rounds)} grids")
    html.headline("images", f"{len(plan.items):,}", f"{len(found.classes)} classes")
    html.section("The best parameters")
    html.code(paste(plan.fixed.params(best.candidate)))
    for note in notes:
        html.text(f"Note: {note}.")
    html.section("Coarse grid")
    html.figure(
        draw_coarse_grid(search),
        "Heat maps: mean IoU over sigma_alpha and sigma_beta, a panel for every w1.",
        note="The frame is around the best of this grid.",
    )
    _candidates(html, found, before)
    html.section("The grids")
    html.table(
        ["grid", *Candidate._fields, "its best", "mean IoU"],
        [
            [
                "coarse" if i == 0 else f"round {i}",
                *(", ".join(f"{v:g}" for v in getattr(r.grid, name)) for name in Candidate._fields),
                " / ".join(f"{v:g}" for v in r.best.candidate),
                f"{r.best.figures.mean_iou:.3%}",
            ]
            for i, r in enumerate(search.rounds)
        ],
        note="Each finer grid is around the best so far, with half the steps.",
    )
    html.section("Parameters")
    html.facts(
        {
            **{name: value for name, value in plan.reading.items() if value is not None},
            **asdict(plan.fixed),
            "classes": found.classes,
            "labels": found.num_labels,
            "device": plan.device,
        }
    )
    return html


def draw_coarse_grid(search: Search, *, columns: int = 2, title: str | None = None) -> Figure:
    """A panel for every w1 of the coarse grid: sigma_alpha across, sigma_beta up."""
    grid, coarse = search.rounds[0]
    scores = {r.candidate: 100 * r.figures.mean_iou for r in search.ranked}
    framed = coarse.candidate
    return viz.draw_heat_maps(
        {
            f"w1 = {w1:g}": [
                [scores[Candidate(w1, a, b)] for a in grid.sigma_alpha] for b in grid.sigma_beta
            ]
            for w1 in grid.w1
        },
        grid.sigma_alpha,
        grid.sigma_beta,
        x_label="sigma_alpha",
        y_label="sigma_beta",
        value_label="mean IoU, %",
        framed=(
            f"w1 = {framed.w1:g}",
            grid.sigma_alpha.index(framed.sigma_alpha),
            grid.sigma_beta.index(framed.sigma_beta),
        ),
        columns=columns,
        title=title,
    )


def _candidates(html: viz.HTMLReport, found: Found, before: Figures) -> None:
    ranked = found.search.ranked
    html.section("Candidates")
    html.table(
        ["w1 / sigma_alpha / sigma_beta", "mean IoU", "accuracy", "band accuracy", "vertices"],
        [
            ["scores alone, no CRF", *_percent(before), ""],
            *(
                [
                    " / ".join(f"{v:g}" for v in r.candidate),
                    *_percent(r.figures),
                    f"{r.vertices:,}",
                ]
                for r in ranked[:_MOST]
            ),
        ],
        marked=1,
        note=(f"The best {_MOST} of {len(ranked)}; " if len(ranked) > _MOST else "")
        + "candidates.csv has all. Vertices of the lattices are what a candidate costs.",
    )


def _percent(values: Figures) -> list[str]:
    return ["-" if value != value else f"{value:.3%}" for value in values]
