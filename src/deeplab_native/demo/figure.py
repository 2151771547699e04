"""The picture of the demonstration: score and belief maps by iteration, as in Figure 5."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import viz

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from ..crf import CRFParams

_SHOWN = (1, 2, 10)  # the iterations of Figure 5


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
    viz.save_figure(path, draw(photo=photo, steps=steps, name=name, label=label, notes=notes))


def draw(*, photo: np.ndarray, steps: list[Step], name: str, label: int, notes: str) -> Figure:
    """The figure: photo, coarse and refined labels; below them score and belief maps.

    photo (H, W, 3) uint8. The first step is the input, the last the result; `name` and `label`
    are those that they are traces of.
    """
    first, last = steps[0], steps[-1]
    changed = np.mean(first.labels != last.labels)
    after = "1 iteration" if last.iteration == 1 else f"{last.iteration} iterations"
    return viz.draw_belief_maps(
        [step.belief for step in steps],
        iterations=[step.iteration for step in steps],
        name=name,
        scores=[step.score for step in steps],
        photo=photo,
        masks=(first.labels == label, last.labels == label),
        titles=(
            "Photo",
            "Labels of the network",
            f"After {after} ({changed:.1%} of pixels changed)",
        ),
        colour=viz.voc_palette()[label],
        title="Dense CRF: from coarse scores to the outlines of the photograph",
        notes=notes,
    )
