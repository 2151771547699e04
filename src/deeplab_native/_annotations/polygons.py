"""Polygons of masks, and masks of polygons by COCO's rule.

Coordinates are (x, y) pairs in units of pixels; the pixel of row r and column c is the square from
(c, r) to (c + 1, r + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .rle import check_size, plane, short

_SCALE = 5  # of COCO's rule: corners are rounded to fifths of a pixel
_MOST_STEPS = 1 << 27  # of an outline, in fifths of a pixel
_AT_ONCE = 1 << 20  # of them that are looked at together


def fill_polygons(
    polygons: Sequence[object], size: tuple[int, int], *, name: str = "polygons"
) -> np.ndarray:
    """The mask of polygons, as pycocotools makes it: (H, W) bool.

    A pixel belongs to a polygon whose outline, its corners rounded to fifths of a pixel, goes an
    odd number of times above the pixel's centre; and to the mask where it belongs to a polygon.

    Args:
        polygons: each [x0, y0, x1, y1, ...], as in COCO's files, or (N, 2).
        size: (H, W) of the mask.
        name: of the argument, for errors.

    Raises:
        ValueError: fewer than three corners, numbers that are not finite or far outside.
    """
    height, width = check_size(size, "`size`")
    mask = np.zeros((height, width), bool)
    if not isinstance(polygons, Sequence) or isinstance(polygons, str | bytes):
        raise ValueError(f"`{name}`: expected a list of polygons, got {short(polygons)}")
    for i, polygon in enumerate(polygons):
        mask |= _filled(corners(polygon, f"{name}[{i}]"), height, width, f"{name}[{i}]")
    return mask


def coco_polygons(mask: np.ndarray) -> list[list[float]]:
    """A mask as COCO's `segmentation` of polygons, [[x0, y0, x1, y1, ...], ...], one for each part.

    Outlines go half-way between pixels that differ. COCO's polygons have no holes: here a path goes
    from the outline to each hole and back along the same line, which by the rule that counts how
    often an outline is crossed changes nothing. `fill_polygons`, and pycocotools, make the mask
    again of them, pixel by pixel.

    Args:
        mask: (H, W) booleans, or 0 and another value.
    """
    # a pixel's value is that of its centre
    return [(path + 0.5).ravel().tolist() for path in outlines(plane("mask", mask), 0.5)]


def outlines(mask: np.ndarray, level: float) -> list[np.ndarray]:
    """Closed paths (N, 2) around the parts of a mask (H, W), holes joined to them by lines.

    A pixel is a point here. The paths go where `level`, 0..1, of the way from a point outside to
    one inside is made. Parts that touch at a corner alone are several at a level above a half.
    """
    if not mask.any():
        return []
    from contourpy import FillType, contour_generator

    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    inner = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    generator = contour_generator(
        z=np.pad(inner, 1).astype(np.float32), name="serial", fill_type=FillType.OuterOffset
    )
    parts: Any = generator.filled(level, 2)  # of each part the rings' points, and where they begin
    origin = np.array([left - 1, top - 1], np.float64)
    found = []
    for points, begins in zip(*parts, strict=True):
        # in 64ths: exact, and those at a level of almost 1 are at the points inside
        shifted = np.round((points + origin) * 64) / 64
        # contourpy repeats a ring's first point at its end
        bounds = zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True)
        outer, *holes = (shifted[first : last - 1] for first, last in bounds)
        found.append(without_straight(_joined(outer, holes)))
    return found


def _joined(path: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """The way to a hole goes from its leftmost point to the left, over nothing but the mask."""
    for hole in sorted(holes, key=lambda ring: float(ring[:, 0].min())):
        start = int(hole[:, 0].argmin())
        x, y = hole[start]
        # there is a point wherever an outline crosses a row
        beside = np.flatnonzero((path[:, 1] == y) & (path[:, 0] <= x))
        at = int(beside[path[beside, 0].argmax()])
        around = np.concatenate([hole[start:], hole[: start + 1]])
        path = np.concatenate([path[: at + 1], around, path[at:]])
    return path


def corners(polygon: object, name: str) -> np.ndarray:
    """(N, 2) float64 of [x0, y0, ...] or [[x0, y0], ...]; ValueError where it is no polygon."""
    try:
        points = np.asarray(polygon, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim == 1 and len(points) % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(
            f"`{name}`: expected three corners or more, [x0, y0, x1, y1, x2, y2, ...], got "
            f"{short(polygon)}"
        )
    if not np.isfinite(points).all():
        raise ValueError(f"`{name}`: corners that are not finite: {short(polygon)}")
    return points


def _filled(points: np.ndarray, height: int, width: int, name: str) -> np.ndarray:
    """By crossings of the columns' middles, each of which turns all that lies below around."""
    if np.abs(points).max() > 100 * max(height, width):
        raise ValueError(
            f"`{name}`: a corner at {np.abs(points).max():g} for a picture of {height} x {width} "
            "(coordinates are in pixels)"
        )
    start = np.trunc(_SCALE * points + 0.5).astype(np.int64)
    end = np.roll(start, -1, axis=0)
    moves = (start != end).any(1)
    start, end = start[moves], end[moves]
    steps = np.abs(end - start).max(1, initial=0)
    if steps.sum() > _MOST_STEPS:
        raise ValueError(
            f"`{name}`: an outline of {steps.sum() // _SCALE} pixels for a picture of "
            f"{height} x {width} (is it damaged?)"
        )
    parts = np.searchsorted(np.cumsum(steps), np.arange(_AT_ONCE, steps.sum(), _AT_ONCE))
    crossings = [
        _crossings(start[first:last], end[first:last], width)
        for first, last in zip([0, *parts], [*parts, len(steps)], strict=True)
    ]
    column, row = (np.concatenate(values) for values in zip(*crossings, strict=True))
    mask = np.zeros((height, width), bool)
    if len(column):
        row = row.clip(0, height)
        left, top = column.min(), row.min()
        shape = (int(column.max() - left) + 1, int(row.max() - top) + 1)
        turns = np.bincount(
            (column - left) * shape[1] + row - top, minlength=shape[0] * shape[1]
        ).reshape(shape)
        inside = np.cumsum(turns, 1)[:, :-1] % 2 == 1  # after the last turn is outside
        mask[top : top + shape[1] - 1, left : left + shape[0]] = inside.T
    return mask


