"""deeplab_native.pydensecrf.utils: values by their formulas, and errors."""

import numpy as np
import pytest

from deeplab_native.pydensecrf import utils

RANDOM = np.random.default_rng(0)
P = RANDOM.dirichlet(np.ones(3), (4, 5)).transpose(2, 0, 1)  # probabilities (3, 4, 5)
LABELS = RANDOM.integers(0, 4, (4, 5))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16, np.uint64])
def test_unary_from_labels(dtype):
    unsure = utils.unary_from_labels(LABELS.astype(dtype), 3, 0.7)
    sure = utils.unary_from_labels(LABELS.astype(dtype), 4, 0.7, zero_unsure=False)
    assert unsure.shape == (3, 20) and sure.shape == (4, 20)
    assert unsure.dtype == sure.dtype == np.float32
    for n, label in enumerate(LABELS.ravel()):
        p = np.full(3, 1 / 3) if label == 0 else np.full(3, 0.15)
        if label:
            p[label - 1] = 0.7
        np.testing.assert_allclose(unsure[:, n], -np.log(p), rtol=1e-6)
        p = np.full(4, 0.1)
        p[label] = 0.7
        np.testing.assert_allclose(sure[:, n], -np.log(p), rtol=1e-6)


def test_unary_from_labels_of_one_label_and_of_booleans():
    np.testing.assert_allclose(utils.unary_from_labels([0, 1], 1, 0.7), [[0, -np.log(0.7)]])
    mask = np.array([True, False])
    np.testing.assert_allclose(
        utils.unary_from_labels(mask, 2, 0.7, False), -np.log([[0.3, 0.7], [0.7, 0.3]]), rtol=1e-6
    )
    assert utils.unary_from_labels(np.zeros(0, int), 2, 0.7).shape == (2, 0)


@pytest.mark.parametrize(
    ("labels", "n_labels", "gt_prob", "zero_unsure", "error", "message"),
    [
        (LABELS, 2, 0.7, True, IndexError, "labels: expected 0..2 for 2 labels.*got 3"),
        (LABELS, 3, 0.7, False, IndexError, "labels: expected 0..2 for 3 labels.*got 3"),
        (LABELS - 1, 4, 0.7, False, IndexError, "labels: expected 0..3.*got -1"),
        (np.uint8([255]), 21, 0.7, True, IndexError, "labels: .*got 255"),
        (np.uint64([2**64 - 1]), 21, 0.7, True, IndexError, "labels: .*got 18446744073709551615"),
        (P, 3, 0.7, True, IndexError, "labels: expected integers, got float64"),
        (LABELS, 3, 1, True, AssertionError, "gt_prob: expected between 0 and 1, got 1"),
        (LABELS, 3, 0, True, AssertionError, "gt_prob: "),
        (LABELS, 3, np.nan, True, AssertionError, "gt_prob: "),
        (LABELS, 0, 0.7, True, ValueError, "n_labels: expected at least 1, got 0"),
        (LABELS, 2.5, 0.7, True, TypeError, "n_labels: expected an integer, got 2.5"),
    ],
)
def test_wrong_labels(labels, n_labels, gt_prob, zero_unsure, error, message):
    with pytest.raises(error, match=message):
        utils.unary_from_labels(labels, n_labels, gt_prob, zero_unsure)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unary_from_softmax(dtype):
    p = P.astype(dtype)
    p[:, 0, 0] = 0, 1e-7, 1
    before = p.copy()
    u = utils.unary_from_softmax(p)
    assert u.shape == (3, 20) and u.dtype == np.float32 and u.flags.c_contiguous
    np.testing.assert_allclose(u, -np.log(np.maximum(p.reshape(3, 20), 1e-5)), rtol=1e-6)
    np.testing.assert_allclose(u[:2, 0], -np.log(1e-5), rtol=1e-6)
    np.testing.assert_allclose(
        utils.unary_from_softmax(p, scale=0.6, clip=None),
        -np.log(0.6 * p + 0.4 / 3).reshape(3, 20),
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        utils.unary_from_softmax(p, clip=0.2), -np.log(p.clip(0.2, 1)).reshape(3, 20), rtol=1e-6
    )
    np.testing.assert_array_equal(p, before)
    for scale in (0, 1.5, -1, np.nan):
        with pytest.raises(AssertionError, match=r"scale: expected within \(0, 1\], got"):
            utils.unary_from_softmax(p, scale)
    with pytest.raises(ValueError, match=r"sm: expected probabilities \(L, ...\), got a single"):
        utils.unary_from_softmax(dtype(0.5))


def test_deprecated():
    with pytest.warns(DeprecationWarning, match="use unary_from_labels") as found:
        u = utils.compute_unary(LABELS, 3, GT_PROB=0.8)
    assert found[0].filename == __file__  # the caller's line
    np.testing.assert_array_equal(u, utils.unary_from_labels(LABELS, 3, 0.8))
    with pytest.warns(DeprecationWarning, match="use unary_from_softmax"):
        u = utils.softmax_to_unary(P)
    np.testing.assert_array_equal(u, utils.unary_from_softmax(P, clip=None))
    with pytest.warns(DeprecationWarning, match="use unary_from_softmax"):
        u = utils.softmax_to_unary(P, 0.5)
    np.testing.assert_array_equal(u, utils.unary_from_softmax(P, 0.5, None))


