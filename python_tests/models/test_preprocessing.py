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


PHOTO = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
EXPECTED = torch.from_numpy(PHOTO).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("change", "error", "remedy"),
    [
        (lambda a: a / 255, TypeError, "(255 * image).round().astype(numpy.uint8) of values 0..1"),
        (lambda a: a / 1.0, TypeError, "image.astype(numpy.uint8) of 0..255"),
        (
            lambda a: a.astype(np.uint16) * 257,
            TypeError,
            "(image // 257).astype(numpy.uint8) of 16",
        ),
        (lambda a: a.astype(int), TypeError, "image.astype(numpy.uint8) of values 0..255"),
        (lambda a: a.transpose(2, 0, 1), ValueError, "channels last: image.transpose(1, 2, 0)"),
        (lambda a: np.dstack((a, a[..., 0])), ValueError, "fourth channel: image[..., :3]"),
        (lambda a: a[None], ValueError, "several, torch.from_numpy(image).permute(0, 3, 1, 2), (B"),
        (lambda a: a.transpose(2, 0, 1)[None], ValueError, "several, torch.from_numpy(image), (B"),
    ],
)
def test_remedies_for_arrays(change, error, remedy):
    """What the error advises gives the photo."""
    image = change(PHOTO)
    with pytest.raises(error) as raised:
        as_rgb_batch(image)
    assert remedy in str(raised.value)
    call = remedy.split(": ")[-1].removeprefix("several, ").split(" of ")[0].removesuffix(", (B")
    assert torch.equal(
        as_rgb_batch(eval(call, {"image": image, "numpy": np, "torch": torch})), EXPECTED
    )


def test_remedy_for_a_grey_array():
    grey = PHOTO[..., 0]
    with pytest.raises(ValueError, match=r"numpy.stack\(\[image\] \* 3, -1\)"):
        as_rgb_batch(grey)
    assert torch.equal(as_rgb_batch(np.stack([grey] * 3, -1)), EXPECTED[:, :1].repeat(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("change", "error", "remedy"),
    [
        (lambda t: t / 255, TypeError, "(255 * image).round().to(torch.uint8) of values 0..1"),
        (lambda t: t.half(), TypeError, "image.to(torch.uint8) of 0..255"),
        (lambda t: t.bfloat16(), TypeError, "image.to(torch.uint8) of 0..255"),
        (
            lambda t: (t.int() * 257).to(torch.uint16),
            TypeError,
            "(image.to(torch.int32) // 257).to(torch.uint8) of 16",
        ),
        (lambda t: t.long(), TypeError, "image.to(torch.uint8) of values 0..255"),
        (lambda t: t.permute(0, 2, 3, 1), ValueError, "channels first: permute(0, 3, 1, 2)"),
        (lambda t: t[0].permute(1, 2, 0), ValueError, "channels first: permute(2, 0, 1)"),
    ],
)
def test_remedies_for_tensors(change, error, remedy):
    image = change(EXPECTED)
    with pytest.raises(error) as raised:
        as_rgb_batch(image)
    assert remedy in str(raised.value)
    call = remedy.split(" of ")[0].replace("channels first: ", "image.")
    assert torch.equal(as_rgb_batch(eval(call, {"image": image, "torch": torch})), EXPECTED)


def test_an_orientation_is_not_applied_in_silence():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = 6
    with pytest.warns(UserWarning, match=r"EXIF orientation 6, .*exif_transpose"):
        batch = as_rgb_batch(image)
    assert np.array_equal(batch[0].permute(1, 2, 0).numpy(), pixels)
    upright = as_rgb_batch(ImageOps.exif_transpose(image))  # a warning is an error here
    assert np.array_equal(upright[0].permute(1, 2, 0).numpy(), np.rot90(pixels, -1))
