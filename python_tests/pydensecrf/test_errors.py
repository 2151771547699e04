"""deeplab_native.pydensecrf: what is converted, and what is refused before anything changes."""

import time

import numpy as np
import pytest

from deeplab_native import _memory
from deeplab_native.pydensecrf import densecrf as dcrf
from python_tests.pydensecrf.pydensecrf_cases import Problem, problem

RANDOM = np.random.default_rng(0)
UNARY = RANDOM.exponential(1, (2, 12)).astype(np.float32)
FEATURES = RANDOM.normal(size=(3, 12)).astype(np.float32)
IMAGE = RANDOM.integers(0, 256, (3, 4, 3), dtype=np.uint8)
MATRIX = np.float32([[0, 1], [1, 0]])


class Tensor:
    """What a tensor is to NumPy: an array, but no buffer."""

    def __array__(self, dtype=None, copy=None):
        return UNARY


def with_nan(array, value=np.nan):
    out = array.copy()
    out.flat[7] = value
    return out


def read_only(array):
    out = array.copy()
    out.flags.writeable = False
    return out


def strided(array):
    """Every second value of a larger array, backwards, along each axis."""
    larger = np.repeat(array, 2, axis=-1)
    larger[..., 1::2] = 99
    out = np.repeat(larger[..., ::2][..., ::-1], 2, axis=0)[::2][..., ::-1]
    assert not out.flags.c_contiguous
    return out


def unaligned(array):
    out = np.ndarray(array.shape, array.dtype, np.empty(array.nbytes + 1, np.uint8).data, 1)
    out[:] = array
    return out


CONVERSIONS = {
    "float64": lambda a: a.astype(np.float64) if a.dtype == np.float32 else a,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "strides": strided,
    "unaligned": unaligned,
    "read-only": read_only,
    "buffer": memoryview,
}


@pytest.mark.parametrize("convert", CONVERSIONS.values(), ids=CONVERSIONS)
def test_converted(convert):
    """The same bits as of contiguous float32, and the array as it was."""

    def inference(of):
        crf = dcrf.DenseCRF2D(4, 3, 2)
        crf.setUnaryEnergy(of(UNARY))
        crf.addPairwiseEnergy(of(FEATURES), 3)
        crf.addPairwiseBilateral(3, 20, of(IMAGE), 5)
        if convert is not CONVERSIONS["float64"]:  # pydensecrf's tests expect an error
            crf.addPairwiseGaussian(3, of(MATRIX))
        else:
            crf.addPairwiseGaussian(3, MATRIX)
        return np.array(crf.inference(3))

    expected = inference(lambda a: a)
    given = []
    np.testing.assert_array_equal(
        inference(lambda a: given.append((a, convert(a))) or given[-1][1]), expected
    )
    for original, converted in given:
        np.testing.assert_array_equal(original, np.asarray(converted))


def test_half_precision_and_whole_numbers():
    crf = dcrf.DenseCRF(12.0, np.int64(2))
    crf.setUnaryEnergy(UNARY.astype(np.float16))
    crf.addPairwiseEnergy(FEATURES.astype(np.float16), np.float64(3), kernel=2, normalization=3.0)
    rounded = [(FEATURES.astype(np.float16).astype(np.float32), 3, "symmetric")]
    expected = Problem(UNARY.astype(np.float16).astype(np.float32), rounded, 2).crf(dcrf)
    np.testing.assert_array_equal(crf.inference(2.0), expected.inference(2))


def gaussian(crf, *args, **kwargs):
    crf.addPairwiseGaussian(*args, **kwargs)


