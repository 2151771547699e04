"""The permutohedral filter against a slow one, the exact Gaussian, and its own transpose."""

from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deeplab_native import _C, permutohedral_filter
from deeplab_native._native import on_cuda
from deeplab_native.ops._lattice_cuda import CudaLattice
from deeplab_native.ops.permutohedral import _filter
from python_tests.emulation.build import on_the_emulator
from python_tests.ops import reference_crf as reference


def random_points(n, d, channels, device="cpu", *, spread=2.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, channels, generator=generator, dtype=dtype)
    features = torch.randn(n, d, generator=generator) * spread
    return values.to(device), features.to(device)


def transposed_filter(values, features):
    return _filter(values, features, True, False)


@pytest.mark.parametrize("d", range(1, 17))
def test_equals_reference(d, device):
    values, features = random_points(60, d, 3, device, seed=d)
    lattice = reference.Lattice(features.cpu().numpy())
    for transposed, filtered in ((False, permutohedral_filter), (True, transposed_filter)):
        expected = lattice.filter(values.cpu().numpy(), transposed)
        actual = filtered(values, features).cpu().numpy()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-5)
    if on_cuda(values):
        assert CudaLattice(features).num_vertices() == [len(lattice.index)]
    else:
        native = _C.build_lattice_cpu(features.data_ptr(), 60, d, d, 1, 1, False)
        assert native.num_vertices == len(lattice.index)


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 8, 9, 21, 24, 32, 33, 40, 49, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_number_of_channels(channels, dtype, device):
    values, features = random_points(37, 3, channels, device, dtype=dtype)
    lattice = reference.Lattice(features.cpu().numpy())
    expected = lattice.filter(values.double().cpu().numpy())
    out = permutohedral_filter(values, features)
    assert out.dtype == dtype
    np.testing.assert_allclose(out.cpu().numpy(), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("d", [2, 5])
def test_close_to_the_exact_gaussian(d):
    # Dense points, so that few neighbours are missing; the lattice's own error is a few per cent.
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(3000, d, generator=generator) * 1.5
    values = torch.rand(3000, 2, generator=generator, dtype=torch.float64)
    ones = torch.ones(3000, 1, dtype=torch.float64)
    exact = reference.gaussian_filter(values.numpy(), features.numpy())
    exact = exact / reference.gaussian_filter(ones.numpy(), features.numpy())
    out = permutohedral_filter(values, features) / permutohedral_filter(ones, features)
    assert np.abs(out.numpy() - exact).mean() < 0.02


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 70),
    d=st.integers(1, 7),
    channels=st.integers(1, 40),
    spread=st.sampled_from([0.01, 1.0, 30.0, 3000.0]),
    threads=st.integers(1, 4),
    seed=st.integers(0, 100),
)
def test_adjoint(n, d, channels, spread, threads, seed):
    """<K^T a, b> = <a, K b>, whatever the shape, the range of the keys and the threads."""
    a, features = random_points(n, d, channels, spread=spread, seed=seed)
    b = torch.randn_like(a)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        left = (transposed_filter(a, features) * b).sum()
        right = (a * permutohedral_filter(b, features)).sum()
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    n=st.integers(1, 300),
    d=st.integers(1, 7),
    channels=st.integers(1, 40),
    spread=st.sampled_from([0.01, 1.0, 30.0, 3000.0]),
    transposed=st.booleans(),
    seed=st.integers(0, 100),
)
def test_emulated_equals_cpu(n, d, channels, spread, transposed, seed, emulator):
    values, features = random_points(n, d, channels, spread=spread, seed=seed)
    expected = _filter(values, features, transposed, False)
    with on_the_emulator(emulator):
        actual = _filter(values, features, transposed, False)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 2000])
def test_long_and_short_rows_of_the_splat(n, device):
    """All points on one vertex's simplex, and each on a simplex of its own."""
    values, features = random_points(n, 2, 5, device)
    for spread in (1e-4, 1e3):
        expected = reference.Lattice((features * spread).cpu().numpy())
        out = permutohedral_filter(values, features * spread)
        slow = expected.filter(values.cpu().numpy())
        np.testing.assert_allclose(out.cpu().numpy(), slow, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e8, -1e8])
def test_bad_features_give_nan(bad, cuda_device):
    """To raise would be to wait for the device; the other images of the batch are not touched."""
    values, features = random_points(40, 3, 2, cuda_device)
    batch, own = values.expand(3, -1, -1), features.repeat(3, 1, 1)
    own[1, 17, 2] = bad
    out = permutohedral_filter(batch, own)
    assert out[1].isnan().all()
    expected = permutohedral_filter(values, features)
    assert torch.equal(out[0], expected) and torch.equal(out[2], expected)


