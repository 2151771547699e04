"""+inf energies, of -log 0: a label that a pixel cannot have, everywhere by one rule."""

from __future__ import annotations

import pytest
import torch

import deeplab_native as dn
from deeplab_native import pydensecrf
from deeplab_native.ops._dense_crf_batch import features_of
from deeplab_native.ops.crf_params import sigmas_of

PARAMS = dn.CRFParams(4, 30, 20, 3, 3)
SHAPE = 9, 17
FORBIDDING = 1e5  # an energy that no message outweighs, and that has no influence of its own


def given(labels, device, dtype=torch.float32, batch=2):
    """Energies with +inf in places: for all pixels of a region, and here and there."""
    generator = torch.Generator().manual_seed(labels)
    unary = 2 * torch.randn(batch, labels, *SHAPE, generator=generator, dtype=torch.float64)
    image = torch.randint(0, 256, (batch, 3, *SHAPE), generator=generator, dtype=torch.uint8)
    excluded = torch.rand(unary.shape, generator=generator) < 0.3
    excluded[:, 0, :, :8] = True
    excluded[:, labels - 1] = False  # is left everywhere
    unary = unary.masked_fill(excluded, torch.inf)
    return unary.to(device, dtype), image.to(device), excluded.to(device)


def by_crf(unary, image, **how):
    return dn.dense_crf(unary, image, PARAMS, **how)


def by_list(unary, image, **how):
    return torch.stack(dn.dense_crf(list(unary), list(image), PARAMS, **how))


def by_sizes(unary, image, **how):
    return dn.dense_crf(unary, image, PARAMS, sizes=[SHAPE] * len(unary), **how)


def by_kernels(unary, image, iterations=10):
    features = features_of(image, sigmas_of(PARAMS, image.shape))
    gaussian, bilateral = (f.tensor() for f in features)
    kernels = [(gaussian, PARAMS.w2), (bilateral, PARAMS.w1)]
    return dn.mean_field(unary.flatten(2), kernels, iterations=iterations).view(unary.shape)


def by_steps(unary, image, iterations=10):
    field = dn.MeanField.from_image(unary, image, PARAMS)
    q = field.start()
    for _ in range(iterations):
        q = field.step(q)
    return q


SAME_KERNELS = [
    pytest.param(w, marks=pytest.mark.unsanitized) for w in (by_list, by_sizes, by_steps)
]
WAYS = [by_crf, by_kernels, *SAME_KERNELS]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [2, 5, 21, 40])
def test_the_marginal_is_zero_and_the_others_as_if_it_was_forbidden(device, labels, dtype, way):
    unary, image, excluded = given(labels, device, dtype)
    q = way(unary, image, iterations=4)
    assert (q[excluded] == 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones_like(q[:, 0]))
    forbidden = unary.double().masked_fill(excluded, FORBIDDING)
    expected = by_crf(forbidden, image, iterations=4)
    torch.testing.assert_close(q.double(), expected, rtol=0, atol=2e-5)
    assert torch.equal(q, way(unary, image, iterations=4))


@pytest.mark.parametrize("normalization", ["none", "before", "after", "symmetric"])
def test_every_normalization(device, normalization):
    unary, image, excluded = given(5, device)
    q = by_crf(unary, image, iterations=3, normalization=normalization)
    forbidden = unary.double().masked_fill(excluded, FORBIDDING)
    expected = by_crf(forbidden, image, iterations=3, normalization=normalization)
    assert (q[excluded] == 0).all()
    torch.testing.assert_close(q.double(), expected, rtol=0, atol=2e-5)


def test_one_label_that_is_left_has_all(device):
    unary, image, _ = given(5, device)
    unary[:, :4, :, :6] = torch.inf
    left = by_crf(unary, image)[:, 4, :, :6]
    torch.testing.assert_close(left, torch.ones_like(left))


def test_as_in_the_drop_in():
    unary, image, _ = given(5, "cpu")
    q = by_crf(unary, image, iterations=5)
    for u, photo, own in zip(unary, image, q, strict=True):
        crf = pydensecrf.densecrf.DenseCRF2D(SHAPE[1], SHAPE[0], 5)
        crf.setUnaryEnergy(u.flatten(1).numpy())
        crf.addPairwiseGaussian(PARAMS.sigma_gamma, PARAMS.w2)
        rgb = photo.permute(1, 2, 0).contiguous().numpy()
        crf.addPairwiseBilateral(PARAMS.sigma_alpha, PARAMS.sigma_beta, rgb, PARAMS.w1)
        expected = torch.from_numpy(crf.inference(5)).view(own.shape)
        torch.testing.assert_close(own, expected, rtol=0, atol=5e-6)


def test_probabilities_with_zeros_need_no_clipping(device):
    _, image, _ = given(2, device, batch=1)
    probabilities = torch.zeros(1, 2, *SHAPE, device=device)
    probabilities[:, 0, :, :8], probabilities[:, 1, :, 8:] = 1, 1
    torch.testing.assert_close(by_crf(-probabilities.log(), image), probabilities)


