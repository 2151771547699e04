"""Pools with rates against torch's own on the maps that they hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deeplab_native.layers import AtrousAvgPool2d, AtrousMaxPool2d


@pytest.mark.parametrize("rate", [1, 2, 3])
@pytest.mark.parametrize(("padding", "include"), [(0, True), (1, True), (1, False)])
def test_atrous_pools_alone(rate, padding, include):
    """Each of the rate x rate maps in a map is pooled as if it were alone."""
    x = torch.randn(2, 3, 4 * rate, 5 * rate)
    more = {"ceil_mode": False}
    pools = (
        (nn.MaxPool2d(3, 1, padding, **more), AtrousMaxPool2d(3, 1, padding, rate=rate)),
        (
            nn.AvgPool2d(3, 1, padding, False, include),
            AtrousAvgPool2d(3, 1, padding, False, include, rate=rate),
        ),
    )
    for pool, atrous in pools:
        dense = atrous(x)
        for i in range(rate):
            for j in range(rate):
                expected = pool(x[:, :, i::rate, j::rate])
                torch.testing.assert_close(dense[:, :, i::rate, j::rate], expected)
    assert f"rate={(rate, rate)}" in repr(atrous)


def test_maps_smaller_than_the_rate_stay_finite():
    x = torch.randn(1, 1, 1, 1)
    for pool in (AtrousMaxPool2d(2, 1, 1, rate=4), AtrousAvgPool2d(2, 1, 1, rate=4)):
        assert pool(x).isfinite().all()


@pytest.mark.parametrize("pool", [AtrousMaxPool2d, AtrousAvgPool2d])
def test_no_channels(pool):
    with pytest.raises(ValueError, match=r"input: expected at least one channel, got \(1, 0, 4, 4"):
        pool(2, rate=2)(torch.zeros(1, 0, 4, 4))
