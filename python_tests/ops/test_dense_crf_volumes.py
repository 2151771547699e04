"""The CRF of volumes: features of z, y, x and channels, spacing, batches, scale and gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import deeplab_native as dn
from deeplab_native.ops._cells import Cells
from deeplab_native.ops._dense_crf_images import _backward_op as images_backward
from deeplab_native.ops._dense_crf_images import dense_crf_of_images
from deeplab_native.ops.dense_crf import _dense_crf_backward
from python_tests.ops import reference_crf
from python_tests.ops.test_dense_crf_channels import by_hand, features_by_hand, problem, same

SIZE = 4, 5, 7
PARAMS = dn.CRFParams(3, 5, 40, 2, 1.5)
NORMALIZATIONS = ["none", "before", "after", "symmetric"]
SMALL = dn.CRFParams(0.3, 5, 40, 0.2, 1.5)  # without normalization sums are large


def volume(channels=1, device="cpu", size=SIZE, dtype=torch.uint8):
    return problem(channels, device, size, dtype)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_equals_its_kernels(normalization, device):
    unary, image = volume(2, device)
    p = SMALL if normalization == "none" else PARAMS
    how = {"iterations": 3, "normalization": normalization}
    q = dn.dense_crf(unary, image, p, **how)
    sigmas = [p.sigma_alpha] * 3, [p.sigma_beta] * 2, p.w2, [p.sigma_gamma] * 3
    same(q, by_hand(unary, image, p.w1, *sigmas, **how))
    steps = dn.MeanField.from_image(unary, image, p, normalization=normalization)
    assert torch.equal(steps.inference(3), q) and steps.start().shape == unary.shape


def test_reference(device):
    """The slow lattice in float64, one image after the other."""
    unary, image = volume(1, device, (3, 4, 6))
    q = dn.dense_crf(unary.double(), image, PARAMS, iterations=3)
    for b in range(2):
        gaussian = features_by_hand(image[:1, :0], [1.5] * 3, ())[0].cpu().numpy()
        bilateral = features_by_hand(image, [5] * 3, [40])[b].cpu().numpy()
        kernels = [(gaussian, 2, "symmetric"), (bilateral, 3, "symmetric")]
        crf = reference_crf.MeanField(unary[b].flatten(1).cpu().numpy(), kernels)
        expected = crf.inference(3).reshape(q.shape[1:])
        np.testing.assert_allclose(q[b].cpu().numpy(), expected, rtol=0, atol=5e-5)


def test_same_results_as_pydensecrf(device):
    """Its general energy with features of `utils.create_pairwise_bilateral`.

    585 voxels, no multiple of 4, and so with the vertices of its last vector.
    """
    with np.load(Path(__file__).parents[1] / "pydensecrf" / "recorded_volume.npz") as data:
        image, unary, expected = (
            torch.from_numpy(data[k]).to(device) for k in ("image", "unary", "q")
        )
    params = dn.CRFParams(4, (2.5, 5, 4), (20, 13), 2, (0.75, 1.5, 2))
    q = dn.dense_crf(unary[None], image.movedim(-1, 0)[None], params, iterations=5)[0]
    assert (q - expected).abs().max() <= 5e-5
    assert torch.equal(q.argmax(0), expected.argmax(0))
    assert (q.argmax(0) != unary.argmin(0)).float().mean() > 0.1
    in_mm = dn.CRFParams(4, 10, (20, 13), 2, (3, 3, 5))
    how = {"iterations": 5, "spacing": (4, 2, 2.5)}
    assert torch.equal(dn.dense_crf(unary[None], image.movedim(-1, 0)[None], in_mm, **how)[0], q)


def exact(unary, image, params, spacing, iterations):
    """The fully connected CRF itself: every voxel with every other one, (L, N) float64."""
    kernels = []
    alpha, gamma = (np.full(3, s) / spacing for s in (params.sigma_alpha, params.sigma_gamma))
    for w, features in (
        (params.w2, features_by_hand(image[:, :0], gamma, ())[0]),
        (params.w1, features_by_hand(image, alpha, [params.sigma_beta])[0]),
    ):
        f = features.double()
        k = torch.exp(-0.5 * torch.cdist(f, f) ** 2)
        mass = k.sum(1).rsqrt()
        kernels.append(w * mass[:, None] * k * mass)
    u = unary[0].flatten(1).double()
    q = torch.softmax(-u, 0)
    for _ in range(iterations):
        q = torch.softmax(-u + sum(q @ k for k in kernels), 0)
    return q.view(unary.shape[1:])


def smooth_scan(size, spacing, seed=0):
    """A ball in noise, and energies that are unsure of it: (1, 2, ...) and (1, 1, ...)."""
    generator = torch.Generator().manual_seed(seed)
    axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing, strict=True)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    ball = (z**2 + y**2 + x**2).sqrt() < 6
    image = 80 + 90 * ball + 12 * torch.randn(size, generator=generator)
    logit = (ball.float() - 0.5) * 2 + 1.5 * torch.randn(size, generator=generator)
    p = torch.sigmoid(logit)
    unary = -torch.stack((1 - p, p)).log()
    return unary[None], image.clamp(0, 255)[None, None], ball


def test_near_the_exact_crf():
    """Of anisotropic voxels: labels of nearly all, and the ball found out of noise."""
    size, spacing = (8, 16, 16), (2.5, 1.0, 1.0)
    unary, image, ball = smooth_scan(size, spacing)
    params = dn.CRFParams(8, 4, 25, 3, 1.5)
    q = dn.dense_crf(unary, image, params, iterations=5, spacing=spacing)
    expected = exact(unary, image, params, spacing, 5)
    assert (q[0].argmax(0) != expected.argmax(0)).float().mean() < 0.01
    wrong = (unary[0].argmin(0) != ball).float().mean()
    assert (q[0].argmax(0) != ball).float().mean() < 0.05 * wrong
    isotropic = dn.dense_crf(unary, image, params, iterations=5)
    assert (isotropic - q).abs().mean() > 1e-4


def test_spacing_divides_sigmas(device):
    """Sigmas in millimetres, one or one for each axis; also of images."""
    unary, image = volume(1, device)
    q = dn.dense_crf(unary, image, PARAMS, iterations=2, spacing=(2.5, 0.5, 0.75))
    alpha, gamma = ([s / 2.5, s / 0.5, s / 0.75] for s in (5, 1.5))
    in_voxels = dn.CRFParams(3, alpha, 40, 2, gamma)
    assert torch.equal(q, dn.dense_crf(unary, image, in_voxels, iterations=2))
    same(q, by_hand(unary, image, 3, alpha, [40], 2, gamma, iterations=2))
    each = dn.CRFParams(3, (5, 4, 3), 40, 2, (1.5, 1, 2))
    q = dn.dense_crf(unary, image, each, iterations=2, spacing=[2.5, 0.5, 0.75])
    expected = by_hand(unary, image, 3, [2, 8, 4], [40], 2, [0.6, 2, 2 / 0.75], iterations=2)
    same(q, expected)
    steps = dn.MeanField.from_image(unary, image, each, spacing=[2.5, 0.5, 0.75])
    assert torch.equal(steps.inference(2), q)
    unary, image = problem(3, device)
    halved = dn.dense_crf(unary, image, dn.CRFParams(3, 4, 40, 2, 1), iterations=2, spacing=0.5)
    assert torch.equal(
        halved, dn.dense_crf(unary, image, dn.CRFParams(3, 8, 40, 2, 2), iterations=2)
    )


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_batch_list_and_sizes_are_single_volumes(scale, device):
    unary, image = volume(2, device)
    how = {"iterations": 2, "scale": scale, "spacing": (2, 1, 1)}
    q = dn.dense_crf(unary, image, PARAMS, **how)
    for b in range(2):
        assert torch.equal(dn.dense_crf(unary[b : b + 1], image[b : b + 1], PARAMS, **how)[0], q[b])
    small = unary[1, :, :2, :3], image[1, :, :2, :3]
    alone = dn.dense_crf(small[0][None], small[1][None], PARAMS, **how)
    of_list = dn.dense_crf([unary[:1], small[0]], [image[0], small[1][None]], PARAMS, **how)
    assert torch.equal(of_list[0], q[:1]) and torch.equal(of_list[1], alone[0])
    sizes = torch.tensor([SIZE, (2, 3, 7)])
    unary, image = unary.clone(), image.float()
    unary[1, :, 2:], unary[1, :, :, 3:], image[1, :, 2:] = torch.nan, torch.inf, torch.nan
    image[1, :, :, 3:] = torch.nan
    padded = dn.dense_crf(unary, image, PARAMS, sizes=sizes, **how)
    assert torch.equal(padded[0], q[0])
    assert torch.equal(padded[1, :, :2, :3], alone[0])
    assert padded[1, :, 2:].abs().sum() == 0 and padded[1, :, :, 3:].abs().sum() == 0


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_scale_is_that_of_cells(normalization, device):
    """Coarse updates on boxes of voxels, enlarged trilinearly, and one update of all."""
    unary, image = volume(1, device)
    unary, p = unary.double(), SMALL if normalization == "none" else PARAMS
    q = dn.dense_crf(unary, image, p, iterations=3, scale=0.5, normalization=normalization)
    features = [
        features_by_hand(image[:, :0], [p.sigma_gamma] * 3, ()),
        features_by_hand(image, [p.sigma_alpha] * 3, [p.sigma_beta]),
    ]
    cells = Cells(SIZE, 0.5).cells
    assert cells == (2, 2, 4)
    means = [functional.adaptive_avg_pool3d(f.mT.unflatten(2, SIZE), cells) for f in features]
    factor = np.prod(SIZE) / np.prod(cells) if normalization == "none" else 1
    weights = p.w2, p.w1
    coarse = dn.mean_field(
        functional.adaptive_avg_pool3d(unary, cells).flatten(2),
        [
            (m.flatten(2).mT.contiguous(), w * factor, normalization)
            for m, w in zip(means, weights, strict=True)
        ],
        iterations=2,
    )
    enlarged = functional.interpolate(coarse.unflatten(2, cells), SIZE, mode="trilinear")
    kernels = [(f, w, normalization) for f, w in zip(features, weights, strict=True)]
    expected = dn.MeanField(unary.flatten(2), kernels).step(enlarged.flatten(2))
    torch.testing.assert_close(q.flatten(2), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_gradcheck(scale, device):
    unary, image = volume(1, device, (2, 3, 4))
    unary = unary[:1, :2].double().requires_grad_()
    w1, w2 = (unary.new_tensor(w, requires_grad=True) for w in (3.0, 2.0))

    def crf(unary, w1, w2):
        params = dn.CRFParams(w1, 5, 40, w2, 1.5)
        return dn.dense_crf(unary, image[:1], params, iterations=2, scale=scale, spacing=(2, 1, 1))

    assert torch.autograd.gradcheck(crf, (unary, w1, w2))


def test_vmap_and_func_grad(device):
    """Samples are a batch."""
    unary, image = volume(1, device, (2, 3, 4))

    def loss(u, i):
        return dn.dense_crf(u[None], i[None], PARAMS, iterations=2, spacing=2)[0].square().sum()

    grads = torch.func.vmap(torch.func.grad(loss))(unary, image)
    for u, i, grad in zip(unary, image, grads, strict=True):
        leaf = u.clone().requires_grad_()
        torch.testing.assert_close(grad, torch.autograd.grad(loss(leaf, i), leaf)[0])


def test_opcheck_and_compile(device):
    unary, image = volume(2, device, (2, 3, 4))
    unary = unary[:, :2].double().requires_grad_()
    w1, w2 = (unary.new_tensor(w, requires_grad=True) for w in (3.0, 2.0))
    sigmas = [1.5] * 3 + [5.0, 4.0, 3.0] + [40.0, 30.0]
    how = sigmas, 3, 2
    op = torch.ops.deeplab_native.dense_crf.default
    torch.library.opcheck(op, (unary, image, [w2, w1], *how, 1.0, False, False))
    detached = unary.detach(), image, [w2.detach(), w1.detach()]
    torch.library.opcheck(_dense_crf_backward, (unary.detach(), *detached, *how, True, 1.0, False))
    lists = list(unary.detach()), list(image), [w2.detach(), w1.detach()]
    torch.library.opcheck(dense_crf_of_images, (*lists, *how, 1.0, False, False))
    torch.library.opcheck(images_backward, (lists[0], *lists, *how, True, 1.0, False))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(unary):
        return dn.dense_crf(unary, image, PARAMS, iterations=2, spacing=(2.0, 1.0, 1.0))

    plain = dn.dense_crf(unary, image, PARAMS, iterations=2, spacing=(2, 1, 1))
    assert torch.equal(compiled(unary), plain)
    (grad,) = torch.autograd.grad(compiled(unary).square().sum(), unary)
    torch.testing.assert_close(grad, torch.autograd.grad(plain.square().sum(), unary)[0])


def test_flat_and_empty_volumes(device):
    """One slice; none; a volume that is one voxel."""
    unary, image = volume(1, device, (1, 6, 9))
    q = dn.dense_crf(unary, image, PARAMS, iterations=3)
    same(q, by_hand(unary, image, 3, [5] * 3, [40], 2, [1.5] * 3, iterations=3))
    for size in ((0, 3, 4), (3, 0, 4), (3, 4, 0)):
        empty = volume(1, device, size)
        assert dn.dense_crf(*empty, PARAMS).shape == (2, 3, *size)
        assert dn.dense_crf(*empty, PARAMS, scale=0.5).shape == (2, 3, *size)
    one = volume(1, device, (1, 1, 1))
    q = dn.dense_crf(*one, PARAMS)
    assert torch.equal(q.argmax(1), one[0].argmin(1))
    assert dn.dense_crf(one[0][:0], one[1][:0], PARAMS).shape == (0, 3, 1, 1, 1)


U, SCAN = volume(1)


@pytest.mark.parametrize(
    ("unary", "image", "how", "error", "message"),
    [
        (U, SCAN[:, 0], {}, ValueError, r"image: expected 5 dimensions \(B, C, D, H, W\)"),
        (
            U,
            SCAN.mT,
            {},
            ValueError,
            r"image: expected shape \(2, C, 4, 5, 7\) .* \(2, 1, 4, 7, 5\)",
        ),
        (U, SCAN.expand(2, 62, *SIZE), {}, ValueError, "1 to 61 channels of a volume, got 62"),
        (U[0, 0], SCAN, {}, ValueError, r"image: expected 3 dimensions \(C, H, W\) for a unary"),
        (U, SCAN, {"spacing": (1, 1)}, ValueError, "spacing: .* each of the 3 axes, got 2"),
        (U, SCAN, {"spacing": (1, 0, 1)}, ValueError, "spacing: expected a positive number"),
        (U, SCAN, {"spacing": float("nan")}, ValueError, "spacing: .*positive number.* got nan"),
        (U, SCAN, {"spacing": "1"}, TypeError, "spacing: expected a number, got str"),
        (U, SCAN, {"spacing": (1, None, 1)}, TypeError, r"spacing\[1\]: expected a number"),
        (U, SCAN, {"sizes": [(4, 5), (4, 5)]}, TypeError, r"sizes\[0\]: expected \(depth, height"),
        (U, SCAN, {"sizes": [SIZE, (5, 5, 7)]}, ValueError, r"sizes\[1\]: .* got \(5, 5, 7\)"),
        (U, SCAN + torch.nan, {}, ValueError, "image: expected finite values"),
        (U / 0, SCAN, {}, ValueError, "unary: expected finite energies"),
        (U, SCAN, {"spacing": 1e7}, ValueError, "too large for the lattice .*larger sigmas"),
        ([U[0], U[1]], [SCAN[0], SCAN[1, 0]], {}, ValueError, r"image\[1\]: .* is a volume"),
        ([U[0], U[1, :, 0]], [SCAN[0], SCAN[1, :, 0]], {}, ValueError, r"image\[1\]: .* as image"),
    ],
)
def test_bad_input(unary, image, how, error, message):
    with pytest.raises(error, match=message):
        dn.dense_crf(unary, image, PARAMS, iterations=1, **how)
