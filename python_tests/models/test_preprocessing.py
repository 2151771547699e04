"""Input formats of the nets."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from deeplab_native.models import CAFFE, Preprocessing, create_model
from deeplab_native.models.preprocessing import as_rgb_batch


def test_preprocessing_of_the_authors():
    with torch.device("meta"):
        assert create_model("deeplab_resnet101").preprocessing == CAFFE
    pixel = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(1, 3, 1, 1)
    expected = torch.tensor([30 - 104.008, 20 - 116.669, 10 - 122.675])
    torch.testing.assert_close(CAFFE(pixel).flatten(), expected)


def test_preprocessing_of_torchvision():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocessing = Preprocessing("RGB", mean, std, scale=1)
    pixel = torch.tensor([10, 20, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    expected = (torch.tensor([10 / 255, 20 / 255, 1]) - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(preprocessing(pixel).flatten(), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        *[{"channel_order": "RBG"}, {"mean": (1, 2)}, {"std": (1, 0, 1)}, {"scale": 0}],
        *[{"mean": (0, float("nan"), 0)}, {"std": (1, 1, float("inf"))}, {"scale": float("nan")}],
        *[{"mean": 0.5}, {"mean": "abc"}, {"std": (1, "1", 1)}, {"scale": "1"}, {"scale": True}],
    ],
)
def test_preprocessing_says_what_is_wrong(arguments):
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(arguments))}: expected"):
        Preprocessing(**arguments)


def test_numbers_become_floats():
    """Equal to what comes back from the JSON of a weights file."""
    ours = Preprocessing("RGB", [1, np.float32(2), 3], (np.int64(1), 1, 1), scale=1)
    assert ours == Preprocessing("RGB", (1.0, 2.0, 3.0), scale=1.0)
    assert {type(v) for v in (*ours.mean, *ours.std, ours.scale)} == {float}


def test_preprocessing_takes_bytes_only():
    with pytest.raises(TypeError, match=r"images: expected dtype torch\.uint8"):
        CAFFE(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="images: expected 3 channels"):
        CAFFE(torch.zeros(1, 4, 2, 2, dtype=torch.uint8))


def test_as_rgb_batch_of_a_tensor_copies_nothing():
    image = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert as_rgb_batch(image).data_ptr() == image.data_ptr()


def test_an_orientation_is_not_applied_in_silence():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = 6
    with pytest.warns(UserWarning, match=r"EXIF orientation 6, .*exif_transpose"):
        batch = as_rgb_batch(image)
    assert np.array_equal(batch[0].permute(1, 2, 0).numpy(), pixels)
    upright = as_rgb_batch(ImageOps.exif_transpose(image))  # a warning is an error here
    assert np.array_equal(upright[0].permute(1, 2, 0).numpy(), np.rot90(pixels, -1))
