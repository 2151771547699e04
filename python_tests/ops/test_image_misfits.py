"""Images whose values cannot be what sigma_beta was made for are warned of, once in a process."""

from __future__ import annotations

import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import deeplab_native as dn
from deeplab_native import _image_range
from deeplab_native.ops._dense_crf_inputs import as_levels
from deeplab_native.ops.pairwise_features import image_features
from python_tests.ops.test_image_range import NORMALISED, normalised

pytestmark = pytest.mark.unsanitized  # kernels that other tests run, too


def misfits(image):
    return {
        "0 to 1": image / image.max(),
        "normalised": normalised(image),
        "half a unit": (image / image.max()).half(),
        "16 bits": image * 257.0,
    }


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (
            "0 to 1",
            r"image: values from 0(\.\d+)? to 1, but params.sigma_beta=20 is in levels of 0..255, "
            r"so that hardly any colour is seen \(image_range=\(0, 1\), or params.sigma_beta in",
        ),
        ("half a unit", r"image: values from .* to 1, but .* \(image_range=\(0, 1\)"),
        (
            "normalised",
            r"image: values from -2.1\d* to \d.*, but .* hardly any colour is seen \(give the "
            r"image's own values, 0..255, or as image_range .* a pair for each channel",
        ),
        (
            "16 bits",
            r"image: values from .*e\+0\d, but .* every pixel has a colour of its own "
            r"\(image_range=\(0, 65535\)",
        ),
    ],
)
def test_misfits_warn_once_at_the_users_line(photo, which, message, said):
    unary, image, params = photo
    odd = misfits(image)[which]
    for call in (
        lambda: dn.dense_crf(unary, odd, params, iterations=1),
        lambda: dn.MeanField.from_image(unary, odd, params),
        lambda: dn.dense_crf([unary[1]], [odd[1]], params, iterations=1),
        lambda: dn.dense_crf(unary, odd, params, sizes=[(0, 0), (30, 41)], iterations=1),
        lambda: dn.dense_crf(torch.cat((unary, unary[:1])), beside(image, odd), params),
    ):
        said.clear()
        _image_range._warned.clear()
        call()
        (warning,) = said
        assert warning.category is UserWarning and warning.filename == __file__
        expected = message.replace("image: ", r"image(\[\d\])?: ")
        assert re.match(expected, str(warning.message))
        call()
        assert len(said) == 1


def test_one_sigma_in_the_images_unit_says_that_all_are(photo, said):
    unary, image, _ = photo
    dn.dense_crf(unary, image / 255, dn.CRFParams(4, 30, [0.1, 1, 1], 3, 3), iterations=0)
    assert not said
    dn.dense_crf(unary, image / 255, dn.CRFParams(4, 30, [20, 5, 5], 3, 3), iterations=0)
    assert "params.sigma_beta=(20.0, 5.0, 5.0) is in levels of 0..255" in str(said[0].message)


def beside(image, odd):
    """An ordinary photo and two that are none, in one batch."""
    return torch.cat((image[:1].to(odd.dtype), odd))


def test_each_kind_is_said_once(photo, said):
    unary, image, params = photo
    for _ in range(2):
        for odd in misfits(image).values():
            dn.dense_crf(unary, odd, params, iterations=0)
    assert len(said) == 3  # half is one of 0..1


def test_a_warning_that_is_an_error_is_one_every_time(photo):
    unary, image, params = photo
    for _ in range(2):
        with pytest.raises(UserWarning, match="image_range"):
            dn.dense_crf(unary, image / 255, params)


def test_features_of_such_an_image(photo, said):
    image = photo[1]
    image_features(image / 255, 30, 0.1)
    image_features(image.float(), 30, 20)
    assert not said
    image_features(image / 255, 30, [20, 20, 20])
    assert "image: values from" in str(said[0].message) and "sigma_channels=20" in str(
        said[0].message
    )
    assert "multiply image by 255" in str(said[0].message)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.float(),
        lambda image: image.clamp(max=1),  # uint8
        lambda image: torch.zeros_like(image, dtype=torch.float32),
        lambda image: torch.ones_like(image, dtype=torch.float32),
        lambda image: image - torch.tensor([123.0, 117.0, 104.0])[:, None, None],
        lambda image: (image * 1.2 - 20).double(),  # as an interpolation overshoots
        lambda image: image[:, :, :0].float(),
    ],
)
def test_what_fits_is_not_warned_of(photo, change, said):
    unary, image, params = photo
    own = change(image)
    dn.dense_crf(unary[:, :, : own.shape[2]], own, params, iterations=1)
    assert not said


def test_no_look_on_cuda(photo, cuda_device, said):
    unary, image, params = (t.to(cuda_device) if isinstance(t, torch.Tensor) else t for t in photo)
    q = dn.dense_crf(unary, image / 255, params, iterations=1)
    assert torch.isfinite(q).all()
    dn.MeanField.from_image(unary, image / 255, params)
    assert not said


@pytest.mark.parametrize("image_range", [(0, 1), NORMALISED])
def test_compile_and_fake_tensors(photo, image_range, said):
    unary, image, params = photo
    image = image / 255

    def crf(unary, image):
        own = image_range if image.shape[0] == 2 else None
        return dn.dense_crf(unary, image, params, iterations=2, image_range=own)

    compiled = torch.compile(crf, fullgraph=True, backend="aot_eager")
    expected = crf(unary, image)
    said.clear()
    assert torch.equal(compiled(unary, image), expected)
    assert compiled(unary[:1], image[:1]).shape == unary[:1].shape  # of no stated range
    with FakeTensorMode() as mode:
        fakes = mode.from_tensor(unary), mode.from_tensor(image)
        assert dn.dense_crf(*fakes, params).shape == unary.shape
    assert not said


def test_under_vmap_there_is_nothing_to_look_at(photo, said):
    images = photo[1] / 255
    for pairs, expected in ((None, images), ([(0.0, 1.0)], photo[1].float())):
        mapped = torch.vmap(lambda image, p=pairs: as_levels("image", image[None], p, 3.0)[0])
        assert torch.equal(mapped(images), expected)
    assert not said


@pytest.mark.parametrize(
    ("image_range", "scale"), [((0, 1), 1.0), ((0, 65535), 1 / 255), ((0, 65535), 1)]
)
def test_a_range_that_is_not_the_images(photo, image_range, scale, said):
    unary, image, params = photo
    for _ in range(2):
        dn.dense_crf(unary, image * scale, params, image_range=image_range, iterations=1)
    (warning,) = said
    text = str(warning.message)
    assert text.startswith("image_range: expected the range of image, whose values are from ")
    assert f"got {tuple(map(float, image_range))}" in text


def test_values_beyond_a_range_are_no_mistake(photo, said):
    unary, image, params = photo
    q = dn.dense_crf(unary, image * 10.0 - 1000, params, image_range=(-1000, 1550))
    torch.testing.assert_close(q, dn.dense_crf(unary, image, params), rtol=0, atol=1e-4)
    dn.dense_crf(unary, image * 10.0 - 1000, params, image_range=(-100, 200), iterations=1)
    assert not said
