"""`lattice="bridged"` against a slow one, against the exact sums, and what it may not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C
from deeplab_native._native import on_cuda
from deeplab_native.ops import _bridged, _lattice_cuda
from deeplab_native.ops._lattice_cpu import build_lattice
from deeplab_native.ops._lattice_cuda import CudaLattice
from deeplab_native.ops.permutohedral import _filter
from python_tests.ops import reference_crf as reference

KINDS = ("standard", "bridged")


def points(n, d, device="cpu", *, channels=3, spread=2.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, channels, generator=generator, dtype=dtype)
    features = torch.randn(n, d, generator=generator) * spread
    return values.to(device), features.to(device)


def bridged_filter(values, features):
    return dn.permutohedral_filter(values, features, lattice="bridged")


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 7, 11, 16])
def test_equals_reference(d, device):
    values, features = points(50, d, device, seed=d)
    lattice = reference.Lattice(features.cpu().numpy(), bridged=True)
    for transposed in (False, True):
        expected = lattice.filter(values.cpu().numpy(), transposed)
        actual = _filter(values, features, transposed, True).cpu().numpy()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-5)
    if on_cuda(values):
        found = CudaLattice(features, bridged=True).num_vertices()
    else:
        found = [build_lattice(features, bridged=True).num_vertices]
    assert found == [len(lattice.index)]
    assert found[0] > lattice.touched


@pytest.mark.parametrize("channels", [1, 2, 8, 21])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_without_points_are_cleared(channels, threads, device, set_threads):
    """Filters after one another have the memory of those before them."""
    set_threads(threads)
    values, features = points(120, 3, device, channels=channels, dtype=torch.float32)
    expected = bridged_filter(values, features)
    for scale in (1e20, torch.nan):
        bridged_filter(values * scale, features)
        assert torch.equal(bridged_filter(values, features), expected)


@pytest.mark.parametrize("d", [2, 5])
def test_any_number_of_threads_has_the_same_vertices(d, set_threads):
    values, features = points(500, d, spread=1.0)
    found = []
    for threads in (1, 2, 4):
        set_threads(threads)
        found.append((bridged_filter(values, features), build_lattice(features, bridged=True)))
        assert torch.equal(bridged_filter(values, features), found[-1][0])
    first, lattice = found[0]
    for other, own in found[1:]:
        assert own.num_vertices == lattice.num_vertices
        torch.testing.assert_close(other, first, rtol=0, atol=1e-6)


def test_batches(device):
    """Of different images: the same bits as of each alone, in any place."""
    values = torch.stack([points(40, 5, seed=s, dtype=torch.float32)[0] for s in range(3)])
    features = torch.stack([points(40, 5, seed=s, spread=s + 0.5)[1] for s in range(3)])
    values, features = values.to(device), features.to(device)
    out = bridged_filter(values, features)
    for i in range(3):
        assert torch.equal(out[i], bridged_filter(values[i], features[i]))
    flipped = bridged_filter(values.flip(0), features.flip(0))
    assert torch.equal(flipped.flip(0), out)
    shared = bridged_filter(values, features[0])
    assert torch.equal(shared[0], out[0])


@pytest.mark.parametrize("labels", [2, 3, 21])
def test_mean_field_equals_reference(labels, device):
    generator = torch.Generator().manual_seed(labels)
    unary = torch.randn(2, labels, 61, generator=generator, dtype=torch.float64)
    features = [points(61, 2, seed=1)[1], points(61, 5, seed=2, spread=0.7)[1]]
    kinds = (3.0, "symmetric"), (4.0, "after")
    kernels = [(f.to(device), w, n) for f, (w, n) in zip(features, kinds, strict=True)]
    q = dn.mean_field(unary.to(device), kernels, iterations=4, lattice="bridged")
    for b in range(2):
        given = [(f.numpy(), w, n) for f, (w, n) in zip(features, kinds, strict=True)]
        expected = reference.MeanField(unary[b].numpy(), given, bridged=True).inference(4)
        np.testing.assert_allclose(q[b].cpu().numpy(), expected, rtol=0, atol=5e-5)
    single = dn.mean_field(unary.float().to(device), kernels, iterations=4, lattice="bridged")
    assert (single.double() - q).abs().max() < 5e-5


def test_cpu_and_cuda_agree(photo, cuda_device):
    unary, image, params = photo
    on_cpu = dn.dense_crf(unary.double(), image, params, lattice="bridged")
    moved = unary.to(cuda_device), image.to(cuda_device)
    for precision in ("single", "half"):
        q = dn.dense_crf(*moved, params, lattice="bridged", precision=precision).cpu()
        assert (q - on_cpu).abs().mean() < (1e-6 if precision == "single" else 1e-5)
        assert (q.argmax(1) != on_cpu.argmax(1)).double().mean() <= 1e-4


def test_every_way_to_the_same_crf(photo_on):
    unary, image, params = photo_on
    q = dn.dense_crf(unary, image, params, iterations=3, lattice="bridged")
    assert torch.equal(q, dn.dense_crf(unary, image, params, iterations=3, lattice="bridged"))
    assert not torch.equal(q, dn.dense_crf(unary, image, params, iterations=3))
    for i in range(2):
        alone = dn.dense_crf(unary[i], image[i], params, iterations=3, lattice="bridged")
        assert torch.equal(alone, q[i])
    listed = dn.dense_crf(list(unary), list(image), params, iterations=3, lattice="bridged")
    assert all(torch.equal(a, b) for a, b in zip(listed, q, strict=True))
    sizes = [(20, 33), (30, 41)]
    padded = dn.dense_crf(unary, image, params, iterations=3, sizes=sizes, lattice="bridged")
    assert torch.equal(padded[1], q[1])
    crf = dn.MeanField.from_image(unary, image, params, lattice="bridged")
    torch.testing.assert_close(crf.inference(3), q, rtol=0, atol=1e-6)
    stepped = crf.start()
    for _ in range(3):
        stepped = crf.step(stepped)
    torch.testing.assert_close(stepped, q, rtol=0, atol=2e-5)
    standard = dn.MeanField.from_image(unary, image, params)
    for more, fewer in zip(crf.num_vertices, standard.num_vertices, strict=True):
        assert all(a > b for a, b in zip(more, fewer, strict=True))


def test_closer_to_the_exact_mean_field():
    """On parts of a photograph, by half of the standard lattice's error or more."""
    pytest.importorskip("matplotlib")
    from deeplab_native.demo.photo import photograph

    whole = torch.from_numpy(photograph()).permute(2, 0, 1)
    errors = {kind: [] for kind in KINDS}
    for top, left in ((60, 150), (250, 60), (300, 260)):
        part = whole[:, top : top + 180, left : left + 220].double()
        image = torch.nn.functional.avg_pool2d(part, 5).round().to(torch.uint8)
        brightness = image.double().mean(0)
        generator = torch.Generator().manual_seed(top)
        levels = torch.tensor([60.0, 120.0, 180.0], dtype=torch.float64)[:, None, None]
        logits = -(((brightness - levels) / 40) ** 2)
        logits = logits + torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        unary = -logits.log_softmax(0)
        for params in (dn.CRFParams(4, 67, 3, 3, 3), dn.CRFParams(5, 60, 5, 3, 3)):
            exact = exact_crf(unary, image, params)
            for kind in KINDS:
                q = dn.dense_crf(unary, image, params, lattice=kind)
                errors[kind].append((q - exact).abs().mean())
    standard, bridged = (torch.stack(errors[kind]) for kind in KINDS)
    assert (bridged < standard).all()
    assert bridged.mean() < 0.7 * standard.mean()


