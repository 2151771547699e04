"""The dense CRF loss against the lattice as a matrix, the exact kernel, the authors' formula."""

import pytest
import torch
import torch.nn.functional as F

from deeplab_native.ops import dense_crf_loss as module
from deeplab_native.ops.dense_crf_loss import _dense_crf_loss, dense_crf_loss
from python_tests.ops.lattice_matrix import (
    HEIGHT,
    LABELS,
    SIGMAS,
    WIDTH,
    energies,
    exact_matrices,
    lattice_matrices,
    picture,
)

close = torch.testing.assert_close


def masks(device="cpu"):
    """(roi, labels): a crop whose right column is padding, and a few pixels with labels."""
    roi = torch.ones(2, HEIGHT, WIDTH)
    roi[:, :, -1] = 0
    labels = torch.full((2, HEIGHT, WIDTH), 255)
    labels[0, 1, :4], labels[1, :, 2] = 1, 0
    return roi.to(device), labels.to(device)


def gate_of(probabilities, roi, labels):
    """What of a row counts, as the code of Zhang et al. (AAAI 2020) has it."""
    gate = (roi - probabilities.detach().amax(1)).clamp_min(0)
    return torch.where(labels == 255, torch.ones_like(gate), gate)


def gradient_of(loss, probabilities):
    (found,) = torch.autograd.grad(loss, probabilities)
    return found.cpu()


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("masked", ["", "roi", "labels", "roi and labels"])
def test_value_and_gradient_are_those_of_the_lattice(masked, constant, device):
    image, probabilities = picture(device)
    roi, labels = masks(device)
    given = {
        "roi": roi if "roi" in masked else None,
        "labels": labels if "labels" in masked else None,
    }
    s = probabilities.requires_grad_()
    loss = dense_crf_loss(image, s, **given, constant=constant, **SIGMAS)
    own = probabilities.detach().cpu().requires_grad_()
    r = (roi.cpu() if "roi" in masked else torch.ones(2, HEIGHT, WIDTH)).double()
    gate = gate_of(own, r, labels.cpu()) if "labels" in masked else None
    matrices = lattice_matrices(image, **SIGMAS)
    expected = energies(matrices, (own, r[:, None]), gate=gate, constant=constant).sum() / 2
    close(loss.cpu(), expected, rtol=1e-6, atol=1e-6)
    close(gradient_of(loss, s), gradient_of(expected, own), rtol=1e-5, atol=1e-5)


def test_its_gradient_is_not_that_of_a_symmetric_filter():
    """-2 K S, as the authors' code has it, is off by what the lattice lacks in symmetry."""
    image, s = picture()
    matrices = lattice_matrices(image, **SIGMAS)
    loss = dense_crf_loss(image, s.requires_grad_(), constant=False, reduction="sum", **SIGMAS)
    ours = gradient_of(loss, s).flatten(2)
    flat = s.detach().flatten(2)
    close(ours, -(flat @ (matrices + matrices.mT)), rtol=1e-5, atol=1e-5)
    theirs = -2 * flat @ matrices.mT
    error = (ours - theirs).norm() / theirs.norm()
    assert 1e-4 < error < 0.05
    close((theirs * flat).sum(), (ours * flat).sum(), rtol=1e-5, atol=1e-5)


