"""Arguments that once led astray, each the least example of what made-up ones found."""

import numpy as np
import pytest
import torch

import deeplab_native
from deeplab_native import CRFParams, MeanField, layers, metrics
from deeplab_native.ops.pairwise_features import image_features, position_features
from deeplab_native.pydensecrf import densecrf, utils
from python_tests.ops import reference

MAP, FILTER = torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3)
# torch's convolution wraps around at 2^62 and returns a map; the dispatcher refuses 2^63
LARGE = [2**31, 2**62, 2**63, 10**30]


@pytest.mark.parametrize("name", ["stride", "padding", "rate"])
@pytest.mark.parametrize("value", LARGE)
@pytest.mark.parametrize("as_pair", [False, True])
def test_integers_that_no_map_has(name, value, as_pair):
    given = {name: (1, value) if as_pair else value}
    for algorithm in ("auto", "aten", "im2col", "space_to_batch"):
        with pytest.raises(ValueError, match=f"^{name}: expected at most 2147483647"):
            deeplab_native.atrous_conv2d(MAP, FILTER, algorithm=algorithm, **given)
    with pytest.raises(ValueError, match=f"^{name}: expected at most"):
        deeplab_native.atrous_im2col(MAP, 3, **given)


def test_integers_that_no_op_takes():
    with pytest.raises(ValueError, match=r"^rates\[0\]: expected at most"):
        deeplab_native.aspp(MAP, [FILTER], None, [2**63])
    with pytest.raises(ValueError, match=r"^rate: expected at most"):
        deeplab_native.space_to_batch(MAP, 2**63)
    with pytest.raises(ValueError, match=r"^size: expected at most"):
        deeplab_native.upsample_unary(MAP, 2**63)
    with pytest.raises(ValueError, match=r"^padding: expected one that leaves at most"):
        deeplab_native.atrous_im2col(MAP, 1, padding=2**31 - 1)
    image = torch.zeros(1, 3, 5, 5, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"^iterations: expected at most"):
        deeplab_native.dense_crf(MAP, image, CRFParams(), iterations=2**63)


@pytest.mark.parametrize("rate", [2**31 - 1, 1000])
def test_a_rate_beyond_the_map(rate):
    found = deeplab_native.aspp(MAP, [FILTER], None, [rate])
    assert torch.equal(found, MAP)  # the centre tap alone
    pointwise = deeplab_native.atrous_conv2d(MAP, FILTER[..., :1, :1], rate=rate)
    assert torch.equal(pointwise, MAP)


SPARSE = {
    "atrous_conv2d": ("input", lambda x: deeplab_native.atrous_conv2d(x, FILTER)),
    "im2col": ("input", lambda x: deeplab_native.atrous_conv2d(x, FILTER, algorithm="im2col")),
    "weight": ("weight", lambda x: deeplab_native.atrous_conv2d(MAP, x, padding=2)),
    "space_to_batch": ("input", lambda x: deeplab_native.space_to_batch(x, 2)),
    "aspp": ("input", lambda x: deeplab_native.aspp(x, [FILTER], None, [1])),
    "upsample_unary": ("scores", lambda x: deeplab_native.upsample_unary(x, 9)),
    "pool": ("input", lambda x: layers.atrous_max_pool2d(x, 2)),
}


@pytest.mark.parametrize("case", SPARSE)
def test_sparse_tensors(case):
    name, call = SPARSE[case]
    with pytest.raises(TypeError, match=f"^{name}: expected a dense tensor"):
        call(MAP.to_sparse())


@pytest.mark.parametrize("algorithm", ["auto", "aten", "im2col", "space_to_batch"])
def test_gradient_of_the_bias_alone(algorithm):
    """Of a layer whose weight is frozen: the padding is what makes the input large enough."""
    bias = torch.zeros(1, requires_grad=True)
    input, weight = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 2)
    out = deeplab_native.atrous_conv2d(input, weight, bias, padding=(0, 1), algorithm=algorithm)
    expected = reference.atrous_conv2d(input, weight, bias, (1, 1), (0, 1), (1, 1))
    assert torch.equal(out, expected)
    (grad,) = torch.autograd.grad(out.sum(), bias)
    assert grad.item() == 2


def test_gradient_of_features_that_no_image_has():
    """It was what the memory held before."""
    torch.full((3000, 7), torch.nan)  # which is free again, and likely to be taken
    features = torch.randn(3000, 7, requires_grad=True)
    out = deeplab_native.gauss_transform(torch.ones(0, 3000, 1), features)
    (grad,) = torch.autograd.grad(out.sum(), features)
    assert torch.equal(grad, torch.zeros(3000, 7))


def test_views_whose_signs_are_yet_to_change():
    """`z.conj().imag` notes that its memory has the other sign; native code looked there."""
    unary = torch.rand(1, 3, 4, 4)
    image = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    expected = MeanField.from_image(unary, image, CRFParams())
    found = MeanField.from_image(torch._neg_view(-unary), image, CRFParams())
    q = expected.inference(2)
    assert torch.equal(found.inference(2), q)
    assert torch.equal(found.step(torch._neg_view(-q)), expected.step(q))
    assert torch.equal(found.kl_divergence(torch._neg_view(-q)), expected.kl_divergence(q))
    values = torch.rand(2, 16)
    features = torch.rand(16, 2)
    kernels = [[(f, 3.0)] for f in (features, torch._neg_view(-features))]
    one, other = (MeanField(values, kernel).inference(2) for kernel in kernels)
    assert torch.equal(one, other)


