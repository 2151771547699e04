"""The modules of weak supervision: DenseCRFLoss and ConstrainToBoundaryLoss."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

import deeplab_native as dn
from deeplab_native import ConstrainToBoundaryLoss, CRFParams, DenseCRFLoss, dense_crf
from deeplab_native.ops.dense_crf_loss import dense_crf_loss
from python_tests.ops.lattice_matrix import HEIGHT, LABELS, SIGMAS, WIDTH, picture

close = torch.testing.assert_close


def test_the_module_is_the_function_times_its_weight(device):
    image, s = picture(device)
    roi = torch.ones(2, HEIGHT, WIDTH, device=device)
    roi[:, 4:] = 0
    labels = torch.full((2, 1, HEIGHT, WIDTH), 7, device=device)
    labels[:, :, 1] = 0
    how = {"normalized_cut": False, "constant": False, "ignore_index": 7, "reduction": "none"}
    layer = DenseCRFLoss(3.0, 40.0, 6.0, 0.5, **how)
    expected = 3 * dense_crf_loss(image, s, roi, labels, scale_factor=0.5, **SIGMAS, **how)
    for one in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        close(one(image, s, roi, labels), expected, rtol=0, atol=0)
    assert not list(layer.parameters()) and not layer.state_dict()
    assert "sigma_rgb=40.0, sigma_xy=6.0, scale_factor=0.5, constant=False" in repr(layer)
    assert dn.layers.DenseCRFLoss is DenseCRFLoss


def test_defaults_are_the_authors():
    image = torch.randint(0, 256, (1, 3, 12, 16), dtype=torch.uint8)
    s = torch.rand(1, LABELS, 12, 16).softmax(1)
    how = {"sigma_rgb": 15.0, "sigma_xy": 100.0, "scale_factor": 0.5}
    close(DenseCRFLoss()(image, s), 2e-9 * dense_crf_loss(image, s, **how), rtol=0, atol=0)


@pytest.mark.parametrize("value", ["1", None, float("nan"), float("inf")])
def test_bad_weight(value):
    with pytest.raises((TypeError, ValueError), match=r"weight: expected a (finite )?number"):
        DenseCRFLoss(value)


BOUNDARY = CRFParams(4, 6, 40, 2, 1)


def test_boundary_loss_is_the_divergence(device):
    image, s = picture(device)
    scores = (4 * s).requires_grad_()
    layer = ConstrainToBoundaryLoss(BOUNDARY, iterations=3, min_prob=0)
    loss = layer(image, scores)
    p = scores.detach().softmax(1)
    q = dense_crf(-p.log(), image, BOUNDARY, iterations=3)
    close(layer.targets(image, scores), q)
    close(loss, (q * (q / p).log()).sum(1).mean())
    (gradient,) = torch.autograd.grad(loss, scores)
    close(gradient, (p - q) / (2 * HEIGHT * WIDTH))
    assert loss > 0 and not layer.targets(image, scores).requires_grad


def test_boundary_loss_raises_small_marginals():
    image, s = picture()
    layer = ConstrainToBoundaryLoss(BOUNDARY, min_prob=0.05)
    q = layer.targets(image, 9 * s)
    assert q.min() > 0.04 and ConstrainToBoundaryLoss(BOUNDARY).targets(image, 9 * s).min() < 0.04
    close(q.sum(1), torch.ones_like(q[:, 0]))
    scores = torch.zeros_like(s)
    scores[:, 0] = 1e4  # marginals of 0, whose logarithm is not
    loss = ConstrainToBoundaryLoss(BOUNDARY, min_prob=0)(image, scores.requires_grad_())
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.isfinite() and gradient.isfinite().all()


def test_boundary_loss_at_the_size_of_the_scores(device):
    image, s = picture(device)
    layer = ConstrainToBoundaryLoss(BOUNDARY, iterations=2)
    large = F.interpolate(image.float(), (19, 30), mode="bilinear", align_corners=True)
    small = F.interpolate(large, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)
    close(layer(large, s), layer(small, s), rtol=0, atol=0)
    unit = ConstrainToBoundaryLoss(BOUNDARY, 2, image_range=(0, 1))
    close(unit(large / 255, s), layer(large, s), rtol=1e-4, atol=1e-6)
    alone = torch.stack([layer(large[b : b + 1], s[b : b + 1]) for b in range(2)])
    close(alone.mean(), layer(large, s))


def test_boundary_loss_of_a_region(device):
    image, s = picture(device)
    layer = ConstrainToBoundaryLoss(BOUNDARY, iterations=2)
    roi = torch.zeros(2, HEIGHT, WIDTH, device=device)
    assert layer(image, s, roi) == 0
    roi[:, :3] = 1
    scores = s.clone().requires_grad_()
    loss = layer(image, scores, roi)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert (gradient[:, :, 3:] == 0).all() and (gradient[:, :, :3] != 0).any()
    q, log_p = layer.targets(image, s), s.log_softmax(1)
    close(loss, (q * (q.log() - log_p)).sum(1)[:, :3].mean())


def test_sec_parameters():
    layer = ConstrainToBoundaryLoss()
    assert layer.params == CRFParams(10, 80 / 12, 13, 3, 3 / 12)
    assert (layer.iterations, layer.min_prob) == (10, 1e-4)
    assert "sigma_beta=13" in repr(layer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_within_autocast(dtype):
    """Both compute in float32, whatever autocast says and the net gave them."""
    image, s = picture()
    losses = DenseCRFLoss(1.0, 40.0, 6.0, 0.5), ConstrainToBoundaryLoss(BOUNDARY, 2)
    for layer in losses:
        scores = s.to(dtype).requires_grad_()
        expected = layer(image, scores.detach().float())
        with torch.autocast("cpu", dtype):
            loss = layer(image, scores)
        assert loss.dtype == torch.float32
        close(loss, expected, rtol=1e-6, atol=0)
        loss.backward()
        assert scores.grad.dtype == dtype and scores.grad.isfinite().all()


def test_compile(device):
    image, s = picture(device)
    losses = DenseCRFLoss(1.0, 40.0, 6.0, 0.5), ConstrainToBoundaryLoss(BOUNDARY, 2)
    for layer in losses:
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        found = []
        for run in (layer, compiled):
            scores = s.float().requires_grad_()
            loss = run(image, scores)
            found.append((loss.detach(), *torch.autograd.grad(loss, scores)))
        close(*found)


IMAGE, SCORES = torch.zeros(2, 3, 12, 16), torch.zeros(2, 4, 6, 8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"params": (1, 2)}, TypeError, "params: expected CRFParams, got tuple"),
        ({"iterations": -1}, ValueError, "iterations: expected 0 or more"),
        ({"min_prob": 1}, ValueError, "min_prob: expected 0 or more, and less than 1, got 1"),
        ({"min_prob": "a"}, TypeError, "min_prob: expected a number, got str"),
        ({"image": None}, TypeError, "image: expected a torch.Tensor"),
        ({"image": IMAGE[0]}, ValueError, "image: expected 4 dimensions"),
        ({"image": IMAGE[:1]}, ValueError, "image: expected 2 of them for scores of shape"),
        ({"image": IMAGE.clone().requires_grad_()}, ValueError, "image: no gradient"),
        ({"scores": SCORES.long()}, TypeError, "scores: expected dtype torch.float32"),
        ({"scores": SCORES[0]}, ValueError, "scores: expected 4 dimensions"),
        ({"roi": IMAGE[:, 0]}, ValueError, r"roi: expected shape \(2, 6, 8\) for scores"),
        ({"roi": 1}, TypeError, "roi: expected a torch.Tensor"),
    ],
)
def test_boundary_loss_of_bad_input(change, error, message):
    made = {n: change[n] for n in ("params", "iterations", "min_prob") if n in change}
    given = {"image": IMAGE, "scores": SCORES} | {n: v for n, v in change.items() if n not in made}
    with pytest.raises(error, match=message):
        ConstrainToBoundaryLoss(**made)(**given)
