"""deeplab_native.pydensecrf beside pydensecrf itself, where that is installed."""

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native.pydensecrf import densecrf as ours
from deeplab_native.pydensecrf import eigen, utils
from python_tests.pydensecrf.pydensecrf_cases import RECORDED, problem, problems, recorded_crf

theirs = pytest.importorskip("pydensecrf.densecrf")
their_utils = pytest.importorskip("pydensecrf.utils")
their_eigen = pytest.importorskip("pydensecrf.eigen")


@pytest.fixture(autouse=True)
def default_threads():
    yield
    ours.set_num_threads(None)


def test_names():
    for mine, original in [(ours, theirs), (utils, their_utils), (eigen, their_eigen)]:
        public = {name for name in vars(original) if not name.startswith("_")}
        assert public - set(vars(mine)) <= {"Number", "np", "warning"}  # their own imports
    for kind in ("DenseCRF", "DenseCRF2D"):
        methods = {name for name in dir(getattr(theirs, kind)) if not name.startswith("_")}
        assert methods <= set(dir(getattr(ours, kind)))
    for kind in ("NormalizationType", "KernelType"):
        original = [(m.name, int(m)) for m in getattr(theirs, kind)]
        assert [(m.name, int(m)) for m in getattr(ours, kind)] == original


@settings(deadline=None, max_examples=100)
@given(problems, st.integers(1, 3))
def test_small_problems(given, threads):
    ours.set_num_threads(threads)
    given = problem(**given)
    crf, original = given.crf(ours), given.crf(theirs)
    q, expected = crf.inference(given.iterations), original.inference(given.iterations)
    np.testing.assert_allclose(q, expected, rtol=0, atol=1e-4)
    q, expected = crf.startInference(), original.startInference()
    for _ in range(given.iterations):
        crf.stepInference(*q)
        original.stepInference(*expected)
    assert [np.shape(m) for m in q] == [np.shape(m) for m in expected]
    np.testing.assert_allclose(q[0], expected[0], rtol=0, atol=1e-4)
    kl = original.klDivergence(expected[0])
    assert crf.klDivergence(q[0]) == pytest.approx(kl, rel=1e-4, abs=2e-3)
    kl = original.klDivergence(their_eigen.matrixXf(given.unary))
    assert crf.klDivergence(eigen.matrixXf(given.unary)) == pytest.approx(kl, rel=1e-4, abs=2e-3)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("folder", "case"), RECORDED)
def test_images(folder, case, threads):
    with np.load(folder / case["file"]) as data:
        image, unary = data["image"], data["unary"]
    ours.set_num_threads(threads)
    q, expected = (
        np.array(recorded_crf(dcrf, case, image, unary).inference(case["iterations"]))
        for dcrf in (ours, theirs)
    )
    error = np.abs(q - expected)
    assert error.mean() <= 1e-6 and error.max() <= 2e-2
    assert (q.argmax(0) != expected.argmax(0)).mean() <= 1e-4


def test_no_unary():
    for iterations in (0, 2):
        q = []
        for dcrf in (ours, theirs):
            crf = dcrf.DenseCRF(9, 3)
            crf.addPairwiseEnergy(np.arange(9, dtype=np.float32)[None], 3)
            q.append(np.array(crf.inference(iterations)))
            Q, tmp1, tmp2 = crf.startInference()
            q.append(np.array(Q))
            crf.stepInference(Q, tmp1, tmp2)
            q.append(np.array(Q))
        for mine, original in zip(q[:3], q[3:], strict=True):
            np.testing.assert_allclose(mine, original, rtol=0, atol=1e-6)


