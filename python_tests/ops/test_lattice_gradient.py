"""Gradients of the lattice's filter with respect to features, against autograd in float64."""

import pytest
import torch

from deeplab_native import _C, permutohedral_filter
from deeplab_native.ops.lattice_gradient import permutohedral_filter_backward
from deeplab_native.ops.permutohedral import _filter
from python_tests.ops import reference_lattice_gradient as reference


def points(n, d, channels, device="cpu", *, spread=0.7, seed=0):
    """Values (N, C) and a gradient of the filtered ones, features (N, d) exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    new = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)  # noqa: E731
    values, grad, features = new(n, channels), new(n, channels), new(n, d) * spread
    return values.to(device), grad.to(device), features.float().double().to(device)


def expected_of(values, grad, features, transposed=False):
    leaves = [t.detach().cpu().clone().requires_grad_() for t in (values, features)]
    out = reference.Lattice(leaves[1]).filter(leaves[0], transposed)
    return torch.autograd.grad((out * grad.cpu()).sum(), leaves)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 9, 16, 17, 40, 64])
def test_equals_autograd_through_the_weights(d, transposed, device):
    values, grad, features = points(30 if d <= 16 else 8, d, 3, device, seed=d)
    values.requires_grad_()
    features.requires_grad_()
    out = _filter(values, features, transposed, False)
    actual = torch.autograd.grad(out, (values, features), grad)
    for a, e in zip(actual, expected_of(values, grad, features, transposed), strict=True):
        torch.testing.assert_close(a.cpu(), e, rtol=1e-5, atol=1e-5 * float(e.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 2, 4, 5, 8, 21, 24, 33])
def test_any_number_of_channels(channels, dtype, device):
    values, grad, features = points(37, 5, channels, device)
    _, expected = expected_of(values, grad, features)
    leaf = features.to(dtype).requires_grad_()
    out = permutohedral_filter(values.to(dtype), leaf)
    (actual,) = torch.autograd.grad(out, leaf, grad.to(dtype))
    assert actual.dtype == dtype
    tolerance = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(actual.double().cpu(), expected, rtol=1e-4, atol=tolerance)


def test_features_of_each_image_and_shared_ones(device):
    """Those that images share get the sum; any strides."""
    values, grad, features = points(50, 3, 4, device)
    more, its_grad, other = points(50, 3, 4, device, seed=1)
    batch, grads = torch.stack((values, more)), torch.stack((grad, its_grad))
    own = torch.stack((features, other)).mT.contiguous().mT.requires_grad_()
    (actual,) = torch.autograd.grad(permutohedral_filter(batch, own), own, grads)
    for b in range(2):
        _, expected = expected_of(batch[b], grads[b], own[b])
        torch.testing.assert_close(actual[b].cpu(), expected, rtol=1e-5, atol=1e-5)
    shared = features.requires_grad_()
    (actual,) = torch.autograd.grad(permutohedral_filter(batch, shared), shared, grads)
    expected = sum(expected_of(v, g, features)[1] for v, g in zip(batch, grads, strict=True))
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-5, atol=1e-5)


def within_simplices(d, margin, seed=0):
    """Features (N, d) none of which changes its simplex when one of its numbers moves by margin."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for feature in torch.randn(200, d, generator=generator).double() * 0.7:
        moves = [feature, *(feature + s * margin * e for e in torch.eye(d) for s in (-1, 1))]
        simplices = [reference.simplex_of(move) for move in moves]
        kept += [feature] if all(s == simplices[0] for s in simplices) else []
    return torch.stack(kept[:10])


@pytest.mark.parametrize("d", [1, 2, 5])
def test_gradcheck(d, device):
    """A filter is quadratic in the features of a simplex: central differences are exact there.

    Its weights are float32, so the step is a large one.
    """
    step = 2e-2
    features = within_simplices(d, step).to(device)
    values = torch.randn(len(features), 2, dtype=torch.float64, device=device)
    leaves = values.requires_grad_(), features.requires_grad_()
    assert torch.autograd.gradcheck(permutohedral_filter, leaves, eps=step, atol=2e-4, rtol=1e-3)


def test_same_bits_every_time(device):
    values, grad, features = points(500, 5, 21, device)
    values, features = values.float().requires_grad_(), features.float().requires_grad_()
    first, *others = [
        torch.autograd.grad(
            permutohedral_filter(values, features), (values, features), grad.float()
        )
        for _ in range(3)
    ]
    for other in others:
        assert all(map(torch.equal, first, other))


@pytest.mark.parametrize("isa", _C.available_isas())
@pytest.mark.parametrize("threads", [1, 3])
def test_every_instruction_set_and_threads(isa, threads):
    values, grad, features = points(300, 5, 21)
    _, expected = permutohedral_filter_backward(grad, values, features, False, False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        _C.set_isa(isa)
        _, actual = permutohedral_filter_backward(grad, values, features, False, False)
    finally:
        _C.set_isa(_C.available_isas()[-1])
        torch.set_num_threads(before)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def test_opcheck_and_compile(device):
    values, grad, features = points(20, 3, 2, device)
    wanted = values.requires_grad_(), features.requires_grad_()
    torch.library.opcheck(_filter, (*wanted, False, False))
    torch.library.opcheck(
        permutohedral_filter_backward, (grad, values.detach(), features.detach(), False, False)
    )
    compiled = torch.compile(permutohedral_filter, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(permutohedral_filter(*wanted), wanted, grad)
    actual = torch.autograd.grad(compiled(*wanted), wanted, grad)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_no_points(device):
    features = torch.zeros(0, 2, device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(
        permutohedral_filter(torch.zeros(0, 3, device=device), features).sum(), features
    )
    assert grad.shape == (0, 2)


def test_no_second_derivatives_with_features():
    values, _, features = points(10, 2, 2)
    leaves = values.requires_grad_(), features.requires_grad_()
    out = permutohedral_filter(*leaves).square().sum()
    grads = torch.autograd.grad(out, leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="permutohedral_filter: no second derivatives with feat"):
        grads[1].sum().backward()


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # torch's jvp's
def test_no_forward_mode_with_features():
    values, _, features = points(10, 2, 2)
    with pytest.raises(
        NotImplementedError, match="no forward-mode derivative with respect to feat"
    ):
        torch.func.jvp(lambda f: permutohedral_filter(values, f), (features,), (features,))


def test_a_bad_gradient_is_where_it_came_from(device):
    """NaN in one channel of a point: in the features that share vertices with it, no crash."""
    values, grad, features = points(40, 2, 2, device, spread=30.0)
    grad[7, 1] = torch.nan
    leaf = features.requires_grad_()
    (actual,) = torch.autograd.grad(permutohedral_filter(values, leaf), leaf, grad)
    assert actual[7].isnan().all() and actual.isfinite().any()


def test_bad_features_have_no_gradient_on_cuda(cuda_device):
    """To raise would be to wait: NaN of that image, as its result is."""
    values, grad, features = points(40, 3, 2, cuda_device)
    own = features.repeat(3, 1, 1)
    own[1, 17, 2] = torch.inf
    own.requires_grad_()
    out = permutohedral_filter(values.expand(3, -1, -1), own)
    (actual,) = torch.autograd.grad(out, own, grad.expand(3, -1, -1))
    assert actual[1].isnan().all() and actual[::2].isfinite().all()
