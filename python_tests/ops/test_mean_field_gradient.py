"""Gradients of the mean field against autograd in float64: of everything, in constant memory."""

import gc
from functools import partial

import pytest
import torch

import deeplab_native as dn
from deeplab_native.ops import _mean_field_gradient
from deeplab_native.ops._checkpoints import CHECKPOINTS, from_last
from deeplab_native.ops._mean_field_cpu import CpuMeanField
from deeplab_native.ops.mean_field import NORMALIZATIONS
from python_tests.ops import reference_lattice_gradient as reference
from python_tests.ops.test_lattice_gradient import within_simplices
from python_tests.ops.test_mean_field import compatibility

POINTS, LABELS = 27, 3  # no multiple of 4, see Features::like_pydensecrf


def leaves_of(kind, device="cpu", *, batch=2, seed=0):
    """Energies (B, L, N), features (N, 2) and (B, N, 3), two compatibilities, and a gradient."""
    generator = torch.Generator().manual_seed(seed)
    new = partial(torch.randn, generator=generator, dtype=torch.float64)
    features = [f.float().double() for f in (new(POINTS, 2) * 0.7, new(batch, POINTS, 3) * 0.7)]
    compatibilities = [compatibility(kind, LABELS, s) for s in (1, 2)]
    tensors = [new(batch, LABELS, POINTS), *features, *compatibilities]
    grad = new(batch, LABELS, POINTS)
    return [t.to(device).requires_grad_() for t in tensors], grad.to(device)


def inference(leaves, normalization, iterations=3):
    unary, shared, own, first, second = leaves
    kernels = [(shared, first, normalization), (own, second, normalization)]
    return dn.mean_field(unary, kernels, iterations=iterations)


def reference_inference(leaves, normalization, iterations=3):
    unary, shared, own, first, second = leaves
    images = []
    for b in range(len(unary)):
        kernels = [(shared, first, normalization), (own[b], second, normalization)]
        images.append(reference.MeanField(unary[b], kernels).inference(iterations))
    return torch.stack(images)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kind", ["potts", "vector", "matrix"])
def test_equals_autograd_through_everything(kind, normalization, device):
    leaves, grad = leaves_of(kind, device)
    slow = [t.detach().cpu().requires_grad_() for t in leaves]
    actual = torch.autograd.grad(inference(leaves, normalization), leaves, grad)
    expected = torch.autograd.grad(reference_inference(slow, normalization), slow, grad.cpu())
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.cpu(), e, rtol=1e-4, atol=2e-5 * float(e.abs().max()))


@pytest.mark.parametrize("normalization", ["symmetric", "before"])
def test_gradcheck(normalization, device):
    """It is smooth within the simplices; weights and scales are float32, so the step is large."""
    features = within_simplices(2, 2e-2).to(device).requires_grad_()
    unary = torch.randn(1, 2, len(features), dtype=torch.float64, device=device)

    def marginals(features):
        return dn.mean_field(unary, [(features, 2.0, normalization)], iterations=2)

    assert torch.autograd.gradcheck(marginals, features, eps=1e-2, atol=5e-4, rtol=1e-3)


@pytest.mark.parametrize("some", [[0], [1], [2], [1, 3], [4]])
def test_only_what_is_asked_for(some, device):
    leaves, grad = leaves_of("vector", device)
    expected = torch.autograd.grad(inference(leaves, "symmetric"), leaves, grad)
    fewer = [t if i in some else t.detach() for i, t in enumerate(leaves)]
    wanted = [leaves[i] for i in some]
    actual = torch.autograd.grad(inference(fewer, "symmetric"), wanted, grad)
    for i, a in zip(some, actual, strict=True):
        torch.testing.assert_close(a, expected[i], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("checkpoints", [1, 2, 20])
def test_same_bits_however_many_marginals_are_kept(checkpoints, device, monkeypatch):
    leaves, grad = leaves_of("potts", device)
    results = []
    for kept in (CHECKPOINTS, checkpoints):
        few = partial(from_last, checkpoints=kept)
        monkeypatch.setattr(_mean_field_gradient, "from_last", few)
        results.append(torch.autograd.grad(inference(leaves, "symmetric", 9), leaves, grad))
    assert all(map(torch.equal, *results))


def test_same_bits_every_time_and_in_any_batch(device):
    leaves, grad = leaves_of("potts", device, batch=3)
    own = [0, 2]  # what each image has a gradient of its own of
    first, again = (
        torch.autograd.grad(inference(leaves, "symmetric"), leaves, grad) for _ in range(2)
    )
    assert all(map(torch.equal, first, again))
    alone = [t[1:2].detach().requires_grad_() if i in own else t for i, t in enumerate(leaves)]
    one = torch.autograd.grad(inference(alone, "symmetric"), alone, grad[1:2])
    assert all(torch.equal(one[i][0], first[i][1]) for i in own)


def test_memory_does_not_grow_with_the_iterations(monkeypatch):
    """Tensors of the marginals' size that live while a step is undone."""
    most = {}

    def count(method):
        def counting(self, *args, **named):
            result = method(self, *args, **named)
            shapes = [o.shape for o in gc.get_objects() if type(o) is torch.Tensor]
            most[iterations] = max(most[iterations], shapes.count((1, LABELS, POINTS)))
            return result

        return counting

    leaves, grad = leaves_of("potts", batch=1)
    for name in ("step", "filter_gradient"):
        monkeypatch.setattr(CpuMeanField, name, count(getattr(CpuMeanField, name)))
    for iterations in (12, 40):
        most[iterations] = 0
        torch.autograd.grad(inference(leaves, "symmetric", iterations), leaves, grad)
        gc.collect()
    assert most[12] == most[40] <= CHECKPOINTS + 2 + 12  # of the step, the call and this test


def test_a_nan_gradient_stays_in_its_image(device):
    leaves, grad = leaves_of("potts", device)
    grad[1, 0, 3] = torch.nan
    grads = torch.autograd.grad(inference(leaves, "symmetric"), leaves, grad)
    assert grads[0][0].isfinite().all() and grads[2][0].isfinite().all()
    assert grads[0][1].isnan().any() and grads[2][1].isnan().any()
    assert all(grads[i].isnan().any() for i in (1, 3, 4))  # what the images share


def test_excluded_labels_have_no_gradient(device):
    leaves, grad = leaves_of("potts", device)
    unary = leaves[0].detach().clone()
    unary[0, 1, ::2] = torch.inf
    leaves[0] = unary.requires_grad_()
    grads = torch.autograd.grad(inference(leaves, "symmetric"), leaves, grad)
    assert all(g.isfinite().all() for g in grads)
    assert (grads[0][0, 1, ::2] == 0).all()