def test_create_pairwise_gaussian():
    """(y, x) of an image; the first dimension varies slowest."""
    features = utils.create_pairwise_gaussian(sdims=(2, 3, 0.5), shape=(4, 3, 2))
    assert features.dtype == np.float32 and features.flags.c_contiguous
    expected = np.indices((4, 3, 2)).reshape(3, 24) / np.array([[2], [3], [0.5]])
    np.testing.assert_allclose(features, expected, rtol=1e-7)


@pytest.mark.parametrize("schan", [(13, 7), 13, np.array([13.0, 7.0])])
@pytest.mark.parametrize("chdim", [0, 1, 2])
def test_create_pairwise_bilateral(chdim, schan):
    image = RANDOM.integers(0, 256, (4, 5, 2), dtype=np.uint8)
    features = utils.create_pairwise_bilateral((2, 3), schan, np.moveaxis(image, 2, chdim), chdim)
    assert features.shape == (4, 20) and features.dtype == np.float32
    np.testing.assert_allclose(
        features[:2], np.indices((4, 5)).reshape(2, 20) / [[2], [3]], rtol=1e-7
    )
    colours = image.reshape(20, 2).T / np.broadcast_to(schan, 2)[:, None]
    np.testing.assert_allclose(features[2:], colours, rtol=1e-6)


def test_create_pairwise_bilateral_without_channels():
    volume = RANDOM.normal(size=(2, 3, 4))
    before = volume.copy()
    for schan in (0.5, [0.5]):
        features = utils.create_pairwise_bilateral((1, 2, 3), schan, volume)
        assert features.shape == (4, 24)
        np.testing.assert_array_equal(
            features[:3], utils.create_pairwise_gaussian((1, 2, 3), (2, 3, 4))
        )
        np.testing.assert_allclose(features[3], volume.ravel() / 0.5, rtol=1e-6)
    np.testing.assert_array_equal(volume, before)


IMAGE = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: utils.create_pairwise_gaussian((3,), (4, 5)), ValueError, "sdims: .*2 .*got 1"),
        (lambda: utils.create_pairwise_gaussian((3, 3, 3), (4, 5)), ValueError, "sdims: .*got 3"),
        (lambda: utils.create_pairwise_gaussian(3, (4, 5)), TypeError, "sdims: .*got 3"),
        (lambda: utils.create_pairwise_gaussian((3, 0), (4, 5)), ValueError, "sdims: .*positive"),
        (lambda: utils.create_pairwise_gaussian((3, -1), (4, 5)), ValueError, "sdims: .*positive"),
        (lambda: utils.create_pairwise_gaussian((3, 3), (4, -5)), ValueError, "shape: .*-5"),
        (lambda: utils.create_pairwise_gaussian((3, 3), (4, 5.5)), TypeError, "shape: .*5.5"),
        (
            lambda: utils.create_pairwise_bilateral((3, 3), 5, IMAGE),
            ValueError,
            "sdims: expected 3 numbers",  # a channel dimension that was not named
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 3), (5, 5), IMAGE, 2),
            ValueError,
            "schan: expected 3 numbers",
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 3), (5, 5, 0), IMAGE, 2),
            ValueError,
            "schan: expected positive",
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 3), "555", IMAGE, 2),
            TypeError,
            "schan: expected a number or 3 of them",
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 3), 5, IMAGE * 1j, 2),
            TypeError,
            "img: expected numbers, got complex128",
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 3), 5, IMAGE, 7),
            np.exceptions.AxisError,
            r"chdim: expected a dimension of img of shape \(4, 5, 3\), or -1 .* got 7",
        ),
        (  # -1 is not the last dimension, here as there
            lambda: utils.create_pairwise_bilateral((1, 1, 1), (5,), np.zeros((2, 3, 4, 1)), -1),
            ValueError,
            r"sdims: expected 4 numbers .*, got 3; chdim=-1 says that img of shape \(2, 3, 4, 1\) "
            "has no dimension of channels, chdim=3 that its last one is that",
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 3, 3), (5, 5, 5), IMAGE),
            ValueError,
            "schan: expected 1 numbers .*, got 3; chdim=-1 says",
        ),
        (
            lambda: utils.create_pairwise_bilateral((3, 3), (5, 5, 5), IMAGE, 0),
            ValueError,
            r"schan: expected 4 .*; chdim=0 says that img of shape \(4, 5, 3\) has 4 channels",
        ),
    ],
)
def test_wrong_features(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_lists_of_several_lengths_are_named():
    ragged = [[1, 2], [3]]
    for call in (
        lambda: utils.create_pairwise_bilateral((1, 1), 1, ragged),
        lambda: utils.unary_from_softmax(ragged),
        lambda: utils.unary_from_labels(ragged, 4, 0.7),
    ):
        with pytest.raises(ValueError, match=r"^(img|sm|labels): setting an array element"):
            call()
