"""Mean field inference with any kernels against a slow one, and its gradients."""

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deeplab_native as dn
from deeplab_native.ops import _lattice_cuda
from deeplab_native.ops.mean_field import (
    NORMALIZATIONS,
    PairwiseKernel,
    _mean_field_backward,
)
from python_tests.ops import reference_crf as reference

POINTS = 41  # no multiple of 4, see Features::like_pydensecrf


def problem(labels, device="cpu", *, batch=1, seed=0, dtype=torch.float64):
    """Energies (B, L, N), features (N, 2) and (B, N, 5)."""
    generator = torch.Generator().manual_seed(seed)
    unary = 2 * torch.randn(batch, labels, POINTS, generator=generator, dtype=dtype)
    shared = torch.randn(POINTS, 2, generator=generator)
    own = torch.randn(batch, POINTS, 5, generator=generator) * 0.5
    return unary.to(device), shared.to(device), own.to(device)


def compatibility(kind, labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = {"potts": (), "vector": (labels,), "matrix": (labels, labels)}[kind]
    values = torch.rand(shape, generator=generator, dtype=torch.float64)
    return values * (3 if kind == "potts" else -3)


def kernels_of(labels, kind, normalization, features):
    return [
        PairwiseKernel(f, compatibility(kind, labels, seed).to(f.device), normalization)
        for seed, f in enumerate(features, 1)
    ]


def reference_of(unary, kernels, b):
    return reference.MeanField(
        unary[b].cpu().numpy(),
        [
            (
                (k.features if k.features.ndim == 2 else k.features[b]).cpu().numpy(),
                k.compatibility.cpu().numpy(),
                k.normalization,
            )
            for k in kernels
        ],
    )


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kind", ["potts", "vector", "matrix"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference(kind, normalization, dtype, device):
    unary, *features = problem(5, device, batch=2)
    kernels = kernels_of(5, kind, normalization, features)
    q = dn.mean_field(unary.to(dtype), kernels, iterations=4)
    assert q.dtype == dtype
    for b in range(2):
        expected = reference_of(unary, kernels, b).inference(4)
        np.testing.assert_allclose(q[b].cpu().numpy(), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    "labels", [1, 2, 3, 8, 9, 14, 19, 21, 24, 28, 32, 33, 48, 57, 64, 90, 150, 240, 390]
)
@pytest.mark.parametrize("kind", ["potts", "vector", "matrix"])
def test_any_number_of_labels(labels, kind, device):
    unary, *features = problem(labels, device)
    kernels = kernels_of(labels, kind, "symmetric", features)
    q = dn.mean_field(unary.float(), kernels, iterations=2)
    expected = reference_of(unary, kernels, 0).inference(2)
    np.testing.assert_allclose(q[0].cpu().numpy(), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("kinds", [["potts"] * 9, ["matrix", "vector"] * 10])
def test_any_number_of_kernels(kinds, device):
    unary, *features = problem(5, device)
    kernels = [kernels_of(5, kind, "symmetric", features)[m % 2] for m, kind in enumerate(kinds)]
    kernels = [k._replace(compatibility=k.compatibility / len(kinds)) for k in kernels]
    q = dn.mean_field(unary, kernels, iterations=2)
    expected = reference_of(unary, kernels, 0).inference(2)
    np.testing.assert_allclose(q[0].cpu().numpy(), expected, rtol=0, atol=5e-5)


def test_steps_and_kl_divergence(device):
    unary, *features = problem(4, device, batch=2)
    kernels = kernels_of(4, "potts", "symmetric", features)
    crf = dn.MeanField(unary, kernels)
    assert crf.num_vertices == [
        [len(lattice.index) for lattice, *_ in reference_of(unary, kernels, b).kernels]
        for b in range(2)
    ]
    q = crf.start()
    for _ in range(3):
        q = crf.step(q)
        for b in range(2):
            slow = reference_of(unary, kernels, b)
            expected = slow.kl_divergence(q[b].cpu().numpy())
            assert crf.kl_divergence(q)[b].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(q, crf.inference(3), rtol=0, atol=1e-12)
    torch.testing.assert_close(q, dn.mean_field(unary, kernels, iterations=3), rtol=0, atol=1e-12)


def test_one_step_from_any_marginals(device):
    unary, *features = problem(3, device)
    kernels = kernels_of(3, "matrix", "after", features)
    q = torch.rand_like(unary).softmax(1)
    stepped = dn.MeanField(unary, kernels).step(q)
    expected = reference_of(unary, kernels, 0).step(q[0].cpu().numpy())
    np.testing.assert_allclose(stepped[0].cpu().numpy(), expected, rtol=0, atol=5e-5)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    labels=st.integers(1, 40),
    offset=st.sampled_from([0.0, -70.0, -78.0, -82.0, -85.0, -88.0, -300.0, 300.0, 3e4]),
    spread=st.sampled_from([0.0, 1.0, 200.0, 1e5]),
    seed=st.integers(0, 50),
)
def test_marginals_whatever_the_energies(device, labels, offset, spread, seed):
    """Sums of 1 and no NaN where exp would over- or underflow; shifting the energies is nothing."""
    unary, *features = problem(labels, device, seed=seed, dtype=torch.float32)
    kernels = kernels_of(labels, "potts", "symmetric", features)
    q = dn.mean_field(unary * spread + offset, kernels, iterations=3)
    assert q.isfinite().all() and (q >= 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones_like(q[:, 0]), rtol=1e-5, atol=1e-5)
    expected = reference_of((unary * spread).double(), kernels, 0).inference(3)
    if spread <= 1 and offset < 1e4:  # else float32 cannot hold what is left of the energies
        np.testing.assert_allclose(q[0].cpu().numpy(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("energy", [1e31, -1e31, 3e38, -3e38])
def test_huge_energies(energy, device):
    unary, shared, _ = problem(5, device, dtype=torch.float32)
    q = dn.mean_field(torch.full_like(unary, energy), [(shared, 3.0)], iterations=2)
    torch.testing.assert_close(q, torch.full_like(q, 0.2))


def test_same_kernel_written_three_ways(device):
    unary, shared, _ = problem(4, device)
    ways = (3.0, [-3.0] * 4, (-3 * torch.eye(4)).tolist(), (3 * (1 - torch.eye(4))).tolist())
    results = [dn.mean_field(unary, [(shared, way)], iterations=3) for way in ways]
    for q in results[1:3]:
        torch.testing.assert_close(q, results[0], rtol=0, atol=1e-9)
    # 3 (1 - I) differs from -3 I by a constant over the labels only where the kernel sums to 1
    torch.testing.assert_close(results[3], results[0], rtol=0, atol=0.2)


def test_no_kernels_or_no_iterations(device):
    unary, shared, _ = problem(4, device)
    expected = (-unary).softmax(1)
    torch.testing.assert_close(dn.mean_field(unary, []), expected)
    torch.testing.assert_close(dn.mean_field(unary, [(shared, 3)], iterations=0), expected)
    assert dn.mean_field(unary[:0], [(shared, 3)]).shape == (0, 4, POINTS)
    assert dn.mean_field(unary[..., :0], [(shared[:0], 3)]).shape == (1, 4, 0)


@pytest.mark.parametrize("kind", ["potts", "vector", "matrix"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradcheck(kind, normalization, device):
    unary, shared, own = problem(3, device, batch=2)
    unary, shared, own = unary[..., :6], shared[:6], own[:, :6]
    compatibilities = [compatibility(kind, 3, s).to(device).requires_grad_() for s in (1, 2)]
    leaves = [unary.requires_grad_(), *compatibilities]

    def inference(unary, first, second):
        kernels = [(shared, first, normalization), (own, second, normalization)]
        return dn.mean_field(unary, kernels, iterations=3)

    assert torch.autograd.gradcheck(inference, leaves)


def test_opcheck_and_compile(device):
    unary, shared, own = problem(3, device)
    weight = compatibility("potts", 3).to(device).requires_grad_()
    arguments = (
        unary.requires_grad_(),
        [shared, own],
        [weight, weight],
        [3, 2],
        2,
        False,
        0,
        False,
    )
    torch.library.opcheck(torch.ops.deeplab_native.mean_field.default, arguments)
    detached = (
        unary.detach(),
        [shared, own],
        [weight.detach()] * 2,
        [3, 2],
        2,
        True,
        [False, True],
    )
    torch.library.opcheck(_mean_field_backward, (unary.detach(), *detached, 0, False))

    def loss(unary, weight):
        return dn.mean_field(unary, [(shared, weight), (own, 2.0)], iterations=2).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(unary, weight), (unary, weight))
    actual = torch.autograd.grad(compiled(unary, weight), (unary, weight))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_bad_input_gives_nan(cuda_device):
    """To raise would be to wait for the device; the other images of the batch are not touched."""
    unary, shared, own = problem(3, cuda_device, batch=3)
    expected = dn.mean_field(unary, [(shared, 3.0), (own, 2.0)])
    bad_unary, bad_own = unary.clone(), own.clone()
    bad_unary[1, 2, 5] = torch.nan
    bad_own[1, 4, 0] = torch.inf
    q = dn.mean_field(unary, [(shared, 3.0), (bad_own, 2.0)])
    assert q[1].isnan().all()
    assert torch.equal(q[0], expected[0]) and torch.equal(q[2], expected[2])
    q = dn.mean_field(bad_unary, [(own, 2.0)])
    assert q[1, :, 5].isnan().all() and q[::2].isfinite().all()


def test_a_group_at_a_time_gives_the_same(cuda_device, monkeypatch):
    unary, *features = problem(3, cuda_device, batch=5)
    kernels = kernels_of(3, "potts", "symmetric", features)
    expected = dn.mean_field(unary, kernels)
    monkeypatch.setattr(_lattice_cuda, "WORKSPACE_BYTES", 0)
    assert torch.equal(dn.mean_field(unary, kernels), expected)
    crf = dn.MeanField(unary, kernels)
    assert len(crf.num_vertices) == 5
    torch.testing.assert_close(crf.step(crf.inference(9)), expected, rtol=0, atol=1e-12)
