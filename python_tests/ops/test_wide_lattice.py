"""Features of more than 16 dimensions, whose vertices are named by the points that touch them."""

import numpy as np
import pytest
import torch

from deeplab_native import _C, _memory, mean_field, permutohedral_filter
from deeplab_native._native import on_cuda
from deeplab_native.ops._lattice_cuda import CudaLattice
from deeplab_native.ops.permutohedral import _filter
from deeplab_native.pydensecrf.densecrf import DenseCRF
from deeplab_native.pydensecrf.utils import create_pairwise_bilateral
from python_tests.emulation.build import on_the_emulator
from python_tests.ops import reference_crf as reference


def random_points(n, d, channels, device="cpu", *, spread=0.1, dtype=torch.float64):
    """Spread 0.1: many vertices are shared, and have neighbours."""
    generator = torch.Generator().manual_seed(d)
    values = torch.randn(n, channels, generator=generator, dtype=dtype)
    features = torch.randn(n, d, generator=generator) * spread
    return values.to(device), features.to(device)


def transposed_filter(values, features):
    return _filter(values, features, True, False)


@pytest.mark.parametrize("spread", [0.02, 0.2, 50.0])
@pytest.mark.parametrize("d", [17, 32, 33, 63, 64])
def test_equals_reference(d, spread, device):
    n = 34 if d < 20 else 14
    values, features = random_points(n, d, 3, device, spread=spread)
    lattice = reference.Lattice(features.cpu().numpy())
    for transposed, filtered in ((False, permutohedral_filter), (True, transposed_filter)):
        expected = lattice.filter(values.cpu().numpy(), transposed)
        actual = filtered(values, features).cpu().numpy()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-5)
    if on_cuda(values):
        assert CudaLattice(features).num_vertices() == [len(lattice.index)]
        return
    for threads in (1, 2, 3):
        native = _C.build_lattice_cpu(features.data_ptr(), n, d, d, 1, threads, False)
        assert native.num_vertices == len(lattice.index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(1, 64), (33, 17), (40, 32)])
def test_emulated_equals_cpu(n, d, dtype, emulator):
    """Weights and vertices to the bit, so that sums differ by the order of their terms alone."""
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    for spread in (0.02, 1.0):
        values, features = random_points(n, d, 5, spread=spread, dtype=dtype)
        expected = permutohedral_filter(values, features)
        with on_the_emulator(emulator):
            actual = permutohedral_filter(values, features)
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_many_points_and_threads(set_threads):
    """The tables of several threads, grown and merged; <K^T a, b> = <a, K b>, same bits again."""
    a, features = random_points(3000, 24, 3, spread=0.3)
    b = torch.randn_like(a)
    sums = []
    for threads in (1, 3):
        set_threads(threads)
        out = permutohedral_filter(b, features)
        assert torch.equal(permutohedral_filter(b, features), out)
        left = (transposed_filter(a, features) * b).sum()
        torch.testing.assert_close(left, (a * out).sum(), rtol=1e-10, atol=1e-10)
        sums.append(out)
    torch.testing.assert_close(*sums, rtol=1e-12, atol=1e-12)


def test_every_instruction_set():
    values, features = random_points(200, 40, 5, dtype=torch.float32)
    expected = permutohedral_filter(values, features)
    try:
        for isa in _C.available_isas():
            _C.set_isa(isa)
            out = permutohedral_filter(values, features)
            torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    finally:
        _C.set_isa(_C.available_isas()[-1])


def test_batches(device):
    """Same bits alone, in a batch, and again."""
    values, features = random_points(20, 19, 4, device, dtype=torch.float32)
    values, features = torch.stack((values, -values)), torch.stack((features, features.flip(0)))
    out = permutohedral_filter(values, features)
    assert torch.equal(permutohedral_filter(values, features), out)
    for b in range(2):
        assert torch.equal(permutohedral_filter(values[b], features[b]), out[b])


@pytest.mark.parametrize("precision", ["single", "half"])
@pytest.mark.parametrize("labels", [2, 3, 12])
def test_mean_field(labels, precision, device):
    """Beside a kernel of two dimensions; 13 points: pydensecrf's vertices of a point at 0, too."""
    _, wide = random_points(13, 32, 1)
    _, narrow = random_points(13, 2, 1, spread=1.0)
    unary = torch.rand(1, labels, 13, generator=torch.Generator().manual_seed(labels)) * 4
    kernels = [(wide, 5.0, "symmetric"), (narrow, 2.0, "after")]
    expected = reference.MeanField(
        unary[0].numpy(), [(f.numpy(), c, how) for f, c, how in kernels]
    ).inference(3)
    on_device = [(f.to(device), torch.tensor(c, device=device), how) for f, c, how in kernels]
    q = mean_field(unary.to(device), on_device, iterations=3, precision=precision)
    np.testing.assert_allclose(q[0].cpu().numpy(), expected, rtol=0, atol=5e-5)


def test_hyperspectral_image_of_the_drop_in():
    """30 bands: 32 dimensions."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 30, (3, 5, 30), dtype=np.uint8)
    features = create_pairwise_bilateral((5, 5), [60] * 30, image, chdim=2)
    unary = generator.random((3, 15), dtype=np.float32) * 3
    crf = DenseCRF(15, 3)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseEnergy(features, 4)
    expected = reference.MeanField(unary, [(features.T, 4.0, "symmetric")]).inference(3)
    np.testing.assert_allclose(np.asarray(crf.inference(3)), expected, rtol=0, atol=5e-5)


def test_gradcheck(device):
    values, features = random_points(6, 20, 2, device)
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: permutohedral_filter(v, features), values)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -1e8])
@pytest.mark.parametrize("where", [0, 39])
def test_bad_features_give_nan(bad, where, cuda_device):
    values, features = random_points(33, 40, 2, cuda_device)
    batch, own = values.expand(2, -1, -1), features.repeat(2, 1, 1)
    own[1, 32, where] = bad
    out = permutohedral_filter(batch, own)
    assert out[1].isnan().all()
    assert torch.equal(out[0], permutohedral_filter(values, features))


@pytest.mark.parametrize("d", [17, 64])
def test_bad_features_are_named(d):
    values, features = random_points(10, d, 1)
    for bad in (torch.nan, torch.inf):
        features[3, d - 1] = bad
        with pytest.raises(ValueError, match=f"features: dimension {d - 1} has values that"):
            permutohedral_filter(values, features)
    # the canonical simplex grows with d: so far is too far, and a little less is not
    limit = 2**22 / (np.sqrt(2 / 3) * (d + 1) / np.sqrt(2))
    features = torch.zeros(10, d)
    features[0, 0] = limit * 1.01
    with pytest.raises(ValueError, match=r"features: .*too large for the lattice \(coordinate 0"):
        permutohedral_filter(values, features)
    features[0, 0] = limit * 0.99
    lattice = reference.Lattice(features.numpy())
    out = permutohedral_filter(values, features).numpy()
    np.testing.assert_allclose(out, lattice.filter(values.numpy()), rtol=0, atol=5e-5)


def test_more_memory_than_there_is(monkeypatch):
    monkeypatch.setattr(_memory, "available_memory", lambda: 10**8)
    values, features, points = torch.zeros(1, 1), torch.zeros(1, 64), 400_000
    with pytest.raises(MemoryError, match=f"a lattice of {points} points in 64 dimensions"):
        permutohedral_filter(values.expand(points, 1), features.expand(points, 64))
