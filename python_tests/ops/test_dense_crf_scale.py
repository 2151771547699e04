"""dense_crf at a fraction of the resolution: its definition, its gradients, its quality."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

import deeplab_native as dn
from deeplab_native.ops._cells import Cells
from deeplab_native.ops.dense_crf import _dense_crf_backward
from python_tests.ops import reference_crf

NORMALIZATIONS = ["symmetric", "after", "before", "none"]


def cell_means(values: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """(C, H, W) to (C, h w), one cell after the other."""
    _, height, width = values.shape
    out = np.zeros((len(values), *cells))
    for i in range(cells[0]):
        for j in range(cells[1]):
            rows = slice(i * height // cells[0], -(-(i + 1) * height // cells[0]))
            columns = slice(j * width // cells[1], -(-(j + 1) * width // cells[1]))
            out[:, i, j] = values[:, rows, columns].mean((1, 2))
    return out.reshape(len(values), -1)


def reference(unary, image, params, cells, iterations, normalization):
    """Q (L, H, W) of unary (L, H, W) and image (3, H, W), in NumPy."""
    labels, height, width = unary.shape
    y, x = np.mgrid[:height, :width]
    gaussian = np.stack((x, y)) / params.sigma_gamma
    bilateral = np.concatenate((np.stack((x, y)) / params.sigma_alpha, image / params.sigma_beta))
    planes = (gaussian, bilateral)
    weights = (params.w2, params.w1)
    pixels = height * width / np.prod(cells) if normalization == "none" else 1
    coarse = reference_crf.MeanField(
        cell_means(unary, cells),
        [
            (cell_means(p, cells).T, w * pixels, normalization)
            for p, w in zip(planes, weights, strict=True)
        ],
    )
    q = torch.from_numpy(coarse.inference(iterations - 1).reshape(1, labels, *cells))
    q = functional.interpolate(q, size=(height, width), mode="bilinear", align_corners=False)
    whole = reference_crf.MeanField(
        unary.reshape(labels, -1),
        [(p.reshape(len(p), -1).T, w, normalization) for p, w in zip(planes, weights, strict=True)],
    )
    return whole.step(q[0].reshape(labels, -1).numpy()).reshape(unary.shape)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(("scale", "cells"), [(0.5, (6, 8)), (0.3, (4, 5))])
def test_reference(photo_on, normalization, scale, cells):
    unary, image, params = photo_on
    unary, image = unary[:, :, :12, 5:21].double(), image[:, :, :12, 5:21]
    if normalization == "none":
        params = dn.CRFParams(0.02, 30, 20, 0.02, 3)
    how = {"iterations": 4, "normalization": normalization}
    q = dn.dense_crf(unary, image, params, scale=scale, **how)
    for b in range(2):
        one = unary[b].cpu().numpy(), image[b].cpu().numpy()
        expected = reference(*one, params, cells, *how.values())
        np.testing.assert_allclose(q[b].cpu().numpy(), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("size", "scale"),
    [((12, 16), 0.5), ((7, 11), 0.34), ((5, 1), 0.8), ((4, 7, 5), 0.5), ((3, 2, 8), 0.4)],
)
def test_adjoints_of_the_cells(size, scale):
    cells = Cells(size, scale)
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    coarse = torch.randn(2, 3, math.prod(cells.cells), dtype=torch.float64)
    a = (cells.mean(image) * coarse).sum()
    torch.testing.assert_close(a, (image * cells.mean_transposed(coarse)).sum())
    a = (cells.enlarge(coarse) * image.flatten(2)).sum()
    torch.testing.assert_close(a, (coarse * cells.enlarge_transposed(image.flatten(2))).sum())


def test_scale_one_is_the_crf_itself(photo_on):
    expected = dn.dense_crf(*photo_on)
    assert torch.equal(dn.dense_crf(*photo_on, scale=1), expected)
    none = dn.dense_crf(*photo_on, iterations=0)
    assert torch.equal(dn.dense_crf(*photo_on, iterations=0, scale=0.5), none)


def test_batch_equals_single_images(photo_on):
    unary, image, params = photo_on
    q = dn.dense_crf(unary, image, params, scale=0.4)
    for b in range(2):
        one = dn.dense_crf(unary[b : b + 1], image[b : b + 1], params, scale=0.4)
        assert torch.equal(one[0], q[b])
    assert dn.dense_crf(unary[:0], image[:0], params, scale=0.4).shape == (0, 4, 30, 41)
    assert dn.dense_crf(unary[..., :0], image[..., :0], params, scale=0.4).shape == (2, 4, 30, 0)
    one = dn.dense_crf(unary, image, params, scale=1e-9)  # a single cell
    torch.testing.assert_close(one.sum(1), torch.ones_like(one[:, 0]))


def test_labels_follow_the_edges_of_the_whole_image(photo_on):
    """Closer to the full CRF than its marginals on a smaller image, enlarged."""
    unary, image, params = photo_on
    full = dn.dense_crf(unary, image, params).argmax(1)
    scaled = dn.dense_crf(unary, image, params, scale=0.5).argmax(1)
    small = [functional.interpolate(t.float(), (15, 20), mode="area") for t in (unary, image)]
    q = dn.dense_crf(*small, dn.CRFParams(params.w1, 15, 20, params.w2, 1.5))
    plain = functional.interpolate(q, (30, 41), mode="bilinear").argmax(1)
    off, plain_off = (scaled != full).sum(), (plain != full).sum()
    assert off < 0.02 * full.numel() and off < plain_off


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients(photo_on, normalization, set_threads):
    set_threads(1)
    unary, image, _ = photo_on
    unary = unary[:, :2, :3, :4].double().requires_grad_()
    image = image[:, :, :3, :4]
    weight = 0.1 if normalization == "none" else 3.0
    w1, w2 = (unary.new_tensor(w, requires_grad=True) for w in (weight, weight / 2))

    def crf(unary, w1, w2):
        params = dn.CRFParams(w1, 8, 30, w2, 2)
        how = {"iterations": 3, "normalization": normalization, "scale": 0.5}
        return dn.dense_crf(unary, image, params, **how)

    assert torch.autograd.gradcheck(crf, (unary, w1, w2))


def test_opcheck_and_compile(photo_on):
    unary, image, _ = photo_on
    unary = unary[:, :2, :4, :5].double().requires_grad_()
    image = image[:, :, :4, :5]
    w1, w2 = (unary.new_tensor(w, requires_grad=True) for w in (4.0, 3.0))
    arguments = (unary, image, [w2, w1], [2.0] * 2 + [8.0] * 2 + [30.0] * 3, 3, 3)
    torch.library.opcheck(
        torch.ops.deeplab_native.dense_crf.default, (*arguments, 0.5, False, False)
    )
    detached = (unary.detach(), image, [w2.detach(), w1.detach()], *arguments[3:], True, 0.5, False)
    torch.library.opcheck(_dense_crf_backward, (unary.detach(), *detached))

    def crf(unary):
        return dn.dense_crf(unary, image, dn.CRFParams(4, 8, 30, 3, 2), scale=0.5)

    compiled = torch.compile(crf, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(unary), crf(unary))


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        (0, ValueError, "scale: expected more than 0 and at most 1, got 0"),
        (1.5, ValueError, "scale: expected more than 0 and at most 1, got 1.5"),
        (float("nan"), ValueError, "scale: .* got nan"),
        ("0.5", TypeError, "scale: expected a number, got str"),
        (True, TypeError, "scale: expected a number, got bool"),
    ],
)
def test_bad_scale(photo, scale, error, message):
    with pytest.raises(error, match=message):
        dn.dense_crf(*photo, scale=scale)


def test_values_are_checked_at_full_resolution(photo):
    """The mean of a cell could hide them."""
    unary, image, params = photo
    with pytest.raises(ValueError, match="unary: expected finite energies"):
        dn.dense_crf(unary.index_fill(0, torch.tensor(1), torch.inf), image, params, scale=0.5)
    bright = image.float()
    bright[1, 0, 0, 0] = 1e30
    with pytest.raises(ValueError, match=r"image / \(sigma_alpha, sigma_beta\): .* larger sigmas"):
        dn.dense_crf(unary, bright, params, scale=0.5)
