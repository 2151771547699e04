"""Masks as hypothesis makes them: noise, blocks, thin lines, holes in holes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import strategies as st


@st.composite
def masks(draw) -> np.ndarray:
    """(H, W) bool of 1 to 40 pixels a side."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.8, 1.0]))
    block = draw(st.sampled_from([1, 2, 3, 5]))
    mask = random.random((height // block + 1, width // block + 1)) < share
    mask = np.kron(mask, np.ones((block, block), bool))[:height, :width]
    if draw(st.booleans()):  # rings around one point
        y, x = np.indices(mask.shape)
        at = random.random(2) * mask.shape
        mask ^= np.hypot(y - at[0], x - at[1]).astype(int) % 5 < 2
    return mask


@st.composite
def polygons(draw) -> tuple[list[float], tuple[int, int]]:
    """Corners in and around a picture, some of them on pixels' borders and middles; its size."""
    height, width = draw(st.integers(1, 50)), draw(st.integers(1, 50))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    points = (random.random((draw(st.integers(3, 12)), 2)) * 1.6 - 0.3) * [width, height]
    parts = draw(st.sampled_from([0, 1, 2, 5, 10]))
    if parts:
        points = np.round(points * parts) / parts
    return points.ravel().tolist(), (height, width)
