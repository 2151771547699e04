"""`predict` in tiles against `predict` of the whole image."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import set_output_stride
from deeplab_native.crf import CRFParams
from deeplab_native.models import CAFFE, predict
from deeplab_native.models.tiles import spans


class SmallNet(nn.Module):
    """Stride 8, a field of view of 2 pixels of the score map on each side, zero padding."""

    num_classes, preprocessing, output_stride = 3, CAFFE, 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 4, padding=1),
            nn.Conv2d(4, 3, 3, padding=1),
        )
        self.sizes = []

    def forward(self, x):
        self.sizes.append(tuple(x.shape[2:]))
        return self.net(x)


def random_image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_equal_to_the_whole_image_where_the_field_of_view_is_in_the_part_left_out():
    """A third of 6 + 1 shared pixels of the score map is 2 of them."""
    model, image = SmallNet(), random_image(150, 203)
    whole = predict(model, image)
    model.sizes.clear()
    tiled = predict(model, image, tile=(81, 97), overlap=48)
    assert set(model.sizes) == {(81, 97)}
    assert len(model.sizes) == 4 * 4
    torch.testing.assert_close(tiled.scores, whole.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(tiled.probabilities, whole.probabilities, atol=1e-5, rtol=0)


@pytest.mark.parametrize("overlap", [0, 8, 16, 32])
def test_with_less_overlap_only_borders_of_tiles_differ(overlap):
    model, image = SmallNet(), random_image(73, 161)
    whole, tiled = predict(model, image).scores, predict(model, image, tile=73, overlap=overlap)
    difference = (tiled.scores - whole).abs().amax(dim=(0, 1))
    far = torch.ones(161, dtype=torch.bool)
    step = 72 - overlap
    for first in [*range(0, 161 - 73, step), 161 - 73]:
        for border in (first, first + 72):
            # 2 pixels of the score map, and 1 for the interpolation
            if 0 < border < 160:
                far[max(0, border - 23) : border + 24] = False
    assert far.any() and difference[far].max() < 1e-4
    assert difference.max() > 1


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_spans_cover_every_pixel_with_weights_that_add_up_to_one(data):
    tile = data.draw(st.integers(2, 40))
    overlap = data.draw(st.integers(0, tile - 2))
    length = data.draw(st.integers(1, 200))
    tiles = spans(length, tile, overlap)
    total = torch.zeros(length)
    for span in tiles:
        assert 0 <= span.first < span.last <= length
        assert span.last - span.first == min(tile, length)
        assert (span.weights >= 0).all() and span.weights.isfinite().all()
        total[span.first : span.last] += span.weights
    torch.testing.assert_close(total, torch.ones(length), atol=1e-6, rtol=0)
    assert (tiles[0].first, tiles[-1].last) == (0, length)
    for left, right in pairwise(tiles):
        assert right.first < left.last and right.first <= left.first + tile - 1 - overlap
        if right is not tiles[-1]:
            assert left.last - right.first == overlap + 1


def test_weights_fade_without_a_step():
    left, right = spans(89, 65, 40)
    assert (left.first, right.first) == (0, 24)
    shared = right.weights[:41]
    assert not shared[:13].any() and (shared[-13:] == 1).all()  # a third on each side
    assert shared.diff().min() >= 0 and shared.diff().max() < 0.07
    torch.testing.assert_close(left.weights[24:], 1 - shared)


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 200), (9, 9), (33, 34), (41, 41), (42, 40), (57, 58), (100, 33), (2, 90)]
)
@pytest.mark.parametrize(("tile", "overlap"), [(41, None), (33, 24), ((17, 41), 0)])
def test_every_size(size, tile, overlap):
    """A net that sees single pixels gives the same in tiles, everywhere."""
    model = SmallNet()
    model.net = nn.Conv2d(3, 3, 1, 8)
    image = random_image(*size)
    whole, tiled = predict(model, image), predict(model, image, tile=tile, overlap=overlap)
    assert tiled.labels.shape == size
    torch.testing.assert_close(tiled.scores, whole.scores, atol=1e-4, rtol=1e-5)


def test_batches_and_the_crf():
    model = SmallNet()
    images = torch.stack([torch.from_numpy(random_image(60, 90)).permute(2, 0, 1)] * 2)
    crf = CRFParams(w1=4, sigma_alpha=30, sigma_beta=10, w2=3, sigma_gamma=2)
    how = {"crf": crf, "iterations": 2}
    whole, tiled = predict(model, images, **how), predict(model, images, tile=57, overlap=48, **how)
    assert tiled.labels.shape == (2, 60, 90)
    torch.testing.assert_close(tiled.probabilities, whole.probabilities, atol=1e-4, rtol=0)


def test_progress():
    seen = []
    predict(SmallNet(), random_image(100, 90), tile=65, progress=lambda *at: seen.append(at))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_another_output_stride():
    model = set_output_stride(SmallNet(), 4)
    model.output_stride = 4
    image = random_image(70, 99)
    whole = predict(model, image)
    assert model.sizes[-1] == (73, 101)
    tiled = predict(model, image, tile=61, overlap=56)
    torch.testing.assert_close(tiled.scores, whole.scores, atol=1e-4, rtol=0)
    model.output_stride = 2
    with pytest.raises(ValueError, match=r"score map of \(31, 31\) for a tile at output stride 2"):
        predict(model, image, tile=61)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tile": 64}, ValueError, r"tile: expected 8 m \+ 1 pixels.*got 64; 57 and 65"),
        ({"tile": 1}, ValueError, "tile: expected at least 9"),
        ({"tile": "513"}, TypeError, "tile: expected an integer or two"),
        ({"tile": 65, "overlap": 12}, ValueError, "overlap: expected a multiple of 8"),
        ({"tile": 65, "overlap": 64}, ValueError, r"overlap: .* at most tile - 9 = 56, got 64"),
        ({"tile": 65, "overlap": -8}, ValueError, "overlap: expected at least 0"),
        ({"overlap": 8}, ValueError, "overlap: expected None without a tile, got 8"),
        ({"tile": 65, "progress": True}, TypeError, "progress: expected a function"),
    ],
)
def test_arguments_are_checked_before_the_net_runs(arguments, error, message):
    model = SmallNet()
    with pytest.raises(error, match=message):
        predict(model, random_image(90, 90), **arguments)
    assert model.sizes == []