BAD = [
    # unary
    (lambda c: c.setUnaryEnergy(None), TypeError, "u: expected a numpy.ndarray, got NoneType"),
    (lambda c: c.setUnaryEnergy(UNARY.tolist()), TypeError, "u: expected a numpy.*, got list"),
    (lambda c: c.setUnaryEnergy(Tensor()), TypeError, "u: expected a numpy.ndarray, got Tensor"),
    (lambda c: c.setUnaryEnergy(UNARY.ravel()), ValueError, r"u: .*2 dimensions.* \(24,\)"),
    (lambda c: c.setUnaryEnergy(UNARY.T), ValueError, r"u: .*need \(2, 12\), got \(12, 2\)"),
    (lambda c: c.setUnaryEnergy(UNARY.astype(int)), ValueError, "u: .*float32, got int64"),
    (lambda c: c.setUnaryEnergy(UNARY * 1j), ValueError, "u: .*float32, got complex64"),
    (lambda c: c.setUnaryEnergy(with_nan(UNARY)), ValueError, "u: .*got NaN .*0, point 7"),
    (lambda c: c.setUnaryEnergy(with_nan(UNARY, -np.inf)), ValueError, "u: .*got -inf"),
    (lambda c: c.setUnaryEnergy(UNARY / 0), ValueError, r"u: .*\+inf for all labels of point 0"),
    (lambda c: c.setUnaryEnergy(UNARY, UNARY), ValueError, r"f: .*need \(12, N\) for u of"),
    (
        lambda c: c.setUnaryEnergy(UNARY, UNARY.T),
        ValueError,
        r"u @ f: .*need \(2, 12\), got \(2, 2",
    ),
    (lambda c: c.setUnaryEnergy(UNARY, np.eye(12) * 1e39), ValueError, "u @ f: .*inf|NaN"),
    (lambda c: c.setUnary(UNARY), TypeError, "u: expected a ConstUnary or Logistic.*got ndarray"),
    (lambda c: c.setUnary(None), TypeError, "u: expected a ConstUnary"),
    (lambda c: c.setUnary(dcrf.Unary()), TypeError, "u: expected a ConstUnary"),
    (lambda c: c.setUnary(dcrf.ConstUnary(UNARY[:1])), ValueError, r"u: .*need \(2, 12\)"),
    (lambda c: c.setUnary(dcrf.ConstUnary(with_nan(UNARY))), ValueError, "u: .*got NaN"),
    (lambda c: dcrf.LogisticUnary(UNARY, UNARY), ValueError, r"f: .*need \(12, N\) for L of"),
    # features
    (lambda c: c.addPairwiseEnergy(FEATURES[:, 1:], 3), ValueError, r"features: .*\(\?, 12\)"),
    (lambda c: c.addPairwiseEnergy(FEATURES[0], 3), ValueError, r"features: .*2 dimensions"),
    (lambda c: c.addPairwiseEnergy(FEATURES[:0], 3), ValueError, "features: expected 1 to 64.* 0"),
    (lambda c: c.addPairwiseEnergy(np.zeros((65, 12)), 3), ValueError, "features: .*64.*got 65"),
    (lambda c: c.addPairwiseEnergy(with_nan(FEATURES), 3), ValueError, "features: .*NaN"),
    (
        lambda c: c.addPairwiseEnergy(FEATURES * 1e30, 3),
        ValueError,
        r"features: .*too large.*reaches \d\.?\d*e\+\d+, at most 4.19e\+06",
    ),
    (
        lambda c: c.addPairwiseEnergy(FEATURES.astype(float) * 1e300, 3),
        ValueError,
        "features: .*infinite",
    ),
    (lambda c: c.addPairwiseEnergy(FEATURES > 0, 3), ValueError, "features: .*got bool"),
    # images
    (lambda c: c.addPairwiseBilateral(3, 3, None, 3), TypeError, "rgbim: .*got NoneType"),
    (lambda c: c.addPairwiseBilateral(3, 3, IMAGE / 255, 3), ValueError, "rgbim: .*uint8.*float64"),
    (
        lambda c: c.addPairwiseBilateral(3, 3, IMAGE[:2], 3),
        ValueError,
        r"rgbim: .*\(3, 4, 3\), got",
    ),
    (lambda c: c.addPairwiseBilateral(3, 3, IMAGE.swapaxes(0, 1), 3), ValueError, "rgbim: .*need"),
    (lambda c: c.addPairwiseBilateral(3, 3, IMAGE[..., :1], 3), ValueError, "create_pairwise_bil"),
    # sigmas
    (lambda c: gaussian(c, 0, 3), ValueError, "sxy: expected positive numbers.*got 0"),
    (lambda c: gaussian(c, (3, -1), 3), ValueError, r"sxy: expected positive.*got \(3, -1\)"),
    (lambda c: gaussian(c, np.nan, 3), ValueError, "sxy: expected positive.*got nan"),
    (lambda c: gaussian(c, 1e-45, 3), ValueError, "sxy: expected positive"),
    (lambda c: gaussian(c, 1e-8, 3), ValueError, r"pixels / sxy: .*too large.*larger sigmas"),
    (lambda c: gaussian(c, (3, 3, 3), 3), ValueError, r"sxy: expected 2 numbers \(x, y\), got 3"),
    (lambda c: gaussian(c, (3,), 3), ValueError, "sxy: expected 2 numbers"),
    (lambda c: gaussian(c, "33", 3), TypeError, "sxy: expected a number or 2 of them, got '33'"),
    (lambda c: gaussian(c, ("3", 3), 3), TypeError, "sxy: expected numbers"),
    (lambda c: gaussian(c, None, 3), TypeError, "sxy: expected a number"),
    (lambda c: c.addPairwiseBilateral(3, 0, IMAGE, 3), ValueError, "srgb: expected positive"),
    (lambda c: c.addPairwiseBilateral(3, (1, 2), IMAGE, 3), ValueError, "srgb: expected 3 numbers"),
    (lambda c: c.addPairwiseBilateral(3, 1e-9, IMAGE, 3), ValueError, r"rgbim / \(sxy, srgb\): "),
    # compatibilities
    (lambda c: gaussian(c, 3, [1, 2]), TypeError, "compat: expected a numpy.ndarray, got list"),
    (lambda c: gaussian(c, 3, None), TypeError, "compat: .*got NoneType"),
    (lambda c: gaussian(c, 3, 3j), TypeError, "compat: expected a real number, got 3j"),
    (lambda c: gaussian(c, 3, np.nan), ValueError, "compat: expected finite numbers"),
    (lambda c: gaussian(c, 3, MATRIX / 0), ValueError, "compat: expected finite numbers"),
    (lambda c: gaussian(c, 3, np.ones(2)), ValueError, "compat: .*float32, got float64; pass"),
    (lambda c: gaussian(c, 3, np.float32([1])), ValueError, r"compat: .*need \(2,\).*got \(1,\)"),
    (lambda c: gaussian(c, 3, MATRIX[:1]), ValueError, r"compat: .*need \(2, 2\).*got \(1, 2\)"),
    (lambda c: gaussian(c, 3, MATRIX[None]), ValueError, "compat: .* an array of 3 dimensions"),
    (lambda c: gaussian(c, 3, np.array(3.0)), ValueError, "compat: .* an array of 0 dimensions"),
    # kinds and counts
    (lambda c: gaussian(c, 3, 3, kernel=3), ValueError, r"kernel: .*FULL_KERNEL \(2\); got 3"),
    (lambda c: gaussian(c, 3, 3, kernel="DIAG"), TypeError, "kernel: expected an integer, got 'D"),
    (lambda c: gaussian(c, 3, 3, normalization=-1), ValueError, r"normalization: .*got -1"),
    (lambda c: gaussian(c, 3, 3, normalization=None), TypeError, "normalization: .*got None"),
    (lambda c: c.inference(-1), ValueError, "niter: expected at least 0, got -1"),
    (lambda c: c.inference(2.7), TypeError, "niter: expected an integer, got 2.7"),
    (lambda c: c.inference("3"), TypeError, "niter: expected an integer, got '3'"),
    (lambda c: c.inference(2**40), OverflowError, "niter: expected at most 2147483647"),
    (lambda c: dcrf.DenseCRF(0, 2), ValueError, "nvar: expected at least 1, got 0"),
    (lambda c: dcrf.DenseCRF(4, 0), ValueError, "nlabels: expected at least 1, got 0"),
    (lambda c: dcrf.DenseCRF(4.5, 2), TypeError, "nvar: expected an integer, got 4.5"),
    (lambda c: dcrf.DenseCRF(2**31, 2), OverflowError, "nvar: expected at most"),
    (lambda c: dcrf.DenseCRF2D(-3, -4, 2), ValueError, "w: expected at least 1, got -3"),
    (lambda c: dcrf.DenseCRF2D(2**16, 2**16, 2), OverflowError, r"w \* h: expected at most"),
    (lambda c: dcrf.DenseCRF2D(30000, 30000, 2).addPairwiseGaussian(3, 3), ValueError, "at most 7"),
]


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_refused_before_anything_changes(call, error, message):
    crf = dcrf.DenseCRF2D(4, 3, 2)
    crf.setUnaryEnergy(UNARY)
    crf.addPairwiseGaussian(3, 3)
    before = np.array(crf.inference(3))
    with pytest.raises(error, match=message):
        call(crf)
    np.testing.assert_array_equal(crf.inference(3), before)


