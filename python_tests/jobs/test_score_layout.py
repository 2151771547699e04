"""Which axis has the labels, and whether an array is of the image at all."""

from __future__ import annotations

import numpy as np
import pytest

from deeplab_native.jobs._score_layout import nearest, to_chw, to_label_map

LABELS = 4


def test_layout():
    size = (20, 30)
    logits = np.random.default_rng(1).normal(size=(LABELS, *size))
    flat = logits.reshape(LABELS, -1)
    for scores in (
        logits,
        logits[None],
        logits[None, None],
        np.moveaxis(logits, 0, -1),
        flat,
        flat.T,
    ):
        assert np.array_equal(to_chw(scores, size), logits)
    for scores in (logits[0], logits[:1], logits[0, ..., None], logits[:1].reshape(1, -1)):
        assert np.array_equal(to_chw(scores, size), logits[:1])


def test_lower_resolutions_of_the_image():
    """Nets round up, down, or have the corners at the ends: 375 x 500 by 8, 16 and 32."""
    for h, w in ((47, 63), (46, 62), (24, 32), (23, 31), (12, 16), (11, 15)):
        if min(h, w) <= 21:
            with pytest.raises(ValueError, match=r"`layout` chw or hwc"):
                to_chw(np.zeros((21, h, w)), (375, 500))
            assert to_chw(np.zeros((21, h, w)), (375, 500), "chw").shape == (21, h, w)
            assert to_chw(np.zeros((21, h, w)), (375, 500), labels=21).shape == (21, h, w)
            continue
        assert to_chw(np.zeros((21, h, w)), (375, 500)).shape == (21, h, w)
        assert to_chw(np.zeros((h, w, 21)), (375, 500)).shape == (21, h, w)
        assert to_chw(np.zeros((h, w)), (375, 500)).shape == (1, h, w)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        # of a canvas of another shape, as of 513 x 513
        ((21, 33, 33), "no match for the image's .*`resize` scales others .*`layout` chw or hwc"),
        # 21 rows and 28 columns have the image's shape, but they are 21 labels of 28 x 28
        ((21, 28, 28), "no match for the image's"),
        ((21, 63, 47), "no match for the image's"),
        ((21, 500, 375), "look swapped"),
        ((500, 375), "look swapped"),
        ((21, 750, 1000), "`resize` scales"),
        ((2, 21, 375, 500), "expected .labels, height, width."),
        ((7,), "expected .labels, height, width."),
        ((0, 375, 500), "expected .labels, height, width."),
    ],
)
def test_what_is_not_of_the_image(shape, words):
    with pytest.raises(ValueError, match=words):
        to_chw(np.zeros(shape), (375, 500))


def test_label_maps():
    size = (4, 6)
    labels = np.random.default_rng(0).integers(0, 3, size)
    one_hot = np.eye(3, dtype=np.int64)[labels]
    for values in (
        labels, labels[None], labels[..., None], labels[None, None], labels.ravel(),
        one_hot, np.moveaxis(one_hot, -1, 0), one_hot.astype(bool),
    ):  # fmt: skip
        assert np.array_equal(to_label_map(values, size), labels)
    twice = labels.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(to_label_map(labels, (8, 12), resize=True), twice)
    assert np.array_equal(to_label_map(twice, size, resize=True), labels)
    assert np.array_equal(nearest(np.arange(5)[None], (1, 2)), [[1, 3]])
    for values, words in (
        (labels.T, "look swapped"),
        (twice, "`resize` scales these by the nearest pixel"),
        (5 * one_hot, "scale quantised scores back"),
        (labels[:0], "are no labels"),
    ):
        with pytest.raises(ValueError, match=words):
            to_label_map(values, size)
