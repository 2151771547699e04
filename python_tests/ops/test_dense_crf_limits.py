"""The CRF on images and labels at the ends of what there is, on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native.ops.pairwise_features import image_features, position_features
from python_tests.ops import reference_crf

PARAMS = dn.CRFParams(4, 30, 20, 3, 3)


def given(labels, height, width, one_colour=False):
    generator = torch.Generator().manual_seed(labels)
    unary = 2 * torch.randn(1, labels, height, width, generator=generator)
    image = torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)
    return unary, torch.full_like(image, 77) if one_colour else image


def slow(unary, image, iterations):
    height, width = image.shape[2:]
    gaussian = position_features(height, width, PARAMS.sigma_gamma)
    bilateral = image_features(image, PARAMS.sigma_alpha, PARAMS.sigma_beta)
    kernels = [
        (gaussian.numpy(), PARAMS.w2, "symmetric"),
        (bilateral[0].numpy(), PARAMS.w1, "symmetric"),
    ]
    q = reference_crf.MeanField(unary[0].flatten(1).numpy(), kernels).inference(iterations)
    return torch.from_numpy(q).reshape(unary.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("labels", "height", "width", "one_colour"),
    [
        (1, 1, 1, False),
        (3, 1, 1, False),
        (256, 1, 1, False),
        (1, 9, 16, False),
        (256, 9, 16, False),
        (2, 9, 17, True),
        (21, 9, 16, True),
        (5, 1, 33, False),
        (5, 33, 1, False),
    ],
)
def test_reference(labels, height, width, one_colour, dtype):
    unary, image = given(labels, height, width, one_colour)
    expected = slow(unary, image, 3)
    unary = unary.to(dtype)
    for q in (
        dn.dense_crf(unary, image, PARAMS, iterations=3),
        dn.MeanField.from_image(unary, image, PARAMS).inference(3),
    ):
        assert q.dtype == dtype and q.shape == unary.shape
        np.testing.assert_allclose(q, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
@pytest.mark.parametrize("labels", [1, 2, 21])
def test_one_energy_that_is_no_energy(labels, value):
    unary, image = given(labels, 9, 17)
    unary[0, -1, 8, 16] = value
    for call in (dn.dense_crf, dn.MeanField.from_image):
        with pytest.raises(
            ValueError, match=r"unary: expected finite energies, or .* got (NaN|-inf)"
        ):
            call(unary, image, PARAMS)
