"""`refine`: pictures of every form and range give what the photograph of 8 bits gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import refine
from python_tests.crf.test_refine import MASK, PARAMS, PHOTO, REFINED, tensor_photo


@pytest.mark.parametrize(
    "photo",
    [
        Image.fromarray(PHOTO), PHOTO.astype(np.int64), PHOTO.astype(np.float32), PHOTO / 255,
        np.asfortranarray(PHOTO), PHOTO[::-1].copy()[::-1], np.moveaxis(PHOTO, 2, 0),
        tensor_photo(), tensor_photo()[None], tensor_photo() / 255, tensor_photo().half(),
        torch.from_numpy(PHOTO),
    ],
)  # fmt: skip
def test_pictures(photo):
    assert (refine(photo, MASK, params=PARAMS) == REFINED).all()


@pytest.mark.parametrize("grey", [PHOTO[..., 0], PHOTO[..., :1], PHOTO[None, ..., 0]])
def test_grey_pictures(grey):
    """As of three equal channels: `sigma_beta` means the same in a folder of both."""
    three = np.repeat(PHOTO[..., :1], 3, 2)
    expected = refine(three, MASK, params=PARAMS)
    for one in (grey, torch.from_numpy(grey.copy()), grey / 255):
        assert (refine(one, MASK, params=PARAMS) == expected).all()
    assert (refine(Image.fromarray(PHOTO[..., 0]), MASK, params=PARAMS) == expected).all()
    wide = PHOTO[..., 0].astype(np.uint16) * 257
    assert (refine(wide, MASK, params=PARAMS, image_range=(0, 65535)) == expected).all()


def test_normalised_pictures():
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    normalised = (PHOTO.astype(np.float32) / 255 - mean) / std
    pairs = list(zip(-mean / std, (1 - mean) / std, strict=True))
    assert (refine(normalised, MASK, params=PARAMS, image_range=pairs) == REFINED).all()
