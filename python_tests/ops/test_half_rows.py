"""`precision="half"`: rows of lattices in float16 on CUDA, against exact updates in float64.

A row of sums of marginals is rounded once by the splat and once by each blur of two axes: 3 times
for positions, 4 times for positions and colours. Rows are sums of what is not negative, so what is
sliced is wrong by 4 2^-11 of itself at most (and 2^-25 / half_scale, below that). With EPS, a
little more, the energies of an update are wrong by EPS sum_m |w_m| F_m[l].
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C, _variants
from deeplab_native.ops._dense_crf_batch import features_of
from deeplab_native.ops._lattice_cuda import AS_GIVEN, half_scale
from deeplab_native.ops._mean_field_checks import NORMALIZATIONS
from deeplab_native.ops.crf_params import sigmas_of
from deeplab_native.ops.mean_field import mean_fields
from python_tests.ops.test_hot_labels import problem

EPS = 2**-9 * 1.02
LABELS = pytest.mark.parametrize("labels", ["hot", "all"])
HALF = {"precision": "half"}


def exact_field(unary, image, params, normalization="symmetric"):
    """In float64, whose rows are never rounded."""
    sigmas = sigmas_of(params, image.shape)
    weights = [unary.new_tensor(float(w), dtype=torch.float64) for w in (params.w2, params.w1)]
    numbers = [NORMALIZATIONS[normalization]] * 2
    fields = mean_fields(
        unary.double().flatten(2), features_of(image, sigmas), weights, numbers, None
    )
    return [field for _, field in fields], weights


def messages(unary, image, params, q, normalization="symmetric"):
    """sum_m |w_m| K_m q, (B, L, N)."""
    fields, weights = exact_field(unary, image, params, normalization)
    parts = [
        sum(abs(w) * f.filter(m, x, transposed=False) for m, w in enumerate(weights))
        for f, x in zip(fields, q.split(len(q) // len(fields)), strict=True)
    ]
    return torch.cat(parts)


@LABELS
@pytest.mark.parametrize("normalization", list(NORMALIZATIONS))
@pytest.mark.parametrize("count", [3, 9, 21])
def test_one_update(count, normalization, labels, cuda_device):
    unary, image, params = problem(count, 5, cuda_device)
    if normalization == "none":
        params = replace(params, w1=0.05, w2=0.1)
    how = {"iterations": 1, "normalization": normalization}
    expected = dn.dense_crf(unary.double(), image, params, **how).flatten(2)
    with _variants.use({"crf_labels": labels}):
        q = dn.dense_crf(unary, image, params, **how, **HALF).flatten(2).double()
        single = dn.dense_crf(unary, image, params, **how).flatten(2).double()
    start = (-unary.double()).softmax(1).flatten(2)
    wrong = EPS * messages(unary, image, params, start, normalization)
    # log Q_l = x_l - log Z, and log Z moves as much as the x that moves most
    bound = wrong + wrong.amax(1, keepdim=True) + 1e-4
    assert bound.max() < 0.1
    error = (q.log() - expected.log()).abs()
    assert (error <= bound)[expected > 1e-6].all()
    assert error.mean() > 5 * (single.log() - expected.log()).abs().mean()  # they are float16
    assert torch.allclose(q.sum(1), torch.ones(()).double().to(q.device), atol=1e-5)


@LABELS
def test_ten_iterations(labels, cuda_device):
    """Weights at which an update brings marginals nearer: |dQ| <= |dx| / 2 of a softmax."""
    unary, image, _ = problem(21, 4, cuda_device)
    params = dn.CRFParams(0.5, 30, 20, 0.5, 3)
    expected = dn.dense_crf(unary.double(), image, params)
    with _variants.use({"crf_labels": labels}):
        q = dn.dense_crf(unary, image, params, **HALF)
    ones = torch.ones_like(expected).flatten(2)
    gain = float(messages(unary, image, params, ones).max()) / 2  # of dQ, in an update
    assert gain < 0.9
    error = (q.double() - expected).abs()
    assert 1e-6 < error.max() <= EPS * gain / (1 - gain)


def test_steps_are_those_of_inference(cuda_device):
    unary, image, params = problem(21, 5, cuda_device)
    with _variants.use({"crf_labels": "all"}):
        crf = dn.MeanField.from_image(unary, image, params, **HALF)
        q = crf.start()
        for _ in range(3):
            q = crf.step(q)
        assert torch.equal(q, crf.inference(3))
        assert torch.equal(q, dn.dense_crf(unary, image, params, iterations=3, **HALF))
    single = dn.MeanField.from_image(unary, image, params)
    assert not torch.equal(crf.step(q), single.step(q))
    torch.testing.assert_close(crf.kl_divergence(q), single.kl_divergence(q), rtol=2e-3, atol=0)


@LABELS
def test_same_bits_twice_and_in_any_batch(labels, cuda_device):
    problems = [problem(21, s, cuda_device, batch=1) for s in (16, 6, 0.1)]
    unary, image = (torch.cat([p[i] for p in problems]) for i in (0, 1))
    how = {"iterations": 4, **HALF}
    with _variants.use({"crf_labels": labels}):
        q = dn.dense_crf(unary, image, problems[0][2], **how)
        assert torch.equal(q, dn.dense_crf(unary, image, problems[0][2], **how))
        for b, (own, picture, params) in enumerate(problems):
            assert torch.equal(q[b : b + 1], dn.dense_crf(own, picture, params, **how))


@pytest.mark.parametrize(("count", "dtype"), [(2, torch.float32), (21, torch.float64)])
def test_elsewhere_it_changes_nothing(count, dtype, cuda_device):
    unary, image, params = problem(count, 5, cuda_device)
    unary = unary.to(dtype)
    q = dn.dense_crf(unary, image, params, **HALF)
    assert torch.equal(q, dn.dense_crf(unary, image, params))


def test_on_the_cpu_it_changes_nothing():
    unary, image, params = problem(21, 5, "cpu")
    assert torch.equal(
        dn.dense_crf(unary, image, params, **HALF), dn.dense_crf(unary, image, params)
    )


def test_all_ways_to_the_same_update(cuda_device):
    """Lists, padded batches, and `scale`, whose updates are those of small and of whole images."""
    unary, image, params = problem(21, 5, cuda_device)
    how = {"iterations": 3, **HALF}
    q = dn.dense_crf(unary, image, params, **how)
    listed = dn.dense_crf(list(unary), list(image), params, **how)
    assert torch.equal(q, torch.stack(listed))
    sizes = [tuple(unary.shape[2:])] * 2
    assert torch.equal(q, dn.dense_crf(unary, image, params, sizes=sizes, **how))
    scaled = dn.dense_crf(unary, image, params, scale=0.5, **how)
    single = dn.dense_crf(unary, image, params, scale=0.5, iterations=3)
    assert 0 < (scaled - single).abs().max() < 0.05


def test_gradients_are_those_of_single(cuda_device):
    unary, image, params = problem(9, 3, cuda_device)
    grads = []
    for precision in ("single", "half"):
        x = unary.clone().requires_grad_()
        q = dn.dense_crf(x, image, params, iterations=3, precision=precision)
        grads.append(torch.autograd.grad(q, x, torch.sin(unary))[0])
    assert grads[0].abs().sum() > 0
    assert torch.equal(*grads)


@pytest.mark.parametrize("normalization", list(NORMALIZATIONS))
def test_no_sum_is_too_large(normalization, cuda_device):
    """All of 140,000 points on one vertex: their sum is above 65504."""
    points = 140_000
    unary = torch.zeros(1, 3, points, device=cuda_device)
    unary[:, 1:] = 20
    features = torch.zeros(points, 2, device=cuda_device)
    weight = 1e-5 if normalization == "none" else 1.0
    kernels = [(features, weight, normalization)]
    q = dn.mean_field(unary, kernels, iterations=1, **HALF)
    expected = dn.mean_field(unary, kernels, iterations=1)
    assert torch.isfinite(q).all()
    torch.testing.assert_close(q.log(), expected.log(), rtol=0, atol=EPS * 2)


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize("points", [0, 1, 187_500, 2**24])
def test_half_scale(points, d):
    size = (1, points, d, True, AS_GIVEN, 0)
    for normalization in NORMALIZATIONS.values():
        scale = half_scale(size, normalization)
        assert 0 < scale <= 1
        assert math.frexp(scale)[0] == 0.5  # a power of 2: nothing more is rounded
    assert half_scale(size, NORMALIZATIONS["none"]) * points <= 65504


def test_an_image_that_is_not_finite_spoils_itself_alone(cuda_device):
    unary, image, params = problem(21, 9, cuda_device)
    expected = dn.dense_crf(unary, image, params, iterations=3, **HALF)
    unary[0, 20, 3, 4] = float("nan")
    q = dn.dense_crf(unary, image, params, iterations=3, **HALF)
    assert q[0, :, 3, 4].isnan().all()
    assert torch.equal(q[1], expected[1])


def test_rows_take_half_of_the_memory(cuda_device):
    size = (2, 3200, 5, True, AS_GIVEN, 0)
    filters = [(size, 1, 0, 0, 0, 0, scale) for scale in (0.0, 1.0)]
    wide, narrow = (_C.filter_bytes_cuda("float32", f, 24) for f in filters)
    assert wide - narrow == 2 * _C.lattice_entries_cuda(size) * 24 * 2
    for dtype, channels in (("float64", 24), ("float32", 2)):
        assert len({_C.filter_bytes_cuda(dtype, f, channels) for f in filters}) == 1


def test_compile(cuda_device):
    unary, image, params = problem(5, 5, cuda_device)

    def crf(unary):
        return dn.dense_crf(unary, image, params, iterations=2, **HALF)

    compiled = torch.compile(crf, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(unary), crf(unary))


@pytest.mark.parametrize("precision", ["double", None, 16, "HALF"])
def test_other_precisions_are_errors(precision):
    unary, image, params = problem(5, 5, "cpu")
    message = f"precision: expected one of single, half; got {precision!r}"
    how = {"precision": precision}
    for call in (
        lambda: dn.dense_crf(unary, image, params, **how),
        lambda: dn.dense_crf(list(unary), list(image), params, **how),
        lambda: dn.mean_field(unary.flatten(2), [], **how),
        lambda: dn.MeanField(unary.flatten(2), [], **how),
        lambda: dn.MeanField.from_image(unary, image, params, **how),
    ):
        with pytest.raises(ValueError, match="precision: ") as error:
            call()
        assert str(error.value) == message
