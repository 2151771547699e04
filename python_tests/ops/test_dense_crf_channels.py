"""Images of any number of channels, and sigmas of each channel and axis."""

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native import _variants
from deeplab_native.ops.pairwise_features import PixelFeatures

BATCH, LABELS, HEIGHT, WIDTH = 2, 3, 7, 9


def problem(channels, device="cpu", size=(HEIGHT, WIDTH), dtype=torch.uint8):
    generator = torch.Generator().manual_seed(channels)
    unary = torch.rand((BATCH, LABELS, *size), generator=generator) * 4
    image = torch.randint(0, 256, (BATCH, channels, *size), generator=generator).to(dtype)
    return unary.to(device), image.to(device)


def features_by_hand(image, sigma_axes, sigma_channels):
    """Of images x, y and channels, of volumes z, y, x and channels: (B, N, d), divided singly."""
    batch, channels, *size = image.shape
    axes = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size), indexing="ij")
    planes = [a / np.float32(s) for a, s in zip(axes, sigma_axes, strict=True)]
    if len(size) == 2:
        planes.reverse()
    positions = np.stack(planes).reshape(1, len(size), -1).repeat(batch, 0)
    values = image.cpu().numpy().astype(np.float32).reshape(batch, channels, np.prod(size))
    values = values / np.asarray(sigma_channels, np.float32)[:, None]
    features = np.concatenate((positions, values), 1).transpose(0, 2, 1)
    return torch.from_numpy(np.ascontiguousarray(features)).to(image.device)


def by_hand(unary, image, w1, alpha, beta, w2, gamma, **how):
    """`mean_field` of features that were made by hand; sigmas of each axis and channel."""
    positions = features_by_hand(image[:1, :0], gamma, ())[0]
    normalization = how.pop("normalization", "symmetric")
    kernels = [
        (positions, w2, normalization),
        (features_by_hand(image, alpha, beta), w1, normalization),
    ]
    return dn.mean_field(unary.flatten(2), kernels, **how).view(unary.shape)


def same(q, expected):
    """Sums are in another order where pixels go through tiles."""
    torch.testing.assert_close(q, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("channels", "dtype"),
    [
        (1, torch.uint8),
        (2, torch.float32),
        (4, torch.float64),
        (13, torch.uint8),
        (30, torch.float32),
    ],
)
def test_channels(channels, dtype, device):
    unary, image = problem(channels, device, dtype=dtype)
    params = dn.CRFParams(3, 8, 40, 2, 2)
    q = dn.dense_crf(unary, image, params, iterations=3)
    expected = by_hand(unary, image, 3, [8, 8], [40] * channels, 2, [2, 2], iterations=3)
    same(q, expected)
    steps = dn.MeanField.from_image(unary, image, params)
    assert torch.equal(steps.inference(3), q)


def test_a_sigma_for_each_channel_and_axis(device):
    """RGB and depth."""
    unary, image = problem(4, device)
    params = dn.CRFParams(3, (8, 5), [40, 30, 20, 200.5], 2, [2, 3.5])
    q = dn.dense_crf(unary, image, params, iterations=3)
    expected = by_hand(unary, image, 3, [8, 5], [40, 30, 20, 200.5], 2, [2, 3.5], iterations=3)
    same(q, expected)


def test_equal_sigmas_are_one_number(device):
    unary, image = problem(3, device)
    one = dn.dense_crf(unary, image, dn.CRFParams(3, 8, 40, 2, 2), iterations=2)
    each = dn.CRFParams(3, [8, 8], (40, 40.0, 40), 2, (2, 2))
    assert torch.equal(dn.dense_crf(unary, image, each, iterations=2), one)
    assert each.sigma_alpha == (8, 8) and hash(each) == hash(
        dn.CRFParams(3, (8, 8), (40,) * 3, 2, (2, 2))
    )


def test_a_channel_without_contrast_changes_no_kernel():
    """In the exact model: the lattice, of another dimension, is near it."""
    unary, image = problem(1, size=(20, 20))
    with_flat = torch.cat((image, torch.full_like(image, 7)), 1)
    params = dn.CRFParams(3, 8, 40, 2, 2)
    grey = dn.dense_crf(unary, image, params, iterations=3)
    both = dn.dense_crf(unary, with_flat, params, iterations=3)
    assert (both - grey).abs().mean() < 0.05


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_lists_sizes_and_gradients(device, scale):
    unary, image = problem(2, device)
    params = dn.CRFParams(3, 8, [40, 20], 2, 2)
    q = dn.dense_crf(unary, image, params, iterations=2, scale=scale)
    of_list = dn.dense_crf(list(unary), list(image), params, iterations=2, scale=scale)
    assert torch.equal(torch.stack(of_list), q)
    part = dn.dense_crf(
        unary, image, params, iterations=2, scale=scale, sizes=[(HEIGHT, WIDTH), (4, 5)]
    )
    assert torch.equal(part[0], q[0])
    alone = dn.dense_crf(
        unary[1:, :, :4, :5], image[1:, :, :4, :5], params, iterations=2, scale=scale
    )
    assert torch.equal(part[1, :, :4, :5], alone[0])
    small = unary[:1, :, :3, :4].double().requires_grad_()

    def crf(u):
        return dn.dense_crf(u, image[:1, :, :3, :4], params, iterations=2, scale=scale)

    assert torch.autograd.gradcheck(crf, (small,))