def test_infinite_energies_exclude_labels():
    given = problem(4, 30, [2, 5], 0, "symmetric", 0)
    u = given.unary.copy()
    u[0, :20] = np.inf
    u[1:3, 5] = np.inf
    q = np.array(given._replace(unary=u).crf(dcrf).inference(5))
    high = np.where(np.isinf(u), np.float32(1e4), u)
    expected = given._replace(unary=high).crf(dcrf)
    np.testing.assert_allclose(q, expected.inference(5), rtol=0, atol=1e-6)
    assert (q[np.isinf(u)] == 0).all() and q[3, 5] == pytest.approx(1)
    crf = given._replace(unary=u).crf(dcrf)
    assert crf.klDivergence(crf.inference(5)) == pytest.approx(
        expected.klDivergence(expected.inference(5)), rel=1e-5
    )


def test_energies_of_any_size():
    u = np.float32([[3e38, -3e38, 0, 1e20], [-3e38, 3e38, 3e38, -1e20]])
    crf = dcrf.DenseCRF(4, 2)
    crf.setUnaryEnergy(u)
    crf.addPairwiseEnergy(np.zeros((1, 4), np.float32), 3)
    for iterations in (0, 3):
        np.testing.assert_array_equal(crf.inference(iterations), [[0, 1, 1, 0], [1, 0, 0, 1]])