def _crossings(start: np.ndarray, end: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and first rows below, of all that edges between fifths cross.

    An edge goes by steps of a fifth along its longer side, from the end that is left or above, and
    is rounded on the other.
    """
    along = (np.abs(end - start)[:, 0] < np.abs(end - start)[:, 1]).astype(np.int64)
    edges = np.arange(len(start))
    turned = start[edges, along] > end[edges, along]
    low = np.where(turned[:, None], end, start)
    high = np.where(turned[:, None], start, end)
    steps = high[edges, along] - low[edges, along]
    slope = (high[edges, 1 - along] - low[edges, 1 - along]) / steps
    of = np.repeat(edges, steps)
    step = np.arange(len(of)) - np.repeat(np.cumsum(steps) - steps, steps)
    across = low[of, 1 - along[of]]
    here = np.trunc(across + slope[of] * step + 0.5).astype(np.int64)
    there = np.trunc(across + slope[of] * (step + 1) + 0.5).astype(np.int64)
    x_first = along[of] == 0
    walked = low[of, along[of]] + step
    u, u_next = np.where(x_first, walked, here), np.where(x_first, walked + 1, there)
    v, v_next = np.where(x_first, here, walked), np.where(x_first, there, walked + 1)
    left, top = np.minimum(u, u_next), np.minimum(v, v_next)
    middle = _SCALE // 2
    column = (left - middle) // _SCALE
    crossed = (u != u_next) & ((left - middle) % _SCALE == 0) & (column >= 0) & (column < width)
    return column[crossed], -((middle - top[crossed]) // _SCALE)


def without_straight(ring: np.ndarray) -> np.ndarray:
    """A closed path without corners where it does not change its direction."""
    moves = (ring != np.roll(ring, 1, axis=0)).any(1)
    if not moves.any():
        return ring[:1]
    ring = ring[moves]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    back = (before * after).sum(1) < 0
    turning: np.ndarray = ring[(turn != 0) | back]
    return turning
