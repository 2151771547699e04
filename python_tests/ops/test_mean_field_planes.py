"""The CPU mean field in float, which leaves out labels that matter nowhere, against float64."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import _C
from python_tests.ops import reference_crf
from python_tests.ops.crf_planes_cases import (
    SIZES,
    UNARIES,
    Crf,
    both,
    energies,
    image_lattice,
    picture,
    point_lattice,
    usual_kernels,
)

LABELS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 21, 23, 24, 40, 150, 256)
SYMMETRIC = 3


@pytest.fixture(scope="module", autouse=True)
def restore_isa():
    yield
    _C.set_isa(_C.available_isas()[-1])


def check(actual, expected, tolerance=5e-5):
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def check_inference(kind, labels, size, threads, iterations=5):
    height, width = SIZES[size]
    kernels = usual_kernels(picture(height, width), threads)
    single, double = both(energies(kind, labels, height, width), kernels, threads, width)
    check(single.inference(iterations), double.inference(iterations))


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("kind", UNARIES)
def test_any_labels_and_energies(kind, labels):
    check_inference(kind, labels, "tiles", threads=2)


@pytest.mark.parametrize("labels", [2, 5, 9, 21, 30])
@pytest.mark.parametrize("isa", _C.available_isas())
@pytest.mark.parametrize("size", SIZES)
def test_any_size_and_instruction_set(size, isa, labels):
    _C.set_isa(isa)
    for kind in ("random", "object"):
        check_inference(kind, labels, size, threads=3)


@settings(deadline=None, max_examples=80)
@given(
    kind=st.sampled_from(UNARIES),
    labels=st.integers(1, 50),
    size=st.tuples(st.integers(1, 40), st.integers(1, 70)),
    weights=st.tuples(st.floats(0, 10), st.floats(0, 10)),
    threads=st.integers(1, 5),
    isa=st.sampled_from(_C.available_isas()),
)
def test_anything_together(kind, labels, size, weights, threads, isa):
    _C.set_isa(isa)
    height, width = size
    kernels = usual_kernels(picture(height, width), threads, weights)
    single, double = both(energies(kind, labels, height, width), kernels, threads, width)
    # large weights amplify what is rounded
    check(single.inference(3), double.inference(3), 5e-5 * max(1, sum(weights)))


@pytest.mark.parametrize("labels", [2, 6, 21, 40])
@pytest.mark.parametrize("kind", ["random", "object"])
def test_threads(kind, labels):
    height, width = SIZES["partial tiles"]
    unary, image = energies(kind, labels, height, width), picture(height, width)
    results = []
    for threads in (1, 2, 3, 5):
        crf = Crf(unary, usual_kernels(image, threads), threads, width)
        results.append(crf.inference(5))
        again = Crf(unary, usual_kernels(image, threads), threads, width)
        for q in (crf.inference(5), again.inference(5)):
            np.testing.assert_array_equal(q, results[-1])
    for q in results[1:]:
        check(q, results[0], 1e-5)


@pytest.mark.parametrize("weights", [(3.0, 5.0), (-40.0, -20.0)])
@pytest.mark.parametrize("kind", ["object", "hard"])
@pytest.mark.parametrize("size", SIZES)
def test_slow_reference(size, kind, weights):
    """It knows no tiles and no planes."""
    height, width = min(SIZES[size][0], 17), SIZES[size][1]
    image, unary = picture(height, width), energies(kind, 12, height, width)
    y, x = np.indices((height, width)).reshape(2, -1, 1).astype(np.float32)
    positions, colours = np.hstack([x, y]), image.reshape(-1, 3).astype(np.float32)
    bilateral = np.hstack([positions / np.float32(30), colours / np.float32(12)])
    features = positions / np.float32(3), bilateral
    slow = [(f, w, "symmetric") for f, w in zip(features, weights, strict=True)]
    expected = reference_crf.MeanField(unary, slow).inference(2)
    for crf in both(unary, usual_kernels(image, 2, weights), 2, width):
        check(crf.inference(2), expected)


LATTICES = {}


def lattice_of(dims, points, threads):
    """Random features; kept, as most examples ask for the same."""
    key = dims, points, threads
    if key not in LATTICES:
        features = np.random.default_rng(dims).normal(size=(points, dims)) * 1.5
        LATTICES[key] = point_lattice(features, threads)
    return LATTICES[key]


@settings(deadline=None, max_examples=150)
@given(
    labels=st.sampled_from(LABELS[:-2]),
    kernels=st.lists(
        st.tuples(st.integers(1, 6), st.integers(0, 2), st.integers(0, 3), st.floats(-2, 2)),
        max_size=3,
    ),
    points=st.sampled_from([1, 15, 50]),
    threads=st.integers(1, 3),
    kind=st.sampled_from(["random", "hard", "uniform", "excluded"]),
)
def test_any_kernels(labels, kernels, points, threads, kind):
    random = np.random.default_rng(labels)
    threads = min(threads, -(-points // 16))
    given_kernels = []
    for dims, dimensions, normalization, weight in kernels:
        values = 1 if dimensions == 0 else random.normal(size=(labels,) * dimensions)
        scale = weight if dimensions < 2 else weight / max(1, labels) ** 0.5
        if normalization < 2:
            scale /= 4  # filters of ones give more than one
        given_kernels.append((lattice_of(dims, points, threads), values * scale, normalization))
    single, double = both(energies(kind, labels, 1, points), given_kernels, threads)
    check(single.inference(3), double.inference(3), 2e-4)
    q = double.start()
    check(single.step(q), double.step(q), 1e-4)


@pytest.mark.parametrize("labels", [2, 6, 9, 21, 40])
@pytest.mark.parametrize("kind", ["random", "object"])
def test_steps(kind, labels):
    height, width = SIZES["partial tiles"]
    unary = energies(kind, labels, height, width)
    kernels = usual_kernels(picture(height, width), 2)
    single, double = both(unary, kernels, 2, width)
    check(single.start(), double.start(), 1e-6)
    check(single.inference(0), double.start(), 1e-6)
    q = double.start()
    for _ in range(3):
        next_q = single.step(q)
        q = double.step(q)
        check(next_q, q)
        assert single.kl_divergence(q) == pytest.approx(double.kl_divergence(q), rel=1e-5)
    check(double.inference(3), q, 1e-12)
    check(single.inference(3), q)


def test_a_step_comes_first():
    """Nothing that only inference fills is read, whatever lay in its memory."""
    height, width = 8, 32 * 1024  # large buffers are kept, and used again as they are
    kernels = [(image_lattice(picture(height, width), (3, 3), (), 1), 3.0, SYMMETRIC)]
    unary = energies("random", 9, height, width)
    single, double = both(unary, kernels, 1, width)
    q = np.full(unary.shape, 1 / 9)
    expected = double.step(q)
    del single
    _C.release_memory()
    Crf(np.full((3, height * width), np.inf), [], 1, width)  # its minima are infinite
    check(Crf(unary, kernels, 1, width).step(q), expected)


@pytest.mark.parametrize("labels", [9, 21, 40])
@pytest.mark.parametrize("weight", [-3.0, -10.0, -40.0, 20.0, 60.0, 150.0])
@pytest.mark.parametrize("scale", [0.2, 1, 4])
def test_negative_and_large_messages(scale, weight, labels):
    """Messages below 0 to cold labels, and sums of messages that float's exp cannot hold."""
    height, width = SIZES["tiles"]
    kernels = usual_kernels(picture(height, width), 2, (weight, weight / 2))
    for kind in ("confident", "hard"):
        unary = energies(kind, labels, height, width) * np.float32(scale)
        single, double = both(unary, kernels, 2, width)
        for iterations in (1, 2, 3):
            check(single.inference(iterations), double.inference(iterations))


