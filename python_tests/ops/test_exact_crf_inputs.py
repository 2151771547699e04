"""What the exact mean field is given: lists, sizes, ranges, excluded labels; and errors."""

import math

import pytest
import torch

from deeplab_native import CRFParams, dense_crf, mean_field
from python_tests.ops.test_exact_mean_field import crf_case


def test_lists_sizes_and_batches_are_as_alone(device):
    (unary, image), (other, photo) = (crf_case(device, size, 1) for size in ((8, 6), (5, 9)))
    params = CRFParams(4, 5, 30, 2, 2)
    how = {"iterations": 3, "algorithm": "exact"}
    expected = [dense_crf(u, i, params, **how) for u, i in ((unary, image), (other, photo))]
    listed = dense_crf([unary, other], [image, photo], params, **how)
    assert all(map(torch.equal, listed, expected))
    padded = torch.full((2, 3, 8, 9), float("nan"), device=device, dtype=torch.float64)
    pixels = torch.zeros(2, 3, 8, 9, device=device, dtype=torch.float64)
    for b, (u, i) in enumerate(((unary, image), (other, photo))):
        padded[b, :, : u.shape[2], : u.shape[3]] = u[0]
        pixels[b, :, : u.shape[2], : u.shape[3]] = i[0]
    q = dense_crf(padded, pixels, params, sizes=[(8, 6), (5, 9)], **how)
    assert torch.equal(q[0, :, :8, :6], expected[0][0])
    assert torch.equal(q[1, :, :5], expected[1][0])
    assert not q[1, :, 5:].any()
    both = dense_crf(torch.cat((unary, unary)), torch.cat((image, image)), params, **how)
    assert torch.equal(both[1:], expected[0])


def test_image_range_and_spacing(device):
    unary, image = crf_case(device)
    how = {"iterations": 3, "algorithm": "exact"}
    expected = dense_crf(unary, image, CRFParams(4, 5, 30, 2, 2), **how)
    of_ones = dense_crf(unary, image / 255, CRFParams(4, 5, 30, 2, 2), image_range=(0, 1), **how)
    in_mm = dense_crf(unary, image, CRFParams(4, 10, 30, 2, 4), spacing=2.0, **how)
    for q in (of_ones, in_mm):
        torch.testing.assert_close(q, expected, rtol=0, atol=1e-9)


def test_excluded_labels(device):
    unary, image = crf_case(device)
    unary[0, 1, 2] = math.inf
    unary.requires_grad_()
    q = dense_crf(unary, image, CRFParams(4, 5, 30, 2, 2), algorithm="exact")
    assert not q[0, 1, 2].any()
    assert not (-q.log()).isnan().any()
    (q * q.clamp_min(1e-30).log()).sum().backward()
    assert unary.grad.isfinite().all()
    assert not unary.grad[0, 1, 2].any()


def test_no_iterations_and_empty_batches(device):
    unary, image = crf_case(device)
    params = CRFParams(4, 5, 30, 2, 2)
    q = dense_crf(unary, image, params, iterations=0, algorithm="exact")
    torch.testing.assert_close(q, (-unary).softmax(1))
    q = dense_crf(unary[:0], image[:0], params, algorithm="exact")
    assert q.shape == (0, 3, 5, 6)
    assert dense_crf([], [], params, algorithm="exact") == []
    q = mean_field(unary[0].flatten(1), [], algorithm="exact")
    torch.testing.assert_close(q, (-unary[0].flatten(1)).softmax(0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"algorithm": "dense"}, ValueError, "algorithm: expected one of lattice, exact; got 'd"),
        ({"algorithm": None}, ValueError, "algorithm: expected one of lattice, exact; got None"),
        ({"scale": 0.5}, ValueError, "scale: expected 1 with algorithm='exact', got 0.5"),
        ({"unary": torch.full((1, 3, 4, 4), math.nan)}, ValueError, "unary: .* got NaN"),
        ({"unary": torch.full((1, 3, 4, 4), math.inf)}, ValueError, "unary: .* at least one label"),
        ({"image": torch.full((1, 3, 4, 4), math.nan)}, ValueError, "image: expected finite"),
        ({"image": torch.zeros(1, 3, 5, 4)}, ValueError, "image: expected shape"),
    ],
)
def test_wrong_arguments(change, error, message):
    given = {
        "unary": torch.zeros(1, 3, 4, 4), "image": torch.full((1, 3, 4, 4), 99.0),
        "params": CRFParams(4, 5, 30, 2, 2), "algorithm": "exact", **change,
    }  # fmt: skip
    with pytest.raises(error, match=message):
        dense_crf(**given)
    if "scale" in change:
        return
    for many in ({k: [v[0]] for k, v in given.items() if k in ("unary", "image")},):
        with pytest.raises(error, match=message.replace(":", r"(\[0\])?:", 1)):
            dense_crf(**{**given, **many})


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ((torch.full((4, 2), math.nan), 1.0), r"kernels\[0\].features: expected finite"),
        ((torch.zeros(4, 2), math.inf), r"kernels\[0\].compatibility: expected finite"),
        ((torch.zeros(3, 2), 1.0), r"kernels\[0\].features: expected one row"),
    ],
)
def test_wrong_kernels(kernel, message):
    with pytest.raises(ValueError, match=message):
        mean_field(torch.zeros(3, 4), [kernel], algorithm="exact")
