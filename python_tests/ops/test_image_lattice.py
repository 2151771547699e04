"""Lattices built straight from pixels against those of the features that are written out."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import _C
from python_tests.ops import reference_crf
from python_tests.ops.crf_planes_cases import Crf, energies, image_lattice

NONE, SYMMETRIC = 0, 3
DTYPES = ("uint8", "float32", "float64")
LAYOUTS = {
    "rows of pixels": lambda a: np.ascontiguousarray(a),
    "planes": lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)).transpose(1, 2, 0),
    "columns": lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)).transpose(1, 0, 2),
    "upside down": lambda a: np.ascontiguousarray(a[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
    "with gaps": lambda a: np.repeat(np.repeat(a, 2, 1), 3, 2)[:, ::2, ::3],
    "one row for all": lambda a: np.broadcast_to(a[:1], a.shape),
    "one colour": lambda a: np.broadcast_to(a[:1, :1], a.shape),
}


def random_image(height, width, channels, dtype, seed=0):
    """Off the colour 0, which pydensecrf adds where the pixels are no multiple of 4."""
    random = np.random.default_rng(seed)
    values = random.integers(100, 160, (height, width, channels))
    return (values if dtype == "uint8" else values + random.random(values.shape)).astype(dtype)


def features_of(image, sigma_xy, sigmas, dtype, threads):
    """(2 + C, N) of image (H, W, C)."""
    height, width, _ = image.shape
    features = np.full((2 + len(sigmas), height * width), np.nan, np.float32)
    strides = [s // image.itemsize for s in image.strides]
    _C.pairwise_features_cpu(
        image.ctypes.data,
        dtype,
        (strides[2], strides[0], strides[1]),
        (height, width),
        sigma_xy[::-1],
        list(sigmas),
        features.ctypes.data,
        threads,
    )
    return features


def check_same(image, sigma_xy, sigmas, dtype, threads):
    height, width, _ = image.shape
    features = features_of(image, sigma_xy, sigmas, dtype, threads)
    d, n = features.shape
    expected = _C.build_lattice_cpu(features.ctypes.data, n, d, 1, n, threads, True)
    lattice = image_lattice(image, sigma_xy, sigmas, threads, dtype)
    assert lattice.num_vertices == expected.num_vertices
    # others divide by sums in float32, which depend on the order of the points
    unary = energies("random", 3, height, width)
    q = Crf(unary, [(lattice, 0.2, NONE)], threads, width, np.float64).inference(2)
    points = Crf(unary, [(expected, 0.2, NONE)], threads, 0, np.float64)
    np.testing.assert_allclose(q, points.inference(2), rtol=0, atol=1e-11)


@settings(deadline=None, max_examples=120)
@given(
    size=st.tuples(st.integers(1, 36), st.integers(1, 70)),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(list(LAYOUTS)),
    sigma_xy=st.tuples(st.floats(0.5, 50), st.floats(0.5, 50)),
    sigmas=st.lists(st.floats(1, 50), max_size=4),
)
def test_same_lattice(size, dtype, layout, sigma_xy, sigmas):
    image = LAYOUTS[layout](random_image(*size, max(1, len(sigmas)), dtype))
    check_same(image, sigma_xy, sigmas, dtype, 1)


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 7), (35, 2), (5, 16), (33, 45), (64, 48)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_lattice_with_threads(layout, dtype, size):
    image = LAYOUTS[layout](random_image(*size, 3, dtype))
    for threads in (2, 5):
        check_same(image, (2.5, 3.0), (13, 12, 11), dtype, threads)


@pytest.mark.parametrize("width", [3, 4, 17])
def test_the_zero_point(width):
    """Its vertices are there, as in pydensecrf, where the pixels are no multiple of 4."""
    image = random_image(3, width, 3, "uint8")
    lattice = image_lattice(image, (2, 2), (20, 20, 20), 2)
    features = features_of(image, (2, 2), (20, 20, 20), "uint8", 1).T
    expected = reference_crf.Lattice(features, like_pydensecrf=True)
    assert lattice.num_vertices == len(expected.index)
    more = len(expected.index) - len(reference_crf.Lattice(features).index)
    assert (more == 0) == (width == 4)


def test_lattices_of_a_narrow_image_go_with_those_of_points():
    image = random_image(20, 10, 3, "uint8")
    features = features_of(image, (2, 2), (20, 20, 20), "uint8", 1)
    points = _C.build_lattice_cpu(features.ctypes.data, 200, 5, 1, 200, 2, True)
    pixels = image_lattice(image, (2, 2), (20, 20, 20), 2)
    kernels = [(points, 1.0, SYMMETRIC), (pixels, 1.0, SYMMETRIC)]
    unary = energies("random", 3, 20, 10)
    expected = Crf(unary, kernels, 2, 0).inference(2)
    np.testing.assert_array_equal(Crf(unary, kernels, 2, 10).inference(2), expected)


def with_pixel(value, dtype):
    image = random_image(40, 70, 3, dtype)
    image[39, 69, 2] = value
    return image


WIDE = np.zeros((3, 4000, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "sigma_xy", "sigma_rgb", "message"),
    [
        (with_pixel(np.nan, "float32"), (3, 3), 5, "dimension 4 has values that are NaN"),
        (with_pixel(np.inf, "float32"), (3, 3), 5, "dimension 4 has values that are NaN"),
        (with_pixel(-np.inf, "float64"), (3, 3), 5, "dimension 4 has values that are NaN"),
        (with_pixel(1e300, "float64"), (3, 3), 5, "dimension 4 has values that are NaN"),
        (with_pixel(1e30, "float32"), (3, 3), 5, "too large for the lattice"),
        (with_pixel(-1e30, "float64"), (3, 3), 5, "too large for the lattice"),
        (WIDE, (1e-3, 3), 5, "too large for the lattice .*larger sigmas"),
        (WIDE.transpose(1, 0, 2), (3, 1e-3), 5, "too large for the lattice .*larger sigmas"),
        (WIDE, (3, 3), 1e-5, "too large for the lattice"),
        (WIDE, (1e-42, 3), 5, "dimension 0 has values that are NaN or infinite"),
        (WIDE, (3, 1e-42), 5, "dimension 1 has values that are NaN or infinite"),
        (WIDE, (3, 3), 1e-42, "dimension 2 has values that are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_refused(image, sigma_xy, sigma_rgb, message, threads):
    """By the build and by the check alike, and soon."""
    start = time.process_time()
    dtype, sigmas = str(image.dtype), [sigma_rgb] * 3
    with pytest.raises(ValueError, match=message) as built:
        image_lattice(image, sigma_xy, sigmas, threads, dtype)
    strides = [s // image.itemsize for s in image.strides]
    where = image.ctypes.data, dtype, (strides[2], strides[0], strides[1])
    with pytest.raises(ValueError, match=message) as checked:
        _C.check_image_features_cpu(*where, image.shape[:2], sigma_xy[::-1], sigmas, threads)
    assert str(checked.value) == str(built.value)
    assert time.process_time() - start < 2
    _C.check_image_features_cpu(*where, (2, 60), (3, 3), sigmas[:0], threads)


def test_pixels_outside_of_0_to_255():
    """Images of floats may have any values: what they lie between is looked for."""
    image = with_pixel(-3000, "float64")
    image[0, 0] = 5000
    check_same(image, (3, 3), (5, 5, 5), "float64", 1)


def test_no_pixels():
    for shape in ((0, 5, 3), (5, 0, 3)):
        assert image_lattice(np.zeros(shape, np.uint8), (3, 3), (5, 5, 5), 2).num_vertices == 0
