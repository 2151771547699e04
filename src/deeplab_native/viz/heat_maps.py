"""Values over a grid of two parameters, a panel for every value of a third."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figures import FONT, INK, new_figure, polish, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL, _MOST, _MARGIN = 0.55, 8.0, 1.3  # inches; a panel has at most _MOST of cells
_MOST_NUMBERS = 150  # cells of a panel with their value in them


def draw_heat_maps(
    panels: Mapping[str, np.ndarray | Sequence[Sequence[float]]],
    x: Sequence[float],
    y: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    value_label: str,
    framed: tuple[str, int, int] | None = None,
    columns: int = 2,
    title: str | None = None,
) -> Figure:
    """Values by colour, and as numbers where there is room; the colours are those of all panels.

    Args:
        panels: title, as "w1 = 3", to (Y, X) numbers.
        x, y: the X and Y values of the parameters, across and up.
        x_label, y_label, value_label: their names.
        framed: (panel, index of x, index of y) of the cell with a frame, as the best.
        columns: of panels, at most.
        title: above it.

    Raises ValueError where a panel has another shape, there is none, or `framed` is not there.
    """
    shape = (len(y), len(x))
    if not panels or 0 in shape:
        raise ValueError("panels: expected at least one, of at least one cell, got none")
    arrays = {name: np.asarray(values, np.float64) for name, values in panels.items()}
    for name, values in arrays.items():
        if values.shape != shape:
            raise ValueError(f"panels: expected {shape} values of {name!r}, got {values.shape}")
    if framed is not None and not (
        framed[0] in arrays and 0 <= framed[1] < len(x) and 0 <= framed[2] < len(y)
    ):
        raise ValueError(f"framed: expected a panel and indices of x and y, got {framed}")
    low = min(float(np.nanmin(values)) for values in arrays.values())
    high = max(float(np.nanmax(values)) for values in arrays.values())
    across = min(columns, len(arrays))
    down = math.ceil(len(arrays) / across)
    width = _MARGIN + min(_MOST, max(2.2, _CELL * len(x)))
    height = _MARGIN + min(_MOST, max(1.0, _CELL * len(y)))
    figure = new_figure(across * width + 0.6, down * height + (0.5 if title else 0.1))
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, (name, values) in zip(axes, arrays.items(), strict=False):
        drawn = axis.imshow(
            values,
            origin="lower",
            aspect="auto",
            cmap="cividis",  # the same to every eye
            vmin=low,
            vmax=max(high, low + 1e-6),
        )
        polish(axis)
        set_title(axis, name)
        axis.set_xticks(range(len(x)), [f"{v:g}" for v in x])
        axis.set_yticks(range(len(y)), [f"{v:g}" for v in y])
        axis.set(xlabel=x_label, ylabel=y_label)
        if values.size <= _MOST_NUMBERS:
            _write_values(axis, values, (low + high) / 2)
        if framed is not None and framed[0] == name:
            _frame(axis, framed[1], framed[2])
    for axis in axes[len(arrays) :]:
        axis.set_axis_off()
    bar = figure.colorbar(drawn, ax=axes.tolist())
    bar.set_label(value_label, size=FONT, color=INK)
    bar.ax.tick_params(labelsize=FONT)
    set_title(figure, title)
    return figure


def _write_values(axes: Axes, values: np.ndarray, middle: float) -> None:
    for (y, x), value in np.ndenumerate(values):
        colour = "black" if value > middle else "white"
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", size=FONT - 2, color=colour)


def _frame(axes: Axes, x: int, y: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (x - 0.5, y - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="white", lw=4, clip_on=False))
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#D55E00", lw=2, clip_on=False))