@pytest.mark.parametrize("d", [1, 2, 5, 16])
def test_gradcheck(d, device):
    values, features = random_points(12, d, 2, device)
    batch = torch.stack((values, values * 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: permutohedral_filter(v, features), batch)


def test_opcheck(device):
    values, features = random_points(20, 3, 2, device)
    for v, f in ((values, features), (torch.stack((values, values)), features)):
        torch.library.opcheck(_filter, (v.requires_grad_(), f, False, False))


def test_compile(device):
    values, features = random_points(50, 5, 3, device, dtype=torch.float32)
    values.requires_grad_()
    compiled = torch.compile(permutohedral_filter, fullgraph=True, backend="aot_eager")
    expected = permutohedral_filter(values, features)
    torch.testing.assert_close(compiled(values, features), expected, rtol=0, atol=0)
    (grad,) = torch.autograd.grad(compiled(values, features).square().sum(), values)
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), values)
    torch.testing.assert_close(grad, expected_grad, rtol=0, atol=0)


def test_batches_and_strides(device):
    values, features = random_points(64, 4, 6, device, dtype=torch.float32)
    expected = permutohedral_filter(values, features)
    shared = permutohedral_filter(torch.stack((values, values)), features)
    own = permutohedral_filter(torch.stack((values, values)), torch.stack((features, features)))
    for out in (shared, own):
        torch.testing.assert_close(out, expected.expand_as(out), rtol=0, atol=0)
    wide_values = torch.stack((values, values), -1).flatten(1)[:, ::2]
    assert not wide_values.is_contiguous()
    strided = permutohedral_filter(wide_values, features.T.contiguous().T)
    torch.testing.assert_close(strided, expected, rtol=0, atol=0)
    torch.testing.assert_close(permutohedral_filter(values, features.double()), expected)


@pytest.mark.parametrize("isa", _C.available_isas())
def test_every_instruction_set(isa):
    values, features = random_points(300, 5, 21, dtype=torch.float32)
    expected = permutohedral_filter(values, features)
    try:
        _C.set_isa(isa)
        assert _C.isa() == isa
        out = permutohedral_filter(values, features)
    finally:
        _C.set_isa(_C.available_isas()[-1])
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_same_bits_every_time(device):
    values, features = random_points(5000, 5, 21, device, dtype=torch.float32)
    first = permutohedral_filter(values, features)
    for _ in range(100 if device.type == "cuda" else 3):
        assert torch.equal(permutohedral_filter(values, features), first)


def test_no_points(device):
    empty = partial(torch.empty, device=device)
    assert permutohedral_filter(empty(0, 3), empty(0, 2)).shape == (0, 3)
    assert permutohedral_filter(empty(0, 5, 3), empty(0, 5, 2)).shape == (0, 5, 3)


V, F = torch.zeros(10, 3), torch.zeros(10, 2)


@pytest.mark.parametrize(
    ("values", "features", "error", "message"),
    [
        ([1.0], F, TypeError, "values: expected a torch.Tensor, got list"),
        (V, None, TypeError, "features: expected a torch.Tensor, got NoneType"),
        (V.long(), F, TypeError, "values: expected dtype torch.float32 or torch.float64"),
        (V, F.long(), TypeError, "features: expected dtype"),
        (V[0], F, ValueError, r"values: expected 2 or 3 dimensions \(N, C\) or \(B, N, C\)"),
        (V[:, :0], F, ValueError, "values: expected at least one channel"),
        (V, F[:9], ValueError, r"features: expected one row for each of the \(10,\) points"),
        (V, F[None], ValueError, "features: expected one row"),
        (V[None], F[None].expand(2, -1, -1), ValueError, "features: expected one row"),
        (V, torch.zeros(10, 0), ValueError, "features: expected 1 to 64 dimensions"),
        (V, torch.zeros(10, 65), ValueError, "features: expected 1 to 64 dimensions"),
        (V, F / 0, ValueError, "features: dimension 0 has values that are NaN"),
        (V, F + torch.inf, ValueError, "features: dimension 0 has values that are NaN or inf"),
        (V, torch.eye(10, 2) * 1e8, ValueError, "features: .* too large for the lattice"),
    ],
)
def test_bad_input(values, features, error, message):
    with pytest.raises(error, match=message):
        permutohedral_filter(values, features)