@pytest.mark.parametrize("kind", ["random", "hard", "above", "excluded"])
def test_two_labels_with_one_value_a_vertex_or_two(kind):
    """Potts kernels need one; a matrix with the same values does the same with two."""
    height, width = SIZES["partial tiles"]
    unary, image = energies(kind, 2, height, width), picture(height, width)
    kernels = usual_kernels(image, 2)
    as_matrices = [(lattice, -w * np.eye(2), how) for lattice, w, how in kernels]
    expected = both(unary, kernels, 2, width)[1].inference(5)
    for given_kernels in (kernels, as_matrices, [kernels[0], as_matrices[1]]):
        crf = Crf(unary, given_kernels, 2, width)
        check(crf.inference(5), expected)
        check(crf.step(crf.inference(4)), expected)  # both ways through one object
        check(crf.inference(5), expected)


@pytest.mark.parametrize("labels", [2, 8, 9, 21, 30])
def test_another_unary(labels):
    """Nothing of the one before is left, though its labels had other places."""
    height, width = SIZES["partial tiles"]
    kernels = usual_kernels(picture(height, width), 2)
    crf = None
    for seed, kind in enumerate(["object", "random", "confident", "object"]):
        unary = energies(kind, labels, height, width, seed)
        new = Crf(unary, kernels, 2, width)
        crf = crf or new
        crf.set_unary(unary)
        np.testing.assert_array_equal(crf.inference(4), new.inference(4))
        q = new.start()
        np.testing.assert_array_equal(crf.step(q), new.step(q))
