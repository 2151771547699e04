"""The CRF on CUDA works on the labels that matter: against all of them in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C, _variants
from deeplab_native.ops._mean_field_cuda import CudaMeanField
from deeplab_native.ops.mean_field import PairwiseKernel
from python_tests.ops import reference_crf

POINTS = 45


def problem(labels, sharpness, device, *, batch=2, height=12, width=17):
    """Soft energies of three regions; the larger the sharpness, the fewer labels matter."""
    generator = torch.Generator().manual_seed(labels)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    regions = (x > 6).long() + (x + y > 20)
    image = torch.stack((regions * 90, 200 - regions * 60, x * 3)).repeat(batch, 1, 1, 1)
    image = image + torch.randint(0, 20, image.shape, generator=generator)
    likely = torch.nn.functional.one_hot(regions * 7 % labels, labels).permute(2, 0, 1)
    logits = likely * sharpness + torch.randn(batch, labels, height, width, generator=generator)
    unary = -logits.log_softmax(1)
    return unary.to(device), image.to(torch.uint8).to(device), dn.CRFParams(4, 30, 20, 3, 3)


def points(labels, device, energies):
    """Energies (1, L, N) from one of each label, and features (N, 2)."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(POINTS, 2, generator=generator)
    unary = torch.tensor(energies).view(1, labels, 1).repeat(1, 1, POINTS)
    return unary.to(device), features.to(device)


def check(unary, kernels, iterations=6):
    exact = [k._replace(compatibility=k.compatibility.double()) for k in kernels]
    expected = dn.mean_field(unary.double(), exact, iterations=iterations)
    q = dn.mean_field(unary, kernels, iterations=iterations)
    assert torch.isfinite(expected).all()
    torch.testing.assert_close(q.double(), expected, rtol=0, atol=2e-6)
    return q