def test_tensors_of_a_device_without_memory():
    """It was a crash."""
    unary = torch.ones(1, 3, 4, device="meta")
    image = torch.zeros(1, 3, 2, 2, dtype=torch.uint8, device="meta")
    with pytest.raises(ValueError, match=r"^unary: expected a tensor on the CPU or a CUDA device"):
        MeanField(unary, [])
    with pytest.raises(ValueError, match=r"^unary: expected a tensor on the CPU or a CUDA device"):
        MeanField.from_image(unary.view(1, 3, 2, 2), image, CRFParams())
    with pytest.raises(ValueError, match=r"^image: expected a tensor on the CPU"):
        image_features(image, 3, 10)
    with pytest.raises(ValueError, match=r"^device: expected a tensor on the CPU"):
        position_features(2, 2, 3, device="meta")


def test_zeros_without_memory():
    """What forward mode takes for zeros has no address: it was a crash."""
    zeros = torch._efficientzerotensor((1, 3, 4, 4))
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    crf = MeanField.from_image(zeros, image, CRFParams())
    expected = MeanField.from_image(torch.zeros(1, 3, 4, 4), image, CRFParams())
    assert torch.equal(crf.inference(1), expected.inference(1))
    assert torch.equal(crf.step(zeros), expected.step(torch.zeros(1, 3, 4, 4)))


def test_pools_smaller_than_their_window():
    for pool in (layers.atrous_max_pool2d, layers.atrous_avg_pool2d):
        with pytest.raises(ValueError, match=r"^input: .* no output pixel is left"):
            pool(MAP, 3, 1, rate=3)
        with pytest.raises(TypeError, match=r"^input: expected floating point"):
            pool(MAP.long(), 3)


def test_layers_name_their_own_arguments():
    with pytest.raises(TypeError, match=r"^rates: "):
        layers.ASPP(2, 3, rates=True)
    with pytest.raises(ValueError, match=r"^scores: expected 3 or 4 or 5 dimensions"):
        layers.DenseCRF(CRFParams())(torch.ones(3), torch.ones(3, 4, 4))
    with pytest.raises(ValueError, match=r"^scores: expected at least one label"):
        layers.DenseCRF(CRFParams())(torch.ones(0, 4, 4), torch.ones(3, 4, 4))

    with pytest.raises(ValueError, match=r"^scores: expected at least one label and one pixel"):
        layers.ConstrainToBoundaryLoss()(torch.ones(1, 3, 4, 4), torch.ones(1, 0, 4, 4))
    with pytest.raises(TypeError, match=r"^input: expected a torch.Tensor, got list"):
        layers.ASPP(1, 1, (1,))([[[[1.0]]]])
    with pytest.raises(ValueError, match=r"^image: expected 3 dimensions"):
        deeplab_native.dense_crf(torch.ones(2, 4, 4), torch.ones(4, 4), CRFParams())


def test_no_image_has_a_gradient_too():
    unary = torch.ones(0, 2, 4, 4, requires_grad=True)
    q = deeplab_native.dense_crf(unary, torch.ones(0, 3, 4, 4), CRFParams(), sizes=[])
    (grad,) = torch.autograd.grad(q.sum(), unary)
    assert grad.shape == unary.shape


def test_figures_of_no_values():
    labels = torch.zeros(2, 2, dtype=torch.long)
    with pytest.raises(TypeError, match=r"^ignore_index: "):
        metrics.confusion_matrix(labels, labels, 2, ignore_index=None)
    with pytest.raises(TypeError, match=r"^classes: "):
        metrics.segmentation_scores(labels, True)
    for call in (metrics.segmentation_scores, metrics.trimap_distance):
        with pytest.raises(
            ValueError, match=r"^(counts|labels): expected a dense tensor of values"
        ):
            call(labels.to("meta"))


def test_a_confidence_that_is_no_number():
    picture, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool)
    with pytest.raises(TypeError, match=r"^`confidence`: expected a number"):
        deeplab_native.refine(picture, mask, confidence=None)


@pytest.mark.parametrize("normalization", ["none", "before", "after", "symmetric"])
def test_weights_beyond_reason(normalization):
    """Normalised after filtering, 1e19 gave NaN."""
    unary, features = torch.rand(3, 5), torch.zeros(5, 1)
    for sign in (1, -1):
        q = deeplab_native.mean_field(unary, [(features, sign * 1e18, normalization)], iterations=3)
        torch.testing.assert_close(q.sum(0), torch.ones(5))
        with pytest.raises(
            ValueError, match=r"^kernels\[0\].compatibility: expected at most 1e\+18"
        ):
            deeplab_native.mean_field(unary, [(features, sign * 1e19, normalization)])
        crf = densecrf.DenseCRF(5, 3)
        crf.addPairwiseEnergy(np.zeros((1, 5), np.float32), sign * 1e18)
        with pytest.raises(ValueError, match=r"^compat: expected at most 1e\+18"):
            crf.addPairwiseEnergy(np.zeros((1, 5), np.float32), sign * 1e19)
        assert np.isfinite(crf.inference(3)).all()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sm", lambda: utils.unary_from_softmax(np.ones((2, 3), complex))),
        ("sm", lambda: utils.unary_from_softmax(np.ones((2, 3), object))),
        ("scale", lambda: utils.unary_from_softmax(np.ones((2, 3)), 1j)),
        ("gt_prob", lambda: utils.unary_from_labels(np.ones(3, int), 2, None)),
        ("shape", lambda: utils.create_pairwise_gaussian((3,), None)),
        ("chdim", lambda: utils.create_pairwise_bilateral((3,), 3, np.ones((2, 3)), None)),
    ],
)
def test_what_is_no_number_for_the_drop_in(name, call):
    with pytest.raises(TypeError, match=f"^{name}: "):
        call()
