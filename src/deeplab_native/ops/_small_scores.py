"""Scores of an image that are smaller than it is, enlarged bilinearly a band of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from .. import _C
from .._native import num_threads

BAND_BYTES = 1 << 25  # of scores that are enlarged at once

Taps = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # int32 low and high, float32 fraction
Energies = Callable[[torch.Tensor], torch.Tensor]


class SmallScores(NamedTuple):
    """Scores (L, h, w) float32 of an image, to be enlarged bilinearly.

    grid: height and width that they are enlarged to; the image is its first rows and columns.
    aligned: whether corners lie on corners (`align_corners`).
    energies: of enlarged scores (L, rows, columns); None: -log softmax.
    """

    values: torch.Tensor
    grid: tuple[int, int]
    aligned: bool
    energies: Energies | None = None


def bands(
    scores: SmallScores, size: tuple[int, int], band: int | None = None
) -> Iterator[tuple[int, torch.Tensor]]:
    """(first row, -U up to a number for each pixel (L, rows, W)) of an image of this size."""
    height, width = size
    labels = len(scores.values)
    rows = band or max(1, BAND_BYTES // (4 * labels * width))
    values = scores.values.contiguous()
    pixels = [torch.arange(n, dtype=torch.float64) for n in size]
    down, across = (taps_of(p, scores, axis) for axis, p in enumerate(pixels))
    memory = torch.empty(labels * min(rows, height) * width)
    for first in range(0, height, rows):
        count = min(rows, height - first)
        enlarged = memory[: labels * count * width].view(labels, count, width)
        enlarge_rows(values, down, across, first, enlarged)
        if scores.energies is not None:
            enlarged = (-scores.energies(enlarged)).contiguous()
        yield first, enlarged


def resampled(scores: SmallScores, size: tuple[int, int], onto: tuple[int, int]) -> torch.Tensor:
    """(L, *onto): of an image of `size`, at points whose corners are the image's corner pixels."""
    points = [
        torch.arange(n, dtype=torch.float64) * ((full - 1) / (n - 1) if n > 1 else 0.0)
        for n, full in zip(onto, size, strict=True)
    ]
    down, across = (taps_of(p, scores, axis) for axis, p in enumerate(points))
    found = torch.empty(len(scores.values), *onto)
    enlarge_rows(scores.values.contiguous(), down, across, 0, found)
    return found


def enlarge_rows(
    values: torch.Tensor,
    down: Taps,
    across: Taps,
    first: int,
    out: torch.Tensor,
    factor: float | None = None,
) -> None:
    """Rows from `first` on of values (L, h, w) to out (L, rows, W); with a factor, added to it."""
    labels, rows, width = out.shape
    _C.enlarge_rows_cpu(
        values.data_ptr(),
        labels,
        tuple(values.shape[1:]),
        [t.data_ptr() for t in down],
        [t.data_ptr() for t in across],
        first,
        rows,
        width,
        factor is not None,
        1.0 if factor is None else factor,
        out.data_ptr(),
        num_threads(),
    )


def points_of_cells(pixels: int, cells: int, each: int) -> torch.Tensor:
    """(cells * each,) float64: `each` points of every cell, evenly, in pixels; 1 is its centre."""
    cell = torch.arange(cells)
    first, end = cell * pixels // cells, -(-(cell + 1) * pixels // cells)
    share = (torch.arange(each, dtype=torch.float64) + 0.5) / each
    return (first[:, None] + (end - first)[:, None] * share - 0.5).flatten()


def taps_of(pixel: torch.Tensor, scores: SmallScores, axis: int) -> Taps:
    full, count = scores.grid[axis], scores.values.shape[1 + axis]
    if not scores.aligned:
        return half_pixel_taps(pixel, full, count)
    return _split(pixel * ((count - 1) / (full - 1) if full > 1 else 0), count)


def half_pixel_taps(pixel: torch.Tensor, full: int, count: int) -> Taps:
    """As `interpolate` has them without aligned corners."""
    return _split(((pixel + 0.5) * (count / full) - 0.5).clamp_min(0), count)


def _split(position: torch.Tensor, count: int) -> Taps:
    low = position.floor().clamp(0, count - 1)
    high = (low + 1).clamp_max(count - 1)
    return low.int(), high.int(), (position - low).clamp(0, 1).float()
