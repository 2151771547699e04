"""The picture of a search: mean IoU over the coarse grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._files import atomic_path
from ..crf.search import Candidate
from ._search import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4  # of panels
_CELL, _MOST, _MARGIN = 0.62, 8.0, 1.3  # inches; a panel has at most _MOST of cells
_MOST_NUMBERS = 150  # cells of a panel with their value in them
_DPI = 110


def save_heatmap(path: Path, found: Found) -> None:
    """A panel for every w1 of the coarse grid: sigma_alpha across, sigma_beta up."""
    from matplotlib.figure import Figure

    grid, coarse = found.search.rounds[0]
    scores = {r.candidate: 100 * r.figures.mean_iou for r in found.search.ranked}
    panels = {
        w1: np.array(
            [[scores[Candidate(w1, a, b)] for a in grid.sigma_alpha] for b in grid.sigma_beta]
        )
        for w1 in grid.w1
    }
    low = min(values.min() for values in panels.values())
    high = max(values.max() for values in panels.values())
    across = min(_COLUMNS, len(panels))
    down = math.ceil(len(panels) / across)
    width = _MARGIN + min(_MOST, max(3.0, _CELL * len(grid.sigma_alpha)))
    height = _MARGIN + min(_MOST, max(1.0, _CELL * len(grid.sigma_beta)))
    figure = Figure(figsize=(across * width, down * height + 0.5), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, (w1, values) in zip(axes, panels.items(), strict=False):
        picture = axis.imshow(
            values, origin="lower", aspect="auto", vmin=low, vmax=max(high, low + 1e-6)
        )
        axis.set_title(f"w1 = {w1:g}")
        axis.set_xticks(range(len(grid.sigma_alpha)), [f"{v:g}" for v in grid.sigma_alpha])
        axis.set_yticks(range(len(grid.sigma_beta)), [f"{v:g}" for v in grid.sigma_beta])
        axis.set_xlabel("sigma_alpha")
        axis.set_ylabel("sigma_beta")
        if values.size <= _MOST_NUMBERS:
            _write_values(axis, values, (low + high) / 2)
        framed = coarse.candidate
        if framed.w1 == w1:
            at = (
                grid.sigma_alpha.index(framed.sigma_alpha),
                grid.sigma_beta.index(framed.sigma_beta),
            )
            axis.plot(*at, "s", markersize=26, markerfacecolor="none", markeredgecolor="red")
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.colorbar(picture, ax=axes.tolist(), label="mean IoU, %")
    best = found.search.best
    figure.suptitle(
        "Coarse grid; the best of all: "
        f"w1 = {best.candidate.w1:g}, sigma_alpha = {best.candidate.sigma_alpha:g}, "
        f"sigma_beta = {best.candidate.sigma_beta:g}, {best.figures.mean_iou:.3%}"
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def _write_values(axis: Axes, values: np.ndarray, middle: float) -> None:
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            colour = "black" if value > middle else "white"
            axis.text(x, y, f"{value:.2f}", ha="center", va="center", size=7, color=colour)