def test_features_are_not_stored_differently(device):
    """Native features, to the bit, of strided images and volumes."""
    for size in ((5, 18), (2, 3, 17), (3, 2, 16)):
        _, image = problem(3, device, size=size)
        sigmas = [1.7, 3.3, 2.1][: len(size)]
        channels_last = image.movedim(1, -1).contiguous().movedim(-1, 1)
        expected = features_by_hand(image, sigmas, [2.3, 5.1, 7.7])
        for one in (image, channels_last, image.double()):
            features = PixelFeatures(one, sigmas, [2.3, 5.1, 7.7])
            assert torch.equal(features.tensor(), expected)
            assert features.shape == expected.shape
        positions = PixelFeatures(image[:, :0], sigmas)
        assert torch.equal(positions.tensor(), expected[0, :, : len(size)])


@pytest.mark.parametrize("size", [(33, 48), (7, 9), (3, 20, 32), (5, 6, 7), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_lattice_without_stored_features(size, dtype):
    """Built from the pixels on the CPU: the vertices are those of the features."""
    from deeplab_native.ops._lattice_cpu import build_lattice

    _, image = problem(2, size=size, dtype=dtype)
    features = PixelFeatures(image, [2.5, 3, 3.5][: len(size)], [13, 12])
    expected = build_lattice(features.tensor()[1], "features", like_pydensecrf=True)
    assert features.lattice(1, "image").num_vertices == expected.num_vertices


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (
            (3, 8, (40, 20), 2, 2),
            ValueError,
            r"params.sigma_beta: .* each of the 3 channels .* got 2",
        ),
        ((3, (8, 8, 8), 40, 2, 2), ValueError, r"params.sigma_alpha: .* 2 axes \(y, x\), got 3"),
        ((3, 8, 40, 2, (2,)), ValueError, r"params.sigma_gamma: .* 2 axes \(y, x\), got 1"),
    ],
)
def test_one_for_each(params, error, message):
    unary, image = problem(3)
    with pytest.raises(error, match=message):
        dn.dense_crf(unary, image, dn.CRFParams(*params))
    with pytest.raises(error, match=message):
        dn.dense_crf(list(unary), list(image), dn.CRFParams(*params))
    with pytest.raises(error, match=message):
        dn.MeanField.from_image(unary, image, dn.CRFParams(*params))


@pytest.mark.parametrize(
    ("sigma", "error", "message"),
    [
        ([], ValueError, "sigma_beta: expected a positive number or several, got none"),
        ([3, 0], ValueError, r"sigma_beta\[1\]: expected a positive number, got 0"),
        ([3, float("nan")], ValueError, r"sigma_beta\[1\]: expected a positive number, got nan"),
        ([3, "4"], TypeError, r"sigma_beta\[1\]: expected a number, got str"),
        ("40", TypeError, "sigma_beta: expected a number, got str"),
        ([[3]], TypeError, r"sigma_beta\[0\]: expected a number, got list"),
    ],
)
def test_sigmas_that_are_none(sigma, error, message):
    with pytest.raises(error, match=message):
        dn.CRFParams(3, 8, sigma, 2, 2)


def test_too_many_channels():
    unary, image = problem(63)
    with pytest.raises(ValueError, match="image: expected 1 to 62 channels of an image, got 63"):
        dn.dense_crf(unary, image, dn.CRFParams(3, 8, 40, 2, 2))
    with pytest.raises(ValueError, match=r"image\[0\]: expected 1 to 62 channels"):
        dn.dense_crf(list(unary), list(image), dn.CRFParams(3, 8, 40, 2, 2))
    with pytest.raises(ValueError, match="image: expected 1 to 62 channels of an image, got 0"):
        dn.dense_crf(unary, image[:, :0], dn.CRFParams(3, 8, 40, 2, 2))


def test_tiles_change_only_the_order_of_sums(device):
    unary, image = problem(5, device)
    params = dn.CRFParams(3, 8, 40, 2, 2)
    q = dn.dense_crf(unary, image, params, iterations=3)
    with _variants.use({"crf_tile": "off"}):
        same(dn.dense_crf(unary, image, params, iterations=3), q)
