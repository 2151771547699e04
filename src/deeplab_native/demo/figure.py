"""The picture of the demonstration: score and belief maps by iteration, as in Figure 5."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import viz
from .._files import atomic_path

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from ..crf import CRFParams

_SHOWN = (1, 2, 10)  # the iterations of Figure 5
_COLUMNS = 4  # of score and belief maps; more where there are more steps
_TOP_SCORE = 10  # where the colours of the score maps end
_WIDTH = 11.0  # of the figure, in inches; its height follows from the photograph
_MARGIN, _HEAD, _TITLE, _FOOT, _SIDE = 0.15, 0.55, 0.35, 0.6, 0.75
_DPI = 110


@dataclass(frozen=True)
class Step:
    """What is known of one label after some mean field iterations; every map is (H, W)."""

    iteration: int
    score: np.ndarray
    belief: np.ndarray
    labels: np.ndarray


def trace(
    unary: torch.Tensor, image: torch.Tensor, params: CRFParams, *, iterations: int, label: int
) -> list[Step]:
    """Runs the mean field and keeps iteration 0 (the input), those of Figure 5, and the last.

    unary (1, L, H, W) energies, image (1, 3, H, W). The belief is Q. The score is what the softmax
    that made Q was given; Q determines it up to a constant per pixel, here the background's score.
    """
    from .. import MeanField

    field = MeanField.from_image(unary, image, params)
    q = field.start()
    steps = []
    for i in range(iterations + 1):
        if i > 0:
            q = field.step(q)
        if i in (0, *_SHOWN, iterations):
            log_q = q[0].clamp(min=1e-20).log()
            score = log_q[label] - log_q[0]
            # a copy, not a view that would keep all labels of q in memory
            belief = q[0, label].clone()
            steps.append(Step(i, score.numpy(), belief.numpy(), q[0].argmax(0).numpy()))
    return steps


def save_figure(
    path: Path, *, photo: np.ndarray, steps: list[Step], name: str, label: int, notes: str
) -> None:
    """Writes what `draw` draws."""
    figure = draw(photo=photo, steps=steps, name=name, label=label, notes=notes)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def draw(*, photo: np.ndarray, steps: list[Step], name: str, label: int, notes: str) -> Figure:
    """The figure: photo, coarse and refined labels; below them score and belief maps.

    photo (H, W, 3) uint8. The first step is the input, the last the result; `name` and `label`
    are those that they are traces of.
    """
    from matplotlib.figure import Figure

    first, last = steps[0], steps[-1]
    aspect = photo.shape[0] / photo.shape[1]
    large = aspect * (_WIDTH - 4 * _MARGIN) / 3
    columns = max(len(steps), _COLUMNS)
    small = aspect * (_WIDTH - 2 * _SIDE - (columns - 1) * _MARGIN) / columns
    # fewer maps than columns stand in the middle
    left = _SIDE + (columns - len(steps)) * (small / aspect + _MARGIN) / 2
    height = _HEAD + 2 * _TITLE + large + 2 * small + 2 * _MARGIN + _FOOT
    figure = Figure(figsize=(_WIDTH, height))

    def row_of_axes(number: int, top: float, left: float, size: float) -> list[Axes]:
        """Axes beside each other, `size` inches high, whose top is `top` inches from the top."""
        width = size / aspect
        return [
            figure.add_axes(
                (
                    (left + i * (width + _MARGIN)) / _WIDTH,
                    1 - (top + size) / height,
                    width / _WIDTH,
                    size / height,
                )
            )
            for i in range(number)
        ]

    figure.text(
        0.5,
        1 - 0.5 * _HEAD / height,
        "Dense CRF: from coarse scores to the outlines of the photograph",
        ha="center",
        va="center",
        fontsize=16,
        weight="bold",
    )
    top = _HEAD + _TITLE
    changed = np.mean(first.labels != last.labels)
    iterations = "1 iteration" if last.iteration == 1 else f"{last.iteration} iterations"
    titles = (
        "Photo",
        "Labels of the network",
        f"After {iterations} ({changed:.1%} of pixels changed)",
    )
    for axes, title, step in zip(
        row_of_axes(3, top, _MARGIN, large), titles, (None, first, last), strict=True
    ):
        axes.imshow(photo)
        axes.set_title(title, fontsize=10.5)
        if step is not None:
            _outline(axes, step.labels == label, label)

    top += large + _TITLE + _MARGIN
    scores = row_of_axes(len(steps), top, left, small)
    for axes, step in zip(scores, steps, strict=True):
        drawn = axes.imshow(step.score, cmap="RdBu_r", vmin=-_TOP_SCORE, vmax=_TOP_SCORE)
        when = f"Iteration {step.iteration}" if step.iteration else "Input"
        axes.set_title(when, fontsize=10.5)
    scores[0].set_ylabel(f"score of {name}\n(background = 0)")
    _colours(scores[-1], drawn, ticks=(-_TOP_SCORE, 0, _TOP_SCORE), extend="both")

    top += small + _MARGIN
    beliefs = row_of_axes(len(steps), top, left, small)
    for axes, step in zip(beliefs, steps, strict=True):
        drawn = axes.imshow(step.belief, cmap="magma", vmin=0, vmax=1)
    beliefs[0].set_ylabel(f"belief in {name}\n(after softmax)")
    _colours(beliefs[-1], drawn, ticks=(0, 0.5, 1), extend="neither")

    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            axes.set(xticks=[], yticks=[])
    figure.text(
        0.5, 0.45 * _FOOT / height, notes, ha="center", va="center", fontsize=9.5, color="0.3"
    )
    return figure


def _outline(axes: Axes, mask: np.ndarray, label: int) -> None:
    """The mask in the VOC colour of the label, with its outline."""
    tint = np.zeros((*mask.shape, 4))
    tint[mask] = (*viz.voc_palette()[label] / 255, 0.3)
    axes.imshow(tint)
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors="#ffe000", linewidths=1.5)


def _colours(axes: Axes, drawn: ScalarMappable, ticks: tuple[float, ...], extend: str) -> None:
    """The colour bar, right of `axes` and as high."""
    beside = axes.inset_axes((1.05, 0.0, 0.05, 1.0), label="<colorbar>")
    axes.figure.colorbar(drawn, cax=beside, ticks=ticks, extend=extend)
