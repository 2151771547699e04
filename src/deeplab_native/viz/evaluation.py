"""Figures of how good label maps are: IoU by class, trimap curve, confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figures import (
    FONT,
    INK,
    LINES,
    SERIES,
    WIDTH,
    legend,
    new_figure,
    polish,
    set_names,
    set_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Values = Sequence[float] | np.ndarray

_TALLEST = 40.0  # inches, of figures that grow with the classes
_MOST_NUMBERS = 12  # classes of a confusion matrix that has its numbers written in it
_MOST_NAMES = 60  # and that has their names at its sides


def draw_class_iou(
    ious: Mapping[str, Values],
    classes: Sequence[str],
    *,
    means: Mapping[str, float] | None = None,
    only_present: bool = True,
    title: str | None = None,
) -> Figure:
    """Bars: the IoU of every class, one for each of the label maps that are compared.

    Args:
        ious: name of a kind of label maps, as "scores + CRF", to (L,) shares of 1; NaN for a
            class that is neither labelled nor predicted there.
        classes: L names.
        means: of the same names, the mean IoU that the legend says.
        only_present: leaves out classes that are NaN for all.
        title: above it.

    Raises ValueError where the lengths differ, or there is nothing to draw.
    """
    _check_lengths("ious", ious, len(classes))
    if only_present:
        ious, classes = _present(ious, classes)
    figure = new_figure(WIDTH, _bars_height(len(classes), len(ious)))
    _class_iou(figure.subplots(), ious, classes, means or {})
    set_title(figure, title)
    return figure


def draw_trimap_curve(
    curves: Mapping[str, Values],
    *,
    widths: Sequence[int] | None = None,
    measure: str = "mean IoU",
    title: str | None = None,
) -> Figure:
    """Lines: how good label maps are close to the outlines, by the width of the band (Figure 10).

    Args:
        curves: name of a kind of label maps to (W,) shares of 1.
        widths: W widths in pixels; None: 1 to W.
        measure: what the shares are.
        title: above it.

    Raises ValueError where the lengths differ, or there is nothing to draw.
    """
    figure = new_figure(WIDTH, 3.8)
    _trimap_curve(figure.subplots(), curves, widths, measure)
    set_title(figure, title)
    return figure


def draw_evaluation(
    ious: Mapping[str, Values],
    classes: Sequence[str],
    curves: Mapping[str, Values] | None = None,
    *,
    means: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Figure:
    """`draw_class_iou` and, where there are `curves`, `draw_trimap_curve` beside it."""
    _check_lengths("ious", ious, len(classes))
    ious, classes = _present(ious, classes)
    height = max(4.5, _bars_height(len(classes), len(ious)))
    figure = new_figure(12 if curves else 7, height)
    axes = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
    _class_iou(axes[0], ious, classes, means or {})
    if curves:
        _trimap_curve(axes[1], curves, None, "mean IoU")
    set_title(figure, title)
    return figure


def draw_confusion_matrix(
    counts: np.ndarray,
    classes: Sequence[str],
    *,
    only_present: bool = True,
    title: str | None = None,
) -> Figure:
    """What the pixels of every class were taken for.

    Args:
        counts: (L, L) numbers of pixels, row = label, column = prediction, as of
            `metrics.confusion_matrix`. Colours are shares of the row.
        classes: L names.
        only_present: leaves out classes that are neither labelled nor predicted.
        title: above it.

    Raises ValueError where `counts` has another form, or negative numbers.
    """
    counts = np.asarray(counts)
    size = len(classes)
    if counts.shape != (size, size) or counts.dtype.kind not in "iuf":
        raise ValueError(
            f"counts: expected ({size}, {size}) numbers for {size} classes, "
            f"got {counts.shape} {counts.dtype}"
        )
    if size == 0 or counts.min() < 0:
        raise ValueError("counts: expected numbers of pixels of at least one class")
    if only_present and counts.any():
        kept = np.flatnonzero(counts.sum(0) + counts.sum(1)).tolist()
        counts, classes = counts[np.ix_(kept, kept)], [classes[i] for i in kept]
        size = len(classes)
    labelled = counts.sum(1, keepdims=True)
    shares = np.divide(
        100 * counts, labelled, out=np.full((size, size), np.nan), where=labelled > 0
    )
    side = min(12.0, max(WIDTH, 0.25 * size + 2.2)) if size <= _MOST_NAMES else 8.0
    figure = new_figure(side, side * 0.92)
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_facecolor("#eef1f4")  # of classes without labels, whose rows have no shares
    polish(axes)
    axes.set(xlabel="predicted", ylabel="labelled")
    if size <= _MOST_NAMES:
        set_names(axes.xaxis, classes, rotation=45, ha="right", rotation_mode="anchor")
        set_names(axes.yaxis, classes)
    if size <= _MOST_NUMBERS:
        for (y, x), share in np.ndenumerate(shares):
            if share == share:
                ink = "white" if share > 55 else INK
                text = "100" if share > 99.95 else f"{share:.1f}"
                axes.text(x, y, text, ha="center", va="center", size=FONT - 1, color=ink)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7)
    bar.set_label("of the pixels labelled so, %", size=FONT, color=INK)
    bar.ax.tick_params(labelsize=FONT)
    set_title(figure, title)
    return figure


def _present(
    ious: Mapping[str, Values], classes: Sequence[str]
) -> tuple[dict[str, Values], list[str]]:
    """Without the classes that are nowhere, if any are anywhere."""
    values = np.array([list(one) for one in ious.values()], np.float64)
    kept = np.flatnonzero(~np.isnan(values).all(0)).tolist()
    if not kept:
        return dict(ious), list(classes)
    return dict(zip(ious, values[:, kept], strict=True)), [classes[i] for i in kept]


def _bars_height(classes: int, variants: int) -> float:
    return min(_TALLEST, max(2.6, 1.3 + classes * (0.1 + 0.14 * variants)))


def _class_iou(
    axes: Axes, ious: Mapping[str, Values], classes: Sequence[str], means: Mapping[str, float]
) -> None:
    thickness = 0.8 / len(ious)
    places = np.arange(len(classes))
    for i, (name, values) in enumerate(ious.items()):
        shares = np.nan_to_num(np.asarray(values, np.float64)) * 100
        mean = means.get(name)
        text = name if mean is None else f"{name}: mean {100 * mean:.2f} %"
        colour = SERIES[i % len(SERIES)]
        at = places - 0.4 + thickness * (i + 0.5)
        axes.barh(at, shares, thickness * 0.92, label=text, color=colour)
    polish(axes, grid="x")
    set_names(axes.yaxis, classes)
    axes.set(xlabel="IoU, %", xlim=(0, 100), ylim=(len(places) - 0.4, -0.6))
    # above the bars, which it must not hide
    legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=1 if len(ious) < 3 else 2)


def _trimap_curve(
    axes: Axes, curves: Mapping[str, Values], widths: Sequence[int] | None, measure: str
) -> None:
    length = len(next(iter(curves.values()), ())) if widths is None else len(widths)
    _check_lengths("curves", curves, length)
    across = list(range(1, length + 1)) if widths is None else list(widths)
    for i, (name, values) in enumerate(curves.items()):
        shares = np.asarray(values, np.float64) * 100
        colour, line = SERIES[i % len(SERIES)], LINES[i % len(LINES)]
        axes.plot(across, shares, line, color=colour, linewidth=1.8, label=name)
    polish(axes, grid="both")
    axes.set(xlabel="trimap width w, pixels", ylabel=f"{measure}, %")
    legend(axes)


def _check_lengths(argument: str, values: Mapping[str, Values], length: int) -> None:
    if not values or not length:
        raise ValueError(f"{argument}: expected at least one value of at least one name, got none")
    for name, one in values.items():
        if len(one) != length:
            raise ValueError(f"{argument}: expected {length} values of {name!r}, got {len(one)}")