def test_infinite_energies():
    given = problem(4, 30, [2, 5], 0, "symmetric", 0)
    given.unary[0, :20] = np.inf
    given.unary[1:3, 5] = np.inf
    q, expected = (np.array(given.crf(dcrf).inference(5)) for dcrf in (ours, theirs))
    np.testing.assert_allclose(q, expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    number=st.sampled_from([float, np.float32, np.float64]),
    one_for_all=st.booleans(),
)
def test_utils_bit_by_bit(seed, dtype, shape, number, one_for_all):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(4), shape).astype(dtype)
    p = np.moveaxis(p, -1, 0)
    labels = random.integers(0, 4, shape)
    gt_prob = float(random.uniform(0.1, 0.9))
    sdims = [number(s) for s in random.uniform(0.1, 9, len(shape))]
    schan = [number(s) for s in random.uniform(0.1, 9, 3)]
    schan = schan[0] if one_for_all else schan
    image = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
    calls = [
        ("unary_from_labels", labels, 3, gt_prob),
        ("unary_from_labels", labels, 4, gt_prob, False),
        ("unary_from_softmax", p),
        ("unary_from_softmax", p, number(gt_prob)),
        ("unary_from_softmax", p, None, None),
        ("unary_from_softmax", p, gt_prob, 0.3),
        ("compute_unary", labels, 3),
        ("softmax_to_unary", p),
        ("softmax_to_unary", p, gt_prob),
        ("create_pairwise_gaussian", sdims, shape),
        ("create_pairwise_bilateral", sdims, schan, image, len(shape)),
        ("create_pairwise_bilateral", sdims, sdims[:1], image[..., 0]),
        ("create_pairwise_bilateral", sdims, schan, np.moveaxis(image, -1, 0) / 7, 0),
    ]
    for name, *arguments in calls:
        mine = getattr(utils, name)(*arguments)
        original = getattr(their_utils, name)(*arguments)
        np.testing.assert_array_equal(mine, original, err_msg=name)
        assert mine.dtype == original.dtype == np.float32


U, F, IMAGE = np.ones((2, 12), np.float32), np.ones((3, 12), np.float32), np.ones((3, 4, 3), "u1")
ERRORS = {
    "unary list": lambda m: m.DenseCRF2D(4, 3, 2).setUnaryEnergy(U.tolist()),
    "unary shape": lambda m: m.DenseCRF2D(4, 3, 2).setUnaryEnergy(U[:, :5].copy()),
    "unary dimensions": lambda m: m.DenseCRF2D(4, 3, 2).setUnaryEnergy(U.ravel()),
    "unary integers": lambda m: m.DenseCRF2D(4, 3, 2).setUnaryEnergy(U.astype(int)),
    "unary object": lambda m: m.DenseCRF2D(4, 3, 2).setUnary(U),
    "features shape": lambda m: m.DenseCRF(11, 2).addPairwiseEnergy(F, 3),
    "features None": lambda m: m.DenseCRF(12, 2).addPairwiseEnergy(None, 3),
    "float image": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseBilateral(3, 3, IMAGE / 255, 3),
    "image shape": lambda m: m.DenseCRF2D(3, 4, 2).addPairwiseBilateral(3, 3, IMAGE, 3),
    "grey image": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseBilateral(
        3, 3, IMAGE[..., 0].copy(), 3
    ),
    "compat list": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseGaussian(3, [1.0, 2.0]),
    "compat float64": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseGaussian(3, np.ones(2)),
    "compat 3 dimensions": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseGaussian(3, U[None]),
    "compat complex": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseGaussian(3, 3j),
    "sigma text": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseGaussian("ab", 3),
    "kernel text": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseGaussian(3, 3, "DIAG_KERNEL"),
    "normalization None": lambda m: m.DenseCRF2D(4, 3, 2).addPairwiseGaussian(3, 3, 1, None),
    "iterations": lambda m: m.DenseCRF(12, 2).inference("5"),
    "size": lambda m: m.DenseCRF(2**40, 2),
    "step of an array": lambda m: m.DenseCRF(12, 2).stepInference(U, U, U),
    "KL of an array": lambda m: m.DenseCRF(12, 2).klDivergence(U),
}


@pytest.mark.parametrize("call", ERRORS.values(), ids=ERRORS)
def test_types_of_errors(call):
    with pytest.raises(Exception) as original:
        call(theirs)
    with pytest.raises(Exception) as mine:
        call(ours)
    assert mine.type is original.type
