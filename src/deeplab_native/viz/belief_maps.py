"""What mean field does, by iteration: score and belief maps, as in the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import new_figure, shortened
from .palettes import voc_palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    Maps = Sequence[np.ndarray] | np.ndarray

_COLUMNS = 4  # of score and belief maps; more where there are more
_TOP_SCORE = 10  # where the colours of the score maps end
_WIDTH = 11.0  # of the figure, in inches; its height follows from the maps
_MARGIN, _HEAD, _TITLE, _FOOT, _SIDE = 0.15, 0.55, 0.35, 0.6, 0.75
_SIZE = 10.5  # of titles, in points
_COLOUR_BAR = "<colorbar>"


def draw_belief_maps(
    beliefs: Maps,
    *,
    iterations: Sequence[int] | None = None,
    name: str = "the label",
    scores: Maps | None = None,
    photo: np.ndarray | None = None,
    masks: tuple[np.ndarray, np.ndarray] | None = None,
    titles: Sequence[str] = ("Photo", "Before", "After"),
    colour: np.ndarray | None = None,
    title: str | None = None,
    notes: str | None = None,
) -> Figure:
    """A strip of belief maps, one for every iteration that is shown.

    Args:
        beliefs: (N, H, W) shares of 1, Q of one label: those of `MeanField.start` and `step`.
        iterations: the N numbers of their iterations, 0 for the input; None: 0 to N - 1.
        name: of the label.
        scores: (N, H, W) numbers, in a row of their own above: scores where the background has 0.
        photo: (H, W, 3) uint8, large above all; with `masks` three of it beside each other.
        masks: (H, W) booleans, the label's pixels before and after, over the photo.
        titles: of the three.
        colour: (3,) uint8 of the masks; None: VOC's of the first label.
        title: above all.
        notes: below all, in small letters.

    Raises ValueError where the shapes do not go together.
    """
    beliefs, name = _maps("beliefs", beliefs), shortened(name)
    numbers = list(range(len(beliefs)) if iterations is None else iterations)
    if len(numbers) != len(beliefs):
        raise ValueError(f"iterations: expected {len(beliefs)}, as many as beliefs, got {numbers}")
    rows = [beliefs]
    if scores is not None:
        rows.insert(0, _maps("scores", scores, beliefs.shape))
    size = beliefs.shape[1:]
    if photo is not None and (photo.dtype != np.uint8 or photo.shape != (*size, 3)):
        raise ValueError(f"photo: expected {(*size, 3)} uint8, got {photo.shape} {photo.dtype}")
    if masks is not None and (photo is None or any(np.shape(mask) != size for mask in masks)):
        raise ValueError(f"masks: expected two of {size} over a photo of that size")

    columns = max(len(beliefs), _COLUMNS)
    large = 0.0 if photo is None else (_WIDTH - 4 * _MARGIN) / 3
    small = (_WIDTH - 2 * _SIDE - (columns - 1) * _MARGIN) / columns
    head = _MARGIN if title is None else _HEAD
    photos = 0.0 if photo is None else _TITLE + large * size[0] / size[1] + _MARGIN
    foot = _MARGIN if notes is None else _FOOT
    row = small * size[0] / size[1] + _MARGIN
    height = head + photos + _TITLE + len(rows) * row - _MARGIN + foot
    page = _Page(height, size[0] / size[1])
    if title is not None:
        page.text(0.5 * head, title, fontsize=16, weight="bold")
    if photo is not None:
        tint = voc_palette()[1] if colour is None else np.asarray(colour)
        shown = page.row(1 if masks is None else 3, head + _TITLE, large)
        _photos(shown, photo, masks or (), titles, tint)
    top = head + photos + _TITLE
    for number, maps in enumerate(rows):
        shown = page.row(len(maps), top + number * row, small)
        if number == 0:
            for axes, done in zip(shown, numbers, strict=True):
                axes.set_title(f"Iteration {done}" if done else "Input", fontsize=_SIZE)
        (_beliefs if maps is beliefs else _scores)(shown, maps, name)
    for axes in page.figure.axes:
        if axes.get_label() != _COLOUR_BAR:
            axes.set(xticks=[], yticks=[])
    if notes is not None:
        page.text(height - 0.45 * foot, notes, fontsize=9.5, color="0.3")
    return page.figure


class _Page:
    """A figure whose axes are placed by inches from its top left corner."""

    def __init__(self, height: float, aspect: float) -> None:
        self.figure = new_figure(_WIDTH, height)
        self.figure.set_layout_engine("none")
        self._height, self._aspect = height, aspect

    def row(self, number: int, top: float, width: float) -> list[Axes]:
        """Axes beside each other, in the middle of the page."""
        left = (_WIDTH - number * width - (number - 1) * _MARGIN) / 2
        high = width * self._aspect
        return [
            self.figure.add_axes(
                (
                    (left + i * (width + _MARGIN)) / _WIDTH,
                    1 - (top + high) / self._height,
                    width / _WIDTH,
                    high / self._height,
                )
            )
            for i in range(number)
        ]

    def text(self, top: float, words: str, **how: Any) -> None:
        """In the middle of the width."""
        at = 1 - top / self._height
        self.figure.text(0.5, at, words, ha="center", va="center", parse_math=False, **how)


def _maps(argument: str, maps: Maps, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """(N, H, W) of them."""
    try:
        result = np.asarray(maps)
    except ValueError:  # of several sizes
        raise ValueError(f"{argument}: expected maps of one size (H, W)") from None
    if result.ndim != 3 or 0 in result.shape or result.dtype.kind not in "fiub":
        raise ValueError(f"{argument}: expected (N, H, W) numbers, got shape {result.shape}")
    if shape is not None and result.shape != shape:
        raise ValueError(f"{argument}: expected {shape}, as the beliefs, got {result.shape}")
    return result


def _photos(
    row: list[Axes],
    photo: np.ndarray,
    masks: Sequence[np.ndarray],
    titles: Sequence[str],
    tint: np.ndarray,
) -> None:
    for axes, title in zip(row, titles, strict=False):
        axes.imshow(photo)
        axes.set_title(title, fontsize=_SIZE, parse_math=False)
    for axes, mask in zip(row[1:], masks, strict=True):
        _outline(axes, np.asarray(mask, bool), tint)


def _scores(row: list[Axes], maps: np.ndarray, name: str) -> None:
    for axes, one in zip(row, maps, strict=True):
        drawn = axes.imshow(one, cmap="RdBu_r", vmin=-_TOP_SCORE, vmax=_TOP_SCORE)
    row[0].set_ylabel(f"score of {name}\n(background = 0)", parse_math=False)
    _colours(row[-1], drawn, (-_TOP_SCORE, 0, _TOP_SCORE), "both")


def _beliefs(row: list[Axes], maps: np.ndarray, name: str) -> None:
    for axes, one in zip(row, maps, strict=True):
        drawn = axes.imshow(one, cmap="magma", vmin=0, vmax=1)
    row[0].set_ylabel(f"belief in {name}\n(after softmax)", parse_math=False)
    _colours(row[-1], drawn, (0, 0.5, 1), "neither")


def _outline(axes: Axes, mask: np.ndarray, colour: np.ndarray) -> None:
    """The mask in its colour, with its outline."""
    tint = np.zeros((*mask.shape, 4))
    tint[mask] = (*colour / 255, 0.3)
    axes.imshow(tint)
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors="#ffe000", linewidths=1.5)


def _colours(axes: Axes, drawn: ScalarMappable, ticks: tuple[float, ...], extend: str) -> None:
    """The colour bar, right of `axes` and as high."""
    beside = axes.inset_axes((1.05, 0.0, 0.05, 1.0), label=_COLOUR_BAR)
    axes.figure.colorbar(drawn, cax=beside, ticks=ticks, extend=extend)
