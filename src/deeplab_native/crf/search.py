"""Coarse-to-fine search for the parameters of the CRF, as the DeepLab paper does it.

Chen et al., "DeepLab", arXiv 1606.00915, section 4.1: w2 and sigma_gamma stay 3, the best of w1,
sigma_alpha and sigma_beta is looked for on a coarse grid by cross validation on a subset of the
validation set, then with finer steps around the best. What a finer round looks like is not said
there; here each round halves the steps.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

_MOST_VALUES = 100  # of one parameter: more is a slip of the pen


class Candidate(NamedTuple):
    """The parameters that are searched."""

    w1: float
    sigma_alpha: float
    sigma_beta: float


@dataclass(frozen=True)
class Grid:
    """The values that are tried of each parameter; the default is the paper's coarse grid.

    They are sorted, and stand once. Raises TypeError or ValueError, naming the parameter, for a
    value that the CRF cannot have, or none at all.
    """

    w1: Sequence[float] = (3, 4, 5, 6)
    sigma_alpha: Sequence[float] = (30, 40, 50, 60, 70, 80, 90, 100)
    sigma_beta: Sequence[float] = (3, 4, 5, 6)

    def __post_init__(self) -> None:
        for name in Candidate._fields:
            object.__setattr__(self, name, _check_axis(name, getattr(self, name)))

    def candidates(self) -> list[Candidate]:
        """All of them, sorted by sigmas, so that those which share a lattice stand together."""
        return [
            Candidate(w1, sigma_alpha, sigma_beta)
            for sigma_alpha, sigma_beta, w1 in itertools.product(
                self.sigma_alpha, self.sigma_beta, self.w1
            )
        ]

    def around(self, best: Candidate) -> Grid:
        """The finer grid: the best one's values and, on both sides of each, half a step away.

        At an end of the grid the step is that of the other side, so that the search may leave it;
        a value that would not be positive is left out. Where there is one value, it stays.
        """
        axes = {name: _finer(getattr(self, name), value) for name, value in best._asdict().items()}
        return replace(self, **axes)

    def at_edge(self, best: Candidate) -> list[str]:
        """The parameters whose best value is not between the first and the last of several."""
        axes = {name: getattr(self, name) for name in Candidate._fields}
        return [
            name
            for name, values in axes.items()
            if len(values) > 1 and not values[0] < getattr(best, name) < values[-1]
        ]


def _check_axis(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name}: expected a list of numbers, got {type(values).__name__}")
    if not values:
        raise ValueError(f"{name}: expected at least one value, got none")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name}: expected numbers, got {value!r}")
        if not 0 < value < math.inf:  # also for NaN
            raise ValueError(f"{name}: expected positive finite numbers, got {value}")
    if len(values) > _MOST_VALUES:
        raise ValueError(f"{name}: expected at most {_MOST_VALUES} values, got {len(values)}")
    return tuple(sorted({float(value) for value in values}))


def _finer(values: Sequence[float], best: float) -> list[float]:
    at = values.index(best)
    steps = [b - a for a, b in itertools.pairwise(values)]
    if not steps:
        return [best]
    below, above = steps[max(0, at - 1)], steps[min(at, len(steps) - 1)]
    return [v for v in (best - below / 2, best, best + above / 2) if v > 0]


class Figures(NamedTuple):
    """How good label maps are, in 0..1."""

    mean_iou: float
    accuracy: float  # of all pixels that are not void
    band_accuracy: float  # of those along the boundaries; NaN where there are none


class Total(NamedTuple):
    """What a candidate makes of all images."""

    counts: np.ndarray  # (2, L, L): [outside the band, within it], the label, the prediction
    vertices: int  # of the bilateral lattices: what the candidate costs


class Ranked(NamedTuple):
    """A candidate, how good it is and what it costs."""

    candidate: Candidate
    figures: Figures
    vertices: int  # as of Total


def present_classes(counts: np.ndarray) -> list[int]:
    """The classes that occur in the labels of counts (2, L, L).

    A class that is only predicted, by one candidate and not by another, would make means over
    different classes; its pixels are false negatives of the classes they belong to.
    """
    classes: list[int] = np.flatnonzero(counts.sum((0, 2))).tolist()
    return classes


def figures(counts: np.ndarray, classes: Sequence[int]) -> Figures:
    """Of counts (2, L, L), the mean IoU over `classes`, each of which the labels must have."""
    matrix = counts.sum(0)
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    chosen = list(classes)
    band = counts[1]
    return Figures(
        float((hits[chosen] / union[chosen]).mean()),
        float(hits.sum() / matrix.sum()),
        float(np.trace(band) / band.sum()) if band.any() else math.nan,
    )


def rank(totals: Mapping[Candidate, Total], classes: Sequence[int]) -> list[Ranked]:
    """The best first: by mean IoU, then by accuracy, then by the smaller lattices and weight."""
    ranked = [Ranked(c, figures(t.counts, classes), t.vertices) for c, t in totals.items()]
    return sorted(
        ranked,
        key=lambda r: (-r.figures.mean_iou, -r.figures.accuracy, r.vertices, r.candidate),
    )


class Round(NamedTuple):
    """One grid of the search, and the best of it and of the rounds before."""

    grid: Grid
    best: Ranked


class Search(NamedTuple):
    """A finished search."""

    rounds: list[Round]  # the coarse one first
    ranked: list[Ranked]  # every candidate, the best first

    @property
    def best(self) -> Ranked:
        """The first of `ranked`."""
        return self.ranked[0]


def coarse_to_fine(
    evaluate: Callable[[int, list[Candidate]], Mapping[Candidate, Total]],
    grid: Grid,
    *,
    rounds: int,
    classes: Sequence[int],
) -> Search:
    """The grid, then `rounds` finer ones around the best so far.

    evaluate(round, candidates) gives their totals; round 0 is the coarse one. It is not asked for
    a candidate twice.
    """
    totals: dict[Candidate, Total] = {}
    done: list[Round] = []
    for number in range(1 + rounds):
        if done:
            grid = grid.around(done[-1].best.candidate)
        new = [c for c in grid.candidates() if c not in totals]
        if new:
            totals.update(evaluate(number, new))
        ranked = rank(totals, classes)
        done.append(Round(grid, ranked[0]))
    return Search(done, rank(totals, classes))
