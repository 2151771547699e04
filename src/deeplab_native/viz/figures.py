"""What all figures have in common: colours, the look of axes, and files of them.

Matplotlib is imported when a figure is made. Figures are objects of their own: pyplot, which keeps
a list of all figures of a process, is never imported, so they may be drawn in any thread.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files import atomic_path
from .._fork import ForkSafeLock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with every kind of colour blindness
# (https://jfly.uni-koeln.de/color/), without the yellow that a light background swallows
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")  # beside the colours, for prints without any
INK, FAINT = "#1f2933", "#d5dbe1"  # of text, and of grids
WIDTH = 6.4  # inches: what a telephone shows without letters that are too small
FONT = 9.5  # points
DPI = 110
_TITLE, _LEGEND = 80, 44  # letters
_ONE_AT_A_TIME = ForkSafeLock()


def new_figure(width: float = WIDTH, height: float = 4.0) -> Figure:
    """An empty figure of so many inches on white; its parts make room for each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def polish(axes: Axes, *, grid: str | None = None) -> None:
    """No frame but the two axes, and letters of one size; `grid` "x", "y" or "both" in grey."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#7b8794")
    axes.tick_params(labelsize=FONT, color="#7b8794", labelcolor=INK)
    axes.xaxis.label.set(size=FONT, color=INK)
    axes.yaxis.label.set(size=FONT, color=INK)
    if grid is not None:
        axes.grid(axis=grid, color=FAINT, linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def set_title(on: Figure | Axes, title: str | None) -> None:
    """Names of files and classes may hold dollar signs, which are no formulas."""
    if title is None:
        return
    from matplotlib.figure import Figure

    set_it = on.suptitle if isinstance(on, Figure) else on.set_title
    set_it(shortened(title, _TITLE), fontsize=FONT + 1.5, color=INK, parse_math=False)


def set_names(axis: Any, names: Sequence[str], **how: Any) -> None:
    """The ticks 0, 1, ... of an axis (`axes.xaxis`, `axes.yaxis`) are these names."""
    shown = [shortened(name) for name in names]
    axis.set_ticks(range(len(names)), shown, parse_math=False, fontsize=FONT, **how)


def shortened(name: str, most: int = 26) -> str:
    """On one line, of letters alone, and so long that it leaves room for the figure."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name.strip())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def legend(axes: Axes, **where: Any) -> None:
    """The names of what was drawn with a label."""
    shown = axes.legend(frameon=False, fontsize=FONT, labelcolor=INK, **where)
    for text in shown.get_texts():
        text.set_parse_math(False)
        text.set_text(shortened(text.get_text(), _LEGEND))


def save_figure(path: str | os.PathLike[str], figure: Figure, *, dpi: int = DPI) -> None:
    """Writes a figure whole or not at all, in the format that the suffix of `path` says."""
    with atomic_path(path) as temporary, _quiet():
        figure.savefig(temporary, dpi=dpi)


def to_png(figure: Figure, *, dpi: int = DPI) -> bytes:
    """The figure as the bytes of a PNG."""
    file = io.BytesIO()
    with _quiet():
        figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG in UTF-8, its letters as text; of equal figures the same bytes."""
    import matplotlib

    file = io.BytesIO()
    parameters: Any = {"svg.fonttype": "none", "svg.hashsalt": "deeplab_native"}
    with _quiet(), matplotlib.rc_context(parameters):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def heat(
    values: np.ndarray, *, low: float = 0.0, high: float = 1.0, colours: str = "magma"
) -> np.ndarray:
    """A belief or score map in colours: (H, W, 3) uint8 of (H, W) numbers.

    `low` and `high` are the values of the first and the last of matplotlib's `colours`; what is
    beyond them has theirs, NaN is black. Raises ValueError for arguments of another form.
    """
    from matplotlib import colormaps

    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise ValueError(f"values: expected (H, W) numbers, got {values.shape} {values.dtype}")
    if not low < high:
        raise ValueError(f"low, high: expected low < high, got {low} and {high}")
    if colours not in colormaps:
        raise ValueError(f"colours {colours!r}: expected a colour map of matplotlib, as 'magma'")
    share = (np.clip(values.astype(np.float32), low, high) - low) / np.float32(high - low)
    pixels: np.ndarray = colormaps[colours](np.ma.masked_invalid(share), bytes=True)[..., :3]
    return pixels


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, letters that matplotlib's font lacks are no warnings: names come from users.

    One thread at a time: filters of warnings and matplotlib's parameters are the process's.
    """
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        yield