def test_agrees_with_the_published_code():
    """Formula of rloss: sizes, masks, sign and batch; the gradient up to the filter's asymmetry."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (2, 3, 2 * HEIGHT, 2 * WIDTH), generator=generator).float()
    image = F.avg_pool2d(image, 3, 1, 1)
    s = torch.randn(2, LABELS, 2 * HEIGHT, 2 * WIDTH, generator=generator).double().softmax(1)
    roi = torch.ones(2, 2 * HEIGHT, 2 * WIDTH)
    roi[:, 9:] = 0
    small_image = F.interpolate(image, scale_factor=0.5)
    leaf = s.clone().requires_grad_()
    small = F.interpolate(leaf, scale_factor=0.5, mode="bilinear", align_corners=False)
    small_roi = F.interpolate(roi[:, None], scale_factor=0.5).double()
    matrices = lattice_matrices(small_image, 6.0 * 0.5, 40.0)
    inside = (small * small_roi).flatten(2)
    filtered = inside.detach() @ matrices.mT
    value = -(inside.detach() * filtered).sum() / 2
    theirs = torch.autograd.grad(inside, leaf, -2 * filtered / 2)[0]
    ours = s.clone().requires_grad_()
    how = {"scale_factor": 0.5, "constant": False, **SIGMAS}
    loss = dense_crf_loss(image, ours, roi, **how)
    close(loss, value, rtol=1e-5, atol=1e-5)
    found = gradient_of(loss, ours)
    assert (found - theirs).norm() < 0.05 * theirs.norm()
    # with the constant the gradient differs by what all labels of a pixel share
    shared = found - gradient_of(dense_crf_loss(image, ours, roi, **how | {"constant": True}), ours)
    close(shared, shared[:, :1].expand_as(shared), rtol=1e-6, atol=1e-6)


def test_close_to_the_exact_kernel():
    """Smooth colours, so that few neighbours are missing."""
    y, x = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    image = torch.stack([100 + 2 * x, 90 + 2 * y, 80 + x + y])[None].to(torch.uint8)
    s = torch.randn(1, LABELS, 24, 24, dtype=torch.float64).mul(2).softmax(1).requires_grad_()
    sigmas = {"sigma_xy": 12.0, "sigma_rgb": 60.0}
    loss = dense_crf_loss(image, s, **sigmas)
    own = s.detach().clone().requires_grad_()
    exact = energies(exact_matrices(image, **sigmas), (own, torch.ones(1, 1, 24, 24))).sum()
    assert 0.3 < loss / exact < 1  # the lattice's mass at d = 5 is about half
    gradients = gradient_of(loss, s), gradient_of(exact, own)
    ours, reference = (g.sub(g.mean(1, keepdim=True)).flatten() for g in gradients)
    assert torch.cosine_similarity(ours, reference, 0) > 0.99


def test_normalized_cut(device):
    image, s = picture(device)
    s = torch.cat([s, torch.zeros_like(s[:, :1])], 1).requires_grad_()  # one that no pixel has
    roi, _ = masks(device)
    loss = dense_crf_loss(image, s, roi, normalized_cut=True, reduction="none", **SIGMAS)
    own, r = s.detach().cpu().requires_grad_(), roi.cpu().double()[:, None]
    matrices = lattice_matrices(image, **SIGMAS)
    cuts = energies(matrices, (own, r))[:, :LABELS]
    inside = (own * r).flatten(2)[:, :LABELS]
    expected = (cuts / torch.einsum("bki,bij,bj->bk", inside, matrices, r.flatten(1))).sum(1)
    close(loss.cpu(), expected, rtol=1e-6, atol=1e-6)
    assert ((expected > 0) & (expected < LABELS - 1)).all()
    found, wanted = (
        gradient_of(x.sum(), leaf)[:, :LABELS] for x, leaf in ((loss, s), (expected, own))
    )
    close(found, wanted, rtol=1e-5, atol=1e-7)
    assert gradient_of(dense_crf_loss(image, s, normalized_cut=True), s).isfinite().all()


def test_segments_that_follow_colours_cost_less():
    image, _ = picture()
    half = F.one_hot((torch.arange(WIDTH) >= WIDTH // 2).long(), LABELS).T.double()
    along = half[None, :, None].expand(2, -1, HEIGHT, -1)
    across = along.roll(2, 3)
    one = torch.zeros_like(along)
    one[:, 0] = 1
    sigmas = {"sigma_xy": 6.0, "sigma_rgb": 120.0}
    costs = [dense_crf_loss(image, s, **sigmas) for s in (one, along, across)]
    assert 0 == costs[0] < costs[1] < costs[2] / 3


def test_pixels_outside_of_the_region_have_no_gradient(device):
    image, s = picture(device)
    roi, _ = masks(device)
    gradient = gradient_of(dense_crf_loss(image, s.requires_grad_(), roi, **SIGMAS), s)
    assert (gradient[..., -1] == 0).all() and (gradient[..., :-1] != 0).all()
    other = s.detach().clone()
    other[..., -1] = 0.9
    close(*(dense_crf_loss(image, x, roi, **SIGMAS) for x in (s, other)), rtol=0, atol=0)


def test_gradcheck(device):
    image, s = picture(device)
    roi, labels = masks(device)
    rows = gate_of(s, roi, labels).double()

    def gated(values):  # the gate, a constant, does not move
        return _dense_crf_loss(values, roi.double(), rows, image, [6.0, 6.0, 40.0, 40.0, 40.0])

    def cut(values):
        return dense_crf_loss(image, values, roi, normalized_cut=True, **SIGMAS)

    s = s.requires_grad_()
    for function in (gated, cut):
        assert torch.autograd.gradcheck(function, s, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, s, fast_mode=True)


def test_the_way_back_filters_nothing(monkeypatch):
    calls = []
    original = module.pixel_filters
    monkeypatch.setattr(module, "pixel_filters", lambda *a: calls.append(1) or original(*a))
    image, s = picture()
    loss = dense_crf_loss(image, s.requires_grad_(), **SIGMAS)
    assert len(calls) == 1
    loss.backward()
    assert len(calls) == 1


def test_reductions_and_single_images(device):
    image, s = picture(device, batch=3)
    each = dense_crf_loss(image, s, reduction="none", **SIGMAS)
    assert each.shape == (3,) and each.dtype == torch.float64
    close(dense_crf_loss(image, s, **SIGMAS), each.mean(), rtol=0, atol=0)
    close(dense_crf_loss(image, s, reduction="sum", **SIGMAS), each.sum(), rtol=0, atol=0)
    alone = [dense_crf_loss(image[b : b + 1], s[b : b + 1], **SIGMAS) for b in range(3)]
    close(torch.stack(alone), each, rtol=0, atol=0)
    sum_ = dense_crf_loss(image, s.requires_grad_(), reduction="sum", **SIGMAS)
    one = s[1:2].detach().clone().requires_grad_()
    of_one = gradient_of(dense_crf_loss(image[1:2], one, **SIGMAS), one)
    close(gradient_of(sum_, s)[1:2], of_one, rtol=0, atol=0)


def test_of_no_images(device):
    image, s = picture(device)
    none = s[:0].requires_grad_()
    assert dense_crf_loss(image[:0], none, reduction="sum", **SIGMAS) == 0
    assert dense_crf_loss(image[:0], none, reduction="none", **SIGMAS).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype, device):
    image, s = picture(device)
    s = s.to(dtype).requires_grad_()
    loss = dense_crf_loss(image, s, **SIGMAS)
    assert loss.dtype == torch.float32
    gradient = torch.autograd.grad(loss, s)[0]
    assert gradient.dtype == dtype
    wide = s.detach().double().requires_grad_()
    expected = dense_crf_loss(image, wide, **SIGMAS)
    close(loss.double(), expected, rtol=1e-5, atol=0)
    expected = torch.autograd.grad(expected, wide)[0].to(dtype)
    close(gradient, expected, rtol=2 * torch.finfo(dtype).eps + 1e-5, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_images_of_other_ranges_and_channels(channels, device):
    image, s = picture(device, channels=channels)
    expected = dense_crf_loss(image, s, **SIGMAS)
    close(dense_crf_loss(image.double(), s, **SIGMAS), expected)
    unit = dense_crf_loss(image.double() / 255, s, image_range=(0, 1), **SIGMAS)
    wide = dense_crf_loss(image.int() * 257, s, image_range=(0, 65535), **SIGMAS)
    close(unit, expected, rtol=1e-4, atol=0)
    close(wide, expected, rtol=1e-4, atol=0)
    several = {"sigma_xy": (6.0, 6.0), "sigma_rgb": [40.0] * channels}
    close(dense_crf_loss(image, s, **several), expected, rtol=0, atol=0)


def test_volumes(device):
    image, s = picture(device)
    scan, map_ = image.unflatten(2, (2, 3)), s.unflatten(2, (2, 3)).requires_grad_()
    loss = dense_crf_loss(scan, map_, scale_factor=0.9, **SIGMAS | {"sigma_xy": (9, 6, 6)})
    assert loss > 0 and gradient_of(loss, map_).isfinite().all()


def test_same_bits(device):
    image, s = picture(device)
    roi, labels = masks(device)
    found = []
    for _ in range(2):
        leaf = s.float().requires_grad_()
        loss = dense_crf_loss(image, leaf, roi, labels, scale_factor=0.5, **SIGMAS)
        found.append((loss.detach().cpu(), gradient_of(loss, leaf)))
    close(*found, rtol=0, atol=0)


def test_opcheck(device):
    image, s = picture(device)
    roi, labels = masks(device)
    for rows in (None, gate_of(s, roi, labels)):
        args = (s.clone().requires_grad_(), roi.double(), rows, image, [6.0, 6.0, 40.0, 40.0, 40.0])
        torch.library.opcheck(_dense_crf_loss, args)


def test_compile(device):
    image, s = picture(device)
    roi, labels = masks(device)

    def fn(s):
        return dense_crf_loss(image, s, roi, labels, scale_factor=0.5, **SIGMAS)

    s = s.float().requires_grad_()
    compiled = torch.compile(fn, fullgraph=True, backend="aot_eager")
    close(compiled(s), fn(s))
    close(gradient_of(compiled(s), s), gradient_of(fn(s), s))