@pytest.mark.parametrize("sharpness", [0.5, 5, 9, 16])
@pytest.mark.parametrize("labels", [4, 5, 8, 9, 13, 21, 32, 50, 150, 384, 390])
def test_any_labels(labels, sharpness, cuda_device):
    size = {"height": 7, "width": 9} if labels > 50 else {}
    unary, image, params = problem(labels, sharpness, cuda_device, **size)
    expected = dn.dense_crf(unary.double(), image, params, iterations=4)
    q = dn.dense_crf(unary, image, params, iterations=4)
    torch.testing.assert_close(q.double(), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("normalization", ["none", "before", "after", "symmetric"])
@pytest.mark.parametrize("iterations", [0, 1, 2, 10])
def test_any_normalization_and_iterations(iterations, normalization, cuda_device):
    unary, image, params = problem(21, 8, cuda_device)
    how = {"iterations": iterations, "normalization": normalization}
    expected = dn.dense_crf(unary.double(), image, params, **how)
    q = dn.dense_crf(unary, image, params, **how)
    torch.testing.assert_close(q.double(), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("kind", ["potts", "vector"])
@pytest.mark.parametrize("energy", [5.0, 9.0, 20.0])
def test_compatibilities(kind, energy, cuda_device):
    """A label of weight for itself, in an order that is not that of the labels."""
    labels = 11
    unary, features = points(labels, cuda_device, [energy] * 8 + [0.0, 1.0, 0.5])
    weights = torch.linspace(-3, -1, labels) if kind == "vector" else torch.tensor(2.0)
    check(unary, [PairwiseKernel(features, weights.to(cuda_device))])


@pytest.mark.parametrize("labels", [6, 12, 21, 100])
def test_labels_that_grow_again(labels, cuda_device):
    """Cold at first, all others take over from a label that repels itself."""
    generator = torch.Generator().manual_seed(1)
    energies = 12 + torch.rand(labels, generator=generator)
    energies[labels // 2] = 0
    unary, features = points(labels, cuda_device, energies.tolist())
    weights = torch.full((labels,), -0.5)
    weights[labels // 2] = 14.0
    kernel = PairwiseKernel(features, weights.to(cuda_device))
    start = dn.mean_field(unary, [kernel], iterations=0)
    assert start[:, labels // 2].min() > 1 - 2**-7.5 / 14  # one chunk is enough
    q = check(unary, [kernel], iterations=3)
    assert q[:, labels // 2].max() < 0.9


def test_each_image_of_a_batch_for_itself(cuda_device):
    """Images with one, some and all chunks of labels: the same bits alone."""
    problems = [problem(21, s, cuda_device, batch=1) for s in (16, 6, 0.1)]
    unary, image = (torch.cat([p[i] for p in problems]) for i in (0, 1))
    q = dn.dense_crf(unary, image, problems[0][2], iterations=4)
    for b, (own, picture, params) in enumerate(problems):
        alone = dn.dense_crf(own, picture, params, iterations=4)
        assert torch.equal(q[b : b + 1], alone)
    assert torch.equal(q, dn.dense_crf(unary, image, problems[0][2], iterations=4))


def test_a_cuda_graph_replays_on_images_with_other_labels(cuda):
    """How many labels are hot is known on the device alone: one graph serves any."""
    problems = [problem(21, s, cuda, batch=1) for s in (16, 0.1, 6)]
    given = problems[0][0].clone(), problems[0][1].clone()
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):  # as torch asks for before a capture
        dn.dense_crf(*given, problems[0][2], iterations=4)
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        q = dn.dense_crf(*given, problems[0][2], iterations=4)
    for unary, image, params in problems:
        given[0].copy_(unary)
        given[1].copy_(image)
        graph.replay()
        assert torch.equal(q, dn.dense_crf(unary, image, params, iterations=4))


def test_energies_that_are_not_finite_spoil_their_image_alone(cuda_device):
    unary, image, params = problem(21, 9, cuda_device)
    expected = dn.dense_crf(unary, image, params, iterations=3)
    unary[0, 20, 3, 4] = float("nan")
    q = dn.dense_crf(unary, image, params, iterations=3)
    assert q[0, :, 3, 4].isnan().all()
    assert torch.equal(q[1], expected[1])


def test_the_switch_turns_it_off(cuda_device, monkeypatch):
    unary, image, params = problem(21, 9, cuda_device)
    hot = dn.dense_crf(unary, image, params, iterations=3)
    monkeypatch.setattr(CudaMeanField, "_run_hot", None)
    with _variants.use({"crf_labels": "all"}):
        every = dn.dense_crf(unary, image, params, iterations=3)
    torch.testing.assert_close(hot, every, rtol=0, atol=5e-6)
    assert not torch.equal(hot, every)  # another order of sums at the least


def test_where_labels_can_be_left_out(cuda_device):
    size = {labels: _C.hot_labels_bytes_cuda((2, labels, 45), 3) for labels in (2, 4, 5, 384, 385)}
    assert [labels for labels, bytes_ in size.items() if bytes_ > 0] == [5, 384]


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 31, 300, 2900])
def test_rows_of_many_segments(count, dtype, channels, device):
    """Many points on the same vertices, a few elsewhere before and after them."""
    generator = torch.Generator().manual_seed(count)
    few = torch.randn(20, 2, generator=generator) * 3
    features = torch.cat((few, torch.full((count, 2), 0.3), few + 9)).to(device)
    values = torch.rand(len(features), channels, generator=generator, dtype=torch.float64)
    expected = reference_crf.Lattice(features.cpu().numpy()).filter(values.numpy())
    x = values.to(device, dtype)
    out = dn.permutohedral_filter(x, features)
    rtol = 4e-6 if dtype == torch.float32 else 1e-6  # weights are float32
    np.testing.assert_allclose(out.cpu().double().numpy(), expected, rtol=rtol, atol=1e-6)
    assert torch.equal(out, dn.permutohedral_filter(x, features))