@pytest.mark.parametrize("bilateral", [False, True])
def test_tiny_sigmas_on_a_4k_image(bilateral):
    """Past the lattice's integers: an error, and soon."""
    start = time.process_time()
    crf = dcrf.DenseCRF2D(3840, 2160, 2)
    with pytest.raises(
        ValueError, match=r" / .*sxy.*: .* too large for the lattice.*larger sigmas"
    ):
        if bilateral:
            crf.addPairwiseBilateral(1e-3, 1e-3, np.zeros((2160, 3840, 3), np.uint8), 3)
        else:
            crf.addPairwiseGaussian(1e-3, 3)
    assert time.process_time() - start < 5


def test_memory(monkeypatch, tmp_path):
    """What the machine, or a container's limit, has not."""
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    monkeypatch.setattr(_memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(_memory, "_LIMITS", (limit,))
    monkeypatch.setattr(_memory._C, "kept_memory", lambda: 0)
    crf = dcrf.DenseCRF2D(20000, 10000, 300)  # Q has 240 GB
    for available, most in [
        (3_000_000, "max"),
        (None, 3_072_000_000),
        (900_000_000, 3_072_000_000),
    ]:
        meminfo.unlink(missing_ok=True)
        if available is not None:
            meminfo.write_text(f"MemTotal: 9 kB\nMemAvailable: {available} kB\nSwapFree: 0 kB\n")
        limit.write_text(f"{most}\n")
        for start in (lambda: crf.inference(1), crf.startInference):
            with pytest.raises(
                MemoryError, match=r"Q of 300 labels .* 480.0 GB, and 3.1 GB are free"
            ):
                start()
        with pytest.raises(
            MemoryError, match=r"a kernel of 200000000 .* 4.8 GB, and 3.1 GB are free"
        ):
            crf.addPairwiseGaussian(3, 3)
    u = np.broadcast_to(np.float32(0), (300, 20000 * 10000))  # no memory of its own
    with pytest.raises(MemoryError, match=r"u of 300 labels .* 240.0 GB"):
        crf.setUnaryEnergy(u)
