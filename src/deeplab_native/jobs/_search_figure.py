"""The picture of a search: mean IoU over the coarse grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import viz
from ..crf.search import Candidate, Search

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_coarse_grid(search: Search) -> Figure:
    """A panel for every w1 of the coarse grid: sigma_alpha across, sigma_beta up."""
    grid, coarse = search.rounds[0]
    scores = {r.candidate: 100 * r.figures.mean_iou for r in search.ranked}
    framed, best = coarse.candidate, search.best
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
        title="Coarse grid; the best of all: "
        f"w1 = {best.candidate.w1:g}, sigma_alpha = {best.candidate.sigma_alpha:g}, "
        f"sigma_beta = {best.candidate.sigma_beta:g}, {best.figures.mean_iou:.3%}",
    )