def exact_crf(unary, image, params, iterations=10):
    """The mean field with all N^2 pairs of pixels."""
    _, height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((x, y), -1).flatten(0, 1).double()
    colours = image.flatten(1).T.double()
    bilateral = torch.cat((places / params.sigma_alpha, colours / params.sigma_beta), 1)
    kernels = []
    for features, w in ((places / params.sigma_gamma, params.w2), (bilateral, params.w1)):
        kernel = (-0.5 * torch.cdist(features, features) ** 2).exp()
        scale = kernel.sum(1).rsqrt()
        kernels.append(w * scale[:, None] * kernel * scale)
    u = unary.flatten(1)
    q = (-u).softmax(0)
    for _ in range(iterations):
        q = (-u + sum(q @ kernel for kernel in kernels)).softmax(0)
    return q.view(unary.shape)


def test_an_image_with_more_vertices_than_room_is_nan(cuda_device, monkeypatch):
    monkeypatch.setattr(_lattice_cuda, "bridged_room", lambda d: 1)
    values, features = points(64, 5, cuda_device, spread=3.0, dtype=torch.float32)
    assert bridged_filter(values, features).isnan().all()
    close = torch.stack((features, features * 0.02))  # which fits
    both = bridged_filter(torch.stack((values, values)), close)
    assert both[0].isnan().all()
    monkeypatch.undo()
    assert torch.equal(both[1], bridged_filter(values, close[1]))


