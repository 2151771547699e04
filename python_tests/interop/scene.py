"""A made picture of two objects, and masks of them that are only about right."""

from __future__ import annotations

import numpy as np

SIZE = (60, 80)


def truth() -> np.ndarray:
    """(2, 60, 80) bool: a disc and a rectangle that do not overlap."""
    y, x = np.indices(SIZE)
    return np.stack([np.hypot(y - 25, x - 22) < 15, (abs(y - 35) < 14) & (abs(x - 60) < 11)])


def photo() -> np.ndarray:
    """(60, 80, 3) uint8 with noise of a few levels."""
    disc, rectangle = truth()
    pixels = np.full((*SIZE, 3), (40, 90, 60))
    pixels[disc], pixels[rectangle] = (200, 60, 50), (60, 80, 210)
    return (pixels + np.random.default_rng(0).integers(-6, 7, pixels.shape)).astype(np.uint8)


def coarse() -> np.ndarray:
    """(2, 60, 80) bool: in cells of 8 x 8 pixels, that belong where half of them do."""
    cells = truth()[:, :56].reshape(2, 7, 8, 10, 8).mean((2, 4)) > 0.5
    masks = np.zeros((2, *SIZE), bool)
    masks[:, :56] = np.kron(cells, np.ones((8, 8), bool))
    return masks


def iou(one: object, other: object) -> float:
    one, other = np.asarray(one) != 0, np.asarray(other) != 0
    return float((one & other).sum() / (one | other).sum())
