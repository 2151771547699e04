"""The exact Gaussian sum against a matrix of all pairs: values, gradients, what is left out."""

from functools import partial

import pytest
import torch

from deeplab_native import _C, gauss_transform
from deeplab_native._native import on_cuda
from deeplab_native.ops._gauss_op import _features_gradient, transform
from deeplab_native.ops._point_order import inverse_of, near_order, take_points


def points(n, d, channels, device="cpu", *, spread=2.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, channels, generator=generator, dtype=torch.float64)
    features = torch.randn(n, d, generator=generator, dtype=torch.float64) * spread
    return values.to(device, dtype), features.to(device, dtype)


def dense(values, features):
    """In float64, differentiable."""
    values, features = values.double(), features.double()
    squares = (features[..., :, None, :] - features[..., None, :, :]).square().sum(-1)
    return (-squares / 2).exp() @ values


def tolerance(dtype):
    return 3e-6 if dtype == torch.float32 else 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "d", "channels"),
    [(1, 1, 1), (17, 2, 3), (33, 3, 21), (150, 5, 21), (70, 4, 2), (65, 7, 12), (40, 64, 23)],
)
def test_equals_the_matrix(n, d, channels, dtype, device):
    values, features = points(n, d, channels, device, dtype=dtype, spread=3 / d**0.5)
    out = gauss_transform(values, features, cutoff=0)
    assert out.dtype == dtype
    assert out.is_contiguous()
    expected = dense(values, features)
    scale = dense(values.abs(), features)
    assert ((out - expected).abs() <= tolerance(dtype) * scale).all()


@pytest.mark.parametrize("isa", _C.available_isas())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set(isa, dtype, monkeypatch):
    values, features = points(333, 5, 21, dtype=dtype)
    grad, _ = points(333, 5, 21, seed=2, dtype=dtype)
    before = _C.isa()
    try:
        _C.set_isa(isa)
        out = gauss_transform(values, features)
        along = _features_gradient(values[None], grad[None], features[None], 0.0, False)[0]
    finally:
        _C.set_isa(before)
    f = features.double().requires_grad_()
    expected = dense(values, f)
    (gradient,) = torch.autograd.grad((expected * grad).sum(), f)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(along.double(), gradient, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_equal_the_matrix_s(dtype, device):
    values, features = points(100, 5, 6, device, dtype=dtype)
    weights = points(100, 5, 6, device, seed=1)[0]
    gradients = []
    for function in (gauss_transform, dense):
        v, f = values.clone().requires_grad_(), features.clone().requires_grad_()
        (function(v, f).double() * weights).sum().backward()
        gradients.append((v.grad, f.grad))
    for actual, expected in zip(*gradients, strict=True):
        atol = tolerance(dtype) * float(expected.abs().max()) * 10
        torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("cutoff", [1e-2, 1e-4, 2.0**-24])
def test_what_is_left_out_is_bounded(cutoff, device):
    """And something is: tight groups of points far from each other."""
    values, features = points(600, 3, 4, device, spread=0.2)
    features = features + 2.5 * torch.arange(600, device=device)[:, None] // 100
    exact = gauss_transform(values, features, cutoff=0)
    out = gauss_transform(values, features, cutoff=cutoff)
    assert ((out - exact).abs() <= cutoff * values.abs().sum(0) + 1e-12).all()
    assert not torch.equal(out, exact)


def test_far_points_do_not_matter(device):
    """Beyond all that a float holds, too."""
    values, features = points(40, 2, 2, device, dtype=torch.float32)
    far = torch.cat([features, features + 1e6, features + 1e30])
    out = gauss_transform(values.repeat(3, 1), far, cutoff=0)
    torch.testing.assert_close(out[:40], dense(values, features).float(), rtol=1e-5, atol=1e-5)


def test_large_coordinates_do_not_cancel(device):
    values, features = points(200, 5, 3, device, dtype=torch.float32, spread=1.0)
    features = (features * 256).round() / 256
    moved = gauss_transform(values.abs(), features + 1024)
    torch.testing.assert_close(moved, gauss_transform(values.abs(), features), rtol=1e-5, atol=0)


def test_batches_and_shared_features(device):
    values, features = points(300, 3, 4, device, dtype=torch.float32)
    other, own = points(300, 3, 4, device, seed=1, dtype=torch.float32)
    out = gauss_transform(torch.stack((values, other)), torch.stack((features, own)))
    assert torch.equal(out[0], gauss_transform(values, features))
    assert torch.equal(out[1], gauss_transform(other, own))
    shared = gauss_transform(torch.stack((values, other)), features)
    assert shared.is_contiguous()
    for b, one in enumerate((values, other)):
        torch.testing.assert_close(shared[b], gauss_transform(one, features))
    assert gauss_transform(values[None][:0], features).shape == (0, 300, 4)
    assert gauss_transform(values[:0], features[:0]).shape == (0, 4)
    assert gauss_transform(values[None][:0], features[None][:0]).shape == (0, 300, 4)


def test_same_bits_each_time_and_with_any_threads(device):
    values, features = points(700, 5, 21, device, dtype=torch.float32)
    values.requires_grad_()
    features.requires_grad_()
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3, 2, 1):
            torch.set_num_threads(threads)
            out = gauss_transform(values, features)
            results.append((out, *torch.autograd.grad(out.square().sum(), (values, features))))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_gradcheck(device):
    """Forward mode is tested in test_torch_func.py."""
    values, features = points(7, 2, 2, device, spread=1.0)
    check = partial(gauss_transform, cutoff=0)
    values.requires_grad_()
    features.requires_grad_()
    assert torch.autograd.gradcheck(check, (values, features))
    assert torch.autograd.gradgradcheck(check, (values, features))