@pytest.mark.parametrize("d", range(1, 9))
def test_random_points_have_room(d):
    """The densities at which most vertices are missing one of two neighbours."""
    for spread in (1.0, 3.0, 8.0):
        features = points(150, d, spread=spread)[1]
        count = build_lattice(features, bridged=True).num_vertices
        assert count <= _bridged.bridged_room(d) * 150 * (d + 1)


def test_few_points(device):
    for n in (1, 2, 5):
        values, features = points(n, 2, device)
        expected = reference.Lattice(features.cpu().numpy(), bridged=True)
        out = bridged_filter(values, features).cpu().numpy()
        np.testing.assert_allclose(out, expected.filter(values.cpu().numpy()), rtol=0, atol=5e-5)
    empty = bridged_filter(torch.empty(0, 3, 2, device=device), torch.empty(0, 3, 2, device=device))
    assert empty.shape == (0, 3, 2)


def test_kept_lattices_are_of_their_kind(photo):
    unary, image, params = photo
    _C.release_memory()
    expected = {}
    for kind in KINDS:
        expected[kind] = dn.dense_crf(unary, image, params, lattice=kind)
        _C.release_memory()
    for kind in (*KINDS, *KINDS):
        assert torch.equal(dn.dense_crf(unary, image, params, lattice=kind), expected[kind])


def test_an_exact_crf_has_no_lattice(photo):
    unary, image, params = photo
    kernels = [(torch.zeros(1230, 2), 3.0)]
    how = {"lattice": "bridged", "algorithm": "exact"}
    for call in (
        lambda: dn.dense_crf(unary, image, params, **how),
        lambda: dn.mean_field(unary.flatten(2), kernels, **how),
    ):
        with pytest.raises(
            ValueError, match=r"^lattice: expected 'standard' with algorithm='exact'"
        ):
            call()


@pytest.mark.parametrize("lattice", ["bridge", "", None, True, 2])
def test_wrong_lattice(lattice, photo):
    unary, image, params = photo
    kernels = [(torch.zeros(1230, 2), 3.0)]
    calls = (
        lambda: dn.dense_crf(unary, image, params, lattice=lattice),
        lambda: dn.dense_crf(list(unary), list(image), params, lattice=lattice),
        lambda: dn.mean_field(unary.flatten(2), kernels, lattice=lattice),
        lambda: dn.permutohedral_filter(torch.zeros(4, 1), torch.zeros(4, 2), lattice=lattice),
        lambda: dn.MeanField(unary.flatten(2), kernels, lattice=lattice),
        lambda: dn.MeanField.from_image(unary, image, params, lattice=lattice),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"^lattice: expected one of standard, bridged; got"):
            call()


def test_many_dimensions_are_an_error(device):
    values, features = points(8, 17, device)
    unary, image = torch.zeros(1, 2, 3, 4), torch.zeros(1, 15, 3, 4, dtype=torch.uint8)
    unary, image, params = unary.to(device), image.to(device), dn.CRFParams(4, 30, 20, 3, 3)
    kernels = [(features, 3.0)]
    flat = torch.zeros(1, 2, 8, device=device)
    calls = {
        "features": lambda: bridged_filter(values, features),
        r"kernels\[0\].features": lambda: dn.mean_field(flat, kernels, lattice="bridged"),
        "image: axes and channels": lambda: dn.dense_crf(unary, image, params, lattice="bridged"),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{name}: expected at most 16 dimensions.* got 17$"):
            call()
    with pytest.raises(ValueError, match=r"^image: axes and channels"):
        dn.dense_crf(list(unary), list(image), params, lattice="bridged")
    with pytest.raises(ValueError, match=r"^image: axes and channels"):
        dn.MeanField.from_image(unary, image, params, lattice="bridged")
    assert dn.dense_crf(unary, image, params).isfinite().all()


def test_features_that_do_not_fit_are_an_error():
    values, features = points(8, 3)
    with pytest.raises(ValueError, match=r"^features: their range"):
        bridged_filter(values, features * 1e7)
    with pytest.raises(ValueError, match="NaN or infinite"):
        bridged_filter(values, features * torch.nan)
