"""Lines over iterations, as of a training, and bars of times, as of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .figures import FONT, INK, LINES, SERIES, WIDTH, legend, new_figure, polish, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

_SMOOTHED = 200  # points of a curve from which its running mean is drawn over it
_WINDOW = 25  # of which a running mean is one value
_TALLEST = 30.0  # inches
_FAR_APART = 30  # the longest to the shortest time where the scale is logarithmic


class Spread(NamedTuple):
    """Of repeated measurements: the middle one, and what most of them lie between."""

    median: float
    low: float
    high: float


def draw_curves(
    curves: Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
    smooth: bool = False,
    title: str | None = None,
) -> Figure:
    """Lines of (x, y) points, by their names.

    Args:
        curves: name to (N,) places and (N,) values; values that are NaN leave a gap.
        x_label, y_label: what they are, with their units.
        log: whether the values stand on a logarithmic scale.
        smooth: whether a curve of many points is faint, with its running mean over it.
        title: above it.

    Raises ValueError where there is nothing to draw, or as many places as values are not there.
    """
    if not curves:
        raise ValueError("curves: expected at least one, got none")
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    for i, (name, (x, y)) in enumerate(curves.items()):
        places, values = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if places.shape != values.shape or places.ndim != 1 or not len(places):
            raise ValueError(
                f"curves: expected as many places as values of {name!r}, at least one, "
                f"got {places.shape} and {values.shape}"
            )
        colour, line = SERIES[i % len(SERIES)], LINES[i % len(LINES)]
        mark = "o" if len(places) <= 30 else None
        if smooth and len(places) >= _SMOOTHED:
            axes.plot(places, values, color=colour, linewidth=0.7, alpha=0.3)
            ones = np.ones(_WINDOW) / _WINDOW
            middle = slice(_WINDOW // 2, len(places) - (_WINDOW - 1) // 2)
            places, values = places[middle], np.convolve(values, ones, "valid")
            name = f"{name}, mean of {_WINDOW} points"
        axes.plot(places, values, line, color=colour, marker=mark, ms=4, lw=1.6, label=name)
    polish(axes, grid="both")
    axes.set(xlabel=x_label, ylabel=y_label)
    if log:
        axes.set_yscale("log")
    if len(curves) > 1 or smooth:
        legend(axes)
    set_title(figure, title)
    return figure


def draw_bench_chart(
    cases: Mapping[str, Mapping[str, Spread | float]],
    *,
    unit: str = "ms",
    title: str | None = None,
) -> Figure:
    """How long each of several ways takes: bars in groups, one for every case.

    Args:
        cases: case, as "375x500, 21 labels", to way, as "pydensecrf", to a number, or to a
            `Spread`, which is drawn as a line over the bar. A way may be missing in a case.
        unit: of the numbers. Where they differ by more than 30 times they are points on a
            logarithmic scale.
        title: above it.

    Raises ValueError where there is nothing to draw, or a number is not positive.
    """
    ways = list(dict.fromkeys(way for measured in cases.values() for way in measured))
    if not ways:
        raise ValueError("cases: expected at least one measurement, got none")
    spreads = {
        case: {way: _spread(way, number) for way, number in measured.items()}
        for case, measured in cases.items()
    }
    values = [one.median for measured in spreads.values() for one in measured.values()]
    log = max(values) > _FAR_APART * min(values)
    height = 1.1 + sum(0.22 * len(measured) + 0.16 for measured in cases.values())
    figure = new_figure(WIDTH, min(_TALLEST, max(2.2, height)))
    axes = figure.subplots()
    at, ticks = 0.0, []
    for measured in spreads.values():
        ticks.append(at + (len(measured) - 1) / 2)
        for way, one in measured.items():
            colour = SERIES[ways.index(way) % len(SERIES)]
            if log:  # where a bar, which begins nowhere, would say nothing by its length
                axes.plot(one.median, at, "o", ms=7, color=colour)
            else:
                axes.barh(at, one.median, 0.86, color=colour)
            if one.low < one.high:
                axes.plot([one.low, one.high], [at, at], color=INK, linewidth=1.2)
            text = f"  {one.median:.3g}" if one.median < 1000 else f"  {one.median:,.0f}"
            axes.text(one.high, at, text, va="center", size=FONT - 1.5, color=INK)
            at += 1
        at += 0.7
    polish(axes, grid="x")
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_xlim(min(values) / 1.5, max(values) * 2.5)
    else:
        axes.set_xlim(0, max(values) * 1.18)
    handles = [_handle(way, i) for i, way in enumerate(ways)]
    axes.set_yticks(ticks, list(cases), parse_math=False, fontsize=FONT)
    axes.set(xlabel=unit, ylim=(at - 0.9, -0.8))
    legend(axes, handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(3, len(ways)))
    set_title(figure, title)
    return figure


def _spread(way: str, number: Spread | float) -> Spread:
    one = number if isinstance(number, Spread) else Spread(number, number, number)
    if not 0 < one.low <= one.median <= one.high < float("inf"):
        raise ValueError(
            f"cases: expected positive numbers, low <= median <= high, of {way!r}, got {tuple(one)}"
        )
    return one


def _handle(way: str, number: int) -> Patch:
    """Its colour in the legend."""
    from matplotlib.patches import Patch

    return Patch(color=SERIES[number % len(SERIES)], label=way)