def test_order_of_points(device):
    """Every point once, neighbours together, and the way back."""
    generator = torch.Generator().manual_seed(3)
    points_ = torch.rand(2, 1000, 3, generator=generator).to(device)
    order = near_order(points_)
    assert torch.equal(order.sort(1).values[0], torch.arange(1000, device=device))
    near = take_points(points_, order)
    assert torch.equal(take_points(near, inverse_of(order)), points_)
    tiles = near[:, :992].view(2, 62, 16, 3)
    spread = (tiles.amax(2) - tiles.amin(2)).mean()
    assert spread < 0.35  # a sixty-fourth of the cube has an edge of 0.25


def test_opcheck_and_compile(device):
    values, features = points(20, 2, 1, device)
    leaves = [t[None].requires_grad_() for t in (values, features)]
    torch.library.opcheck(transform, (*leaves, 2.0**-24, False))
    grads = [t[None].requires_grad_() for t in (values, values * 2, features)]
    torch.library.opcheck(_features_gradient, (*grads, 0.0, False))
    many, spread = points(300, 3, 2, device)
    compiled = torch.compile(gauss_transform, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(many, spread), gauss_transform(many, spread))


def test_half_is_close(device):
    """float16 products on CUDA, and on the CPU what it always is."""
    values, features = points(300, 5, 21, device, dtype=torch.float32)
    values = values.abs()
    single, half = (transform(values[None], features[None], 0.0, h) for h in (False, True))
    torch.testing.assert_close(half, single, rtol=2e-3, atol=1e-4)
    assert on_cuda(values) or torch.equal(half, single)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"values": [1.0]}, TypeError, "values: expected a torch.Tensor, got list"),
        ({"values": torch.ones(4)}, ValueError, "values: expected 2 or 3 dimensions"),
        ({"values": torch.ones(4, 2).int()}, TypeError, "values: expected dtype"),
        ({"values": torch.ones(4, 0)}, ValueError, "values: expected at least one channel"),
        ({"features": torch.ones(3, 2)}, ValueError, "features: expected one row for each of the"),
        ({"features": torch.ones(1, 4, 2)}, ValueError, "features: expected one row"),
        ({"features": torch.ones(4, 65)}, ValueError, "features: expected 1 to 64 dimensions"),
        ({"features": torch.ones(4, 0)}, ValueError, "features: expected 1 to 64 dimensions"),
        ({"features": torch.ones(4, 2).int()}, TypeError, "features: expected dtype"),
        ({"features": torch.full((4, 2), float("nan"))}, ValueError, "features: expected finite"),
        ({"features": torch.full((4, 2), float("inf"))}, ValueError, "features: expected finite"),
        ({"cutoff": 1.0}, ValueError, "cutoff: expected 0 or more and less than 1, got 1.0"),
        ({"cutoff": -0.1}, ValueError, "cutoff: expected 0 or more and less than 1, got -0.1"),
        ({"cutoff": float("nan")}, ValueError, "cutoff: expected 0 or more"),
        ({"cutoff": "1e-3"}, TypeError, "cutoff: expected a number or None, got str"),
    ],
)
def test_wrong_arguments(change, error, message):
    with pytest.raises(error, match=message):
        gauss_transform(**{"values": torch.ones(4, 2), "features": torch.ones(4, 2), **change})


def test_features_that_are_not_finite_make_an_image_nan_on_cuda(device):
    values, features = points(40, 3, 2, device)
    bad = features.clone()
    bad[3, 1] = float("nan")
    if not on_cuda(values):
        with pytest.raises(ValueError, match="features: expected finite values"):
            gauss_transform(torch.stack((values, values)), torch.stack((features, bad)))
        return
    out = gauss_transform(torch.stack((values, values)), torch.stack((features, bad)))
    assert torch.equal(out[0], gauss_transform(values, features))
    assert out[1].isnan().all()
