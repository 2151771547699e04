"""Images of other values than 0..255: what says so, and what is warned of where nothing does."""

from __future__ import annotations

import pytest
import torch

import deeplab_native as dn

pytestmark = pytest.mark.unsanitized  # kernels that other tests run, too


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISED = [(-m / s, (1 - m) / s) for m, s in zip(MEAN, STD, strict=True)]


def normalised(image):
    mean, std = torch.tensor([MEAN, STD], device=image.device)[:, None, :, None, None]
    return (image / 255 - mean) / std


@pytest.fixture
def small(photo_on):
    """A part of the photo on a device: every function takes it in turn."""
    unary, image, params = photo_on
    return unary[:, :, 8:20, 6:22], image[:, :, 8:20, 6:22], params


def everything(unary, image, params, **how):
    """Q of an image by every function that takes one, in one tensor."""
    height, width = unary.shape[2] - 3, unary.shape[3] - 2
    return torch.cat(
        [
            dn.dense_crf(unary, image, params, **how).flatten(),
            *(q.flatten() for q in dn.dense_crf([*unary], [*image], params, **how)),
            dn.dense_crf(unary, image, params, sizes=[(height, width)] * 2, **how).flatten(),
            dn.dense_crf(unary, image, params, scale=0.5, **how).flatten(),
            dn.MeanField.from_image(unary, image, params, **how).inference(10).flatten(),
        ]
    )


# Of photos, k / 255 * 255 and 257 k * (255 / 65535) are k, bit by bit
@pytest.mark.parametrize(
    ("change", "image_range"),
    [
        (lambda image: image / 255, (0, 1)),
        (lambda image: image / 255, [(0, 1), (0, 1), (0, 1)]),
        (lambda image: image.double() / 255, (0, 1)),
        (lambda image: (image.int() * 257).to(torch.uint16), (0, 65535)),
        (lambda image: image.int() * 257, (0.0, 65535.0)),
        (lambda image: image.long(), (0, 255)),
        (lambda image: image.half(), None),
        (lambda image: image.bfloat16(), None),
        (lambda image: image, (0, 255)),
    ],
)
def test_bits_are_those_of_the_photo(small, change, image_range, said):
    unary, image, params = small
    q = everything(unary, change(image), params, image_range=image_range)
    assert torch.equal(q, everything(unary, image, params))
    assert not said


def test_a_normalised_image_is_the_photo(small, said):
    unary, image, params = small
    q = everything(unary, normalised(image), params, image_range=NORMALISED)
    torch.testing.assert_close(q, everything(unary, image, params), rtol=0, atol=1e-4)
    assert not said


def test_an_image_of_minus_one_to_one(small):
    unary, image, params = small
    q = dn.dense_crf(unary, image / 127.5 - 1, params, image_range=(-1, 1))
    torch.testing.assert_close(q, dn.dense_crf(unary, image, params), rtol=0, atol=1e-4)


def test_sigma_in_the_images_unit(small, said):
    unary, image, params = small
    own = dn.CRFParams(4, 30, 20 / 255, 3, 3)
    expected = everything(unary, image, params)
    torch.testing.assert_close(everything(unary, image / 255, own), expected, rtol=0, atol=1e-4)
    wide = dn.CRFParams(4, 30, 20 * 257, 3, 3)
    q = everything(unary, image * 257.0, wide, image_range=(0, 255))
    torch.testing.assert_close(q, expected, rtol=0, atol=1e-4)
    assert not said


def test_a_range_for_each_channel(small, said):
    """Colours of 0..255 beside a depth in 0..10 metres."""
    unary, image, params = small
    four = torch.cat((image, image[:, :1]), 1)
    with_depth = torch.cat((image.float(), image[:, :1] / 25.5), 1)
    ranges = [(0, 255), (0, 255), (0, 255), (0, 10)]
    expected = everything(unary, four, params)
    q = everything(unary, with_depth, params, image_range=ranges)
    torch.testing.assert_close(q, expected, rtol=0, atol=1e-4)
    own = dn.CRFParams(4, 30, [20, 20, 20, 20 / 25.5], 3, 3)
    torch.testing.assert_close(everything(unary, with_depth, own), expected, rtol=0, atol=1e-4)
    assert not said


def test_a_range_of_volumes(device, said):
    unary = torch.randn(2, 3, 4, 9, 8, device=device)
    volume = torch.randint(0, 256, (2, 1, 4, 9, 8), dtype=torch.uint8, device=device)
    params = dn.CRFParams(4, 5, 30, 3, 2)
    expected = dn.dense_crf(unary, volume, params, spacing=(2, 1, 1))
    for own, image_range in ((volume / 255, (0, 1)), (volume.to(torch.int16) * 4, (0, 1020))):
        how = {"spacing": (2, 1, 1), "image_range": image_range}
        assert torch.equal(dn.dense_crf(unary, own, params, **how), expected)
        assert torch.equal(torch.stack(dn.dense_crf([*unary], [*own], params, **how)), expected)
        field = dn.MeanField.from_image(unary, own, params, **how)
        assert torch.equal(field.inference(10), expected)
        assert torch.equal(dn.dense_crf(unary[:1], own[0], params, **how), expected[:1])
    assert not said


def test_gradient_with_a_range(small):
    unary, image, params = small
    gradients = []
    for own, how in ((image, {}), (image / 255, {"image_range": (0, 1)})):
        leaf = unary.clone().requires_grad_()
        q = dn.dense_crf(leaf, own, params, iterations=2, **how)
        gradients.append(torch.autograd.grad(q.square().sum(), leaf)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("image_range", "error", "message"),
    [
        (1, TypeError, r"image_range: expected \(low, high\), .* got 1"),
        ("01", TypeError, r"image_range: expected \(low, high\)"),
        ((), TypeError, r"image_range: expected \(low, high\)"),
        ((0, 1, 2), TypeError, r"image_range: expected \(low, high\)"),
        ((False, True), TypeError, r"image_range: expected \(low, high\)"),
        ([(0, 1), 3], TypeError, r"image_range: expected \(low, high\)"),
        ((1, 0), ValueError, r"image_range: expected low below high, finite, got \(1, 0\)"),
        ((0, 0), ValueError, "image_range: expected low below high"),
        ((0, float("nan")), ValueError, "image_range: expected low below high"),
        ((0, float("inf")), ValueError, "image_range: expected low below high, finite"),
        ([(0, 1), (0, 1)], ValueError, "image_range: expected .* 3 such pairs, .* of image, got 2"),
    ],
)
def test_bad_range(photo, image_range, error, message):
    unary, image, params = photo
    for call in (dn.dense_crf, dn.MeanField.from_image):
        with pytest.raises(error, match=message):
            call(unary, image, params, image_range=image_range)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int8, torch.int32, torch.int64])
def test_integers_need_a_range(photo, dtype):
    unary, image, params = photo
    message = rf"image: expected dtype torch.uint8 or a float .* got {dtype} \(image_range=\(0, 65"
    for call in (dn.dense_crf, dn.MeanField.from_image):
        with pytest.raises(TypeError, match=message):
            call(unary, image.to(dtype), params)
    with pytest.raises(TypeError, match=r"image\[1\]: expected dtype torch.uint8 or a float"):
        dn.dense_crf([*unary], [image[0], image[1].to(dtype)], params)
    with pytest.raises(TypeError, match=r"image: expected dtype torch.uint8 .* got torch.bool"):
        dn.dense_crf(unary, image.bool(), params)
