"""Scores of a net as files that `crf`, `evaluate` and `crf-search` read as what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._files import atomic_path
from ..ops._small_scores import SmallScores, resampled
from ._score_layout import is_smaller


def map_size(
    size: tuple[int, int], seen: tuple[int, int], stride: int, labels: int
) -> tuple[int, int]:
    """Height and width of the score map that is saved of an image of `size`.

    The net's own, of the `seen` size, but of the image's shape, as those who read it ask for; or
    the image's size where a smaller map would not be recognised.
    """
    longer = 0 if size[0] > size[1] else 1
    side = -(-(seen[longer] - 1) // stride) + 1
    other = max(2, round(side * size[1 - longer] / size[longer]))
    found = (side, other) if longer == 0 else (other, side)
    return found if is_smaller(found, size) and labels < min(found) else size


def save_scores(
    path: Path, scores: SmallScores, size: tuple[int, int], onto: tuple[int, int]
) -> None:
    """Writes (L, *onto) of an image of `size` as .npy, whole or not at all.

    float16, or float32 where a value is beyond that. Where no score is negative, the same number is
    taken away from all, which changes no probability: they are recognised as logits then.
    """
    values = resampled(scores, size, onto).numpy()
    if values.min() >= 0:
        values -= values.max() + 1
    if np.abs(values).max() <= np.finfo(np.float16).max:
        values = values.astype(np.float16)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)
