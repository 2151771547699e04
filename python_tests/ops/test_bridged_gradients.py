"""Gradients through `lattice="bridged"`: the transposed filter, and those of features."""

from __future__ import annotations

import pytest
import torch

import deeplab_native as dn
from deeplab_native.ops.permutohedral import _filter
from python_tests.ops import reference_lattice_gradient as gradients
from python_tests.ops.test_bridged import bridged_filter, points


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_gradients(scale, photo_on):
    """Of the unary and the weights, against differences of what is computed."""
    unary, image, params = photo_on
    unary = unary[:1, :, :12, :10].double().requires_grad_()
    image = image[:1, :, :12, :10]
    weights = [torch.tensor(w, dtype=torch.float64, device=unary.device) for w in (4.0, 3.0)]
    for w in weights:
        w.requires_grad_()

    def total(unary, w1, w2):
        changed = dn.CRFParams(w1, params.sigma_alpha, params.sigma_beta, w2, params.sigma_gamma)
        how = {"iterations": 3, "scale": scale, "lattice": "bridged"}
        q = dn.dense_crf(unary, image, changed, **how)
        return (q * torch.arange(q.numel(), device=q.device).view_as(q).sin()).sum()

    grads = torch.autograd.grad(total(unary, *weights), [unary, *weights])
    step = 1e-5
    with torch.no_grad():
        for grad, w, others in zip(grads[1:], (0, 1), (1, 0), strict=True):
            moved = []
            for sign in (1, -1):
                both = list(weights)
                both[w] = weights[w] + sign * step
                both[others] = weights[others]
                moved.append(total(unary, *both))
            assert abs((moved[0] - moved[1]) / (2 * step) - grad) < 1e-4 * grad.abs() + 1e-6
        direction = torch.randn_like(unary)
        change = total(unary + step * direction, *weights)
        change = (change - total(unary - step * direction, *weights)) / (2 * step)
        expected = (grads[0] * direction).sum()
        assert (change - expected).abs() < 1e-4 * expected.abs() + 1e-6


@pytest.mark.parametrize("d", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_features(d, transposed, device):
    values, features = points(30, d, device, spread=0.7, seed=d)
    grad = points(30, d, device, seed=d + 1)[0]
    features = features.double()
    leaves = [t.cpu().clone().requires_grad_() for t in (values, features)]
    slow = gradients.Lattice(leaves[1], bridged=True).filter(leaves[0], transposed)
    expected = torch.autograd.grad((slow * grad.cpu()).sum(), leaves)
    wanted = [t.requires_grad_() for t in (values, features)]
    actual = torch.autograd.grad(_filter(*wanted, transposed, True), wanted, grad)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.cpu(), e, rtol=1e-5, atol=1e-5 * float(e.abs().max()))


def test_gradients_of_sigmas(photo_on):
    """They are those of the features that torch makes, with the normalisation."""
    unary, image, _ = photo_on
    unary, image = unary[:1, :, :9, :7].double(), image[:1, :, :9, :7]
    sigmas = [torch.tensor(s, dtype=torch.float64, device=unary.device) for s in (30, 20, 3)]
    for sigma in sigmas:
        sigma.requires_grad_()

    def total(alpha, beta, gamma, kind="bridged"):
        q = dn.dense_crf(unary, image, dn.CRFParams(4, alpha, beta, 3, gamma), lattice=kind)
        return (q * torch.arange(q.numel(), device=q.device).view_as(q).sin()).sum()

    grads = torch.autograd.grad(total(*sigmas), sigmas)
    standard = torch.autograd.grad(total(*sigmas, "standard"), sigmas)
    assert all(g.isfinite() and g != 0 and g != s for g, s in zip(grads, standard, strict=True))
    numbers = [s.detach().item() for s in sigmas]
    assert torch.equal(total(*numbers), total(*sigmas).detach())


def test_adjoint(device):
    a, features = points(80, 5, device, spread=1.0)
    b, _ = points(80, 5, device, seed=1)
    values = a.clone().requires_grad_()
    (grad,) = torch.autograd.grad(bridged_filter(values, features), values, b)
    torch.testing.assert_close((grad * a).sum(), (bridged_filter(a, features) * b).sum())
    torch.library.opcheck(
        torch.ops.deeplab_native.permutohedral_filter.default, (values, features, False, True)
    )