def test_the_divergence_is_that_of_the_labels_left(device):
    unary, image, excluded = given(5, device, torch.float64)
    field = dn.MeanField.from_image(unary, image, PARAMS)
    forbidden = dn.MeanField.from_image(
        unary.masked_fill(excluded, FORBIDDING), image, PARAMS
    ).kl_divergence(field.inference(3))
    torch.testing.assert_close(field.kl_divergence(field.inference(3)), forbidden)


def gradients(unary, image, excluded, **how):
    w1 = torch.tensor(4.0, dtype=unary.dtype, device=unary.device, requires_grad=True)
    unary = unary.requires_grad_()
    q = dn.dense_crf(unary, image, dn.CRFParams(w1, 30, 20, 3, 3), iterations=3, **how)
    generator = torch.Generator().manual_seed(1)
    targets = torch.rand(q.shape, generator=generator, dtype=torch.float64).to(q)
    loss = -(targets * torch.where(excluded, 1, q).log()).sum()
    return torch.autograd.grad(loss, (unary, w1))


@pytest.mark.parametrize("scale", [1, 0.5])
def test_gradients_are_zero_there(device, scale):
    unary, image, excluded = given(4, device, torch.float64)
    grad, grad_w1 = gradients(unary, image, excluded, scale=scale)
    assert (grad[excluded] == 0).all() and grad.isfinite().all() and grad.abs().max() > 0.01
    if scale == 1:
        forbidden = unary.detach().masked_fill(excluded, FORBIDDING)
        expected, expected_w1 = gradients(forbidden, image, excluded)
        torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(grad_w1, expected_w1, rtol=1e-9, atol=1e-12)


def test_a_gradient_of_nan_does_not_spread(device):
    """Of cross entropy it is -0 / 0 there."""
    unary, image, excluded = given(4, device, torch.float64)
    q = by_crf(unary.requires_grad_(), image, iterations=2)
    grad = torch.ones_like(q).masked_fill(excluded, torch.nan)
    (grad,) = torch.autograd.grad(q, unary, grad)
    assert grad.isfinite().all()


@pytest.mark.parametrize("scale", [1, 0.5])
def test_gradcheck(device, scale):
    unary, image, excluded = given(3, device, torch.float64, batch=1)
    unary, image, excluded = (t[..., :5, :6] for t in (unary, image, excluded))
    finite = unary[~excluded].clone().requires_grad_()

    def crf(values):
        energies = torch.full_like(unary, torch.inf).masked_scatter(~excluded, values)
        return by_crf(energies, image, iterations=2, scale=scale)

    assert torch.autograd.gradcheck(crf, (finite,))


def test_a_cell_has_the_labels_that_some_of_its_pixels_can_have(device):
    unary, image, excluded = given(5, device)
    q = by_crf(unary, image, scale=0.5, iterations=3)
    assert (q[excluded] == 0).all()
    torch.testing.assert_close(q.sum(1), torch.ones_like(q[:, 0]))
    # energies that are the same in each cell: its mean is that of the pixels that can be it
    u = torch.tensor([1.0, 2.0, 0.5], device=device).view(1, 3, 1, 1).repeat(1, 1, 8, 8)
    photo = torch.full((1, 3, 8, 8), 90, dtype=torch.uint8, device=device)
    whole = by_crf(u, photo, scale=0.5, iterations=2)
    u[0, 0, ::2, ::2] = torch.inf
    part = by_crf(u, photo, scale=0.5, iterations=2)
    torch.testing.assert_close(part[:, :, 1::2], whole[:, :, 1::2])


@pytest.mark.parametrize(
    ("way", "how"),
    [(way, {}) for way in (by_crf, by_list, by_sizes, by_kernels, by_steps)]
    + [(way, {"scale": 0.5}) for way in (by_crf, by_list, by_sizes)],
)
@pytest.mark.parametrize(
    ("value", "labels", "message"),
    [
        (torch.nan, 1, r"finite energies, or \+inf .*, got NaN \(label 1 of pixel 38 of image 1\)"),
        (-torch.inf, 1, r"finite energies, or .*, got -inf \(label 1 of pixel 38 of image 1\)"),
        (
            torch.inf,
            3,
            r"finite energies for at least one label .* all labels of pixel 38 of image 1 \(clip",
        ),
    ],
)
def test_what_is_no_energy(way, how, value, labels, message):
    unary, image, _ = given(3, "cpu")
    unary[1, slice(None) if labels == 3 else 1, 2, 4] = value
    if way in (by_list, by_sizes):
        message = message.replace(" of image 1", "")
    with pytest.raises(ValueError, match=r"unary(\[1\])?: expected " + message):
        way(unary, image, **how)


@pytest.mark.parametrize("labels", [2, 5, 21])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf, torch.inf])
def test_on_cuda_it_is_nan_of_that_image(cuda_device, labels, value):
    unary, image, _ = given(labels, cuda_device)
    expected = by_crf(unary, image, iterations=2)
    broken = unary.clone()
    broken[1, slice(None) if value == torch.inf else 1, 2, 4] = value
    q = by_crf(broken, image, iterations=2)
    assert torch.equal(q[0], expected[0]) and q[1, :, 2, 4].isnan().all()
