"""upsample_unary against interpolation and log_softmax, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import _C, upsample_unary
from python_tests.ops import reference

ops = torch.ops.deeplab_native

# scores, size, crop
CASES = [
    ((2, 3, 3, 4), (17, 25), None),
    ((2, 21, 3, 4), (17, 25), (12, 20)),
    ((1, 5, 4, 3), (1, 1), None),
    ((1, 4, 1, 1), (6, 5), (6, 3)),
    ((2, 1, 2, 3), (9, 7), None),
    ((1, 2, 5, 6), (5, 6), None),
    ((1, 2, 7, 9), (3, 4), (2, 4)),  # fewer pixels than scores
    ((0, 3, 2, 2), (9, 9), None),
    ((1, 40, 2, 3), (1, 18), None),
]
TOLERANCES = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 2e-6, "atol": 2e-6},
    torch.bfloat16: {"rtol": 2e-6, "atol": 2e-6},  # only the scores have few bits
    torch.float16: {"rtol": 2e-6, "atol": 2e-6},
}


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case, dtype, device):
    scores = 4 * torch.randn(case[0], device=device).to(dtype)
    energies = upsample_unary(scores, *case[1:])
    assert energies.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert energies.is_contiguous()
    expected = reference.upsample_unary(scores.double(), *case[1:])
    torch.testing.assert_close(energies.double(), expected, **TOLERANCES[dtype])


def test_equals_torch_at_the_size_of_the_paper():
    scores = 4 * torch.randn(1, 21, 41, 41)
    wide = F.interpolate(scores, size=(321, 321), mode="bilinear", align_corners=True)
    expected = -F.log_softmax(wide, 1)
    torch.testing.assert_close(upsample_unary(scores, 321), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[:, ::2, 1:, :-2],
        lambda t: t.transpose(2, 3),
        lambda t: t.transpose(1, 3),
        lambda t: t[:1].expand(3, -1, -1, -1),
        lambda t: t[:, :, :, :1].expand(-1, -1, -1, 5),
        lambda t: t.contiguous(memory_format=torch.channels_last),
        lambda t: t.contiguous(memory_format=torch.channels_last)[:, :, ::2],
    ],
)
def test_any_strides(view, device):
    scores = view(torch.randn(2, 4, 5, 6, dtype=torch.float64, device=device))
    energies = upsample_unary(scores, (11, 14), (9, 14))
    torch.testing.assert_close(energies, reference.upsample_unary(scores, (11, 14), (9, 14)))


@pytest.mark.parametrize("isa", _C.available_isas())
@pytest.mark.parametrize("width", [1, 15, 16, 17, 40])
def test_every_instruction_set(isa, width):
    scores = torch.randn(2, 6, 3, 5)
    before = _C.isa()
    try:
        _C.set_isa(isa)
        energies = upsample_unary(scores, (9, 40), (9, width))
        grad = torch.autograd.functional.vjp(
            lambda s: upsample_unary(s, (9, 40), (9, width)), scores, torch.ones_like(energies)
        )[1]
    finally:
        _C.set_isa(before)
    exact = scores.double()
    expected = reference.upsample_unary(exact, (9, 40), (9, width))
    torch.testing.assert_close(energies.double(), expected, rtol=2e-6, atol=2e-6)
    wanted = torch.autograd.functional.vjp(
        lambda s: reference.upsample_unary(s, (9, 40), (9, width)), exact, torch.ones_like(expected)
    )[1]
    torch.testing.assert_close(grad.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("case", CASES[:4])
def test_gradient_equals_that_of_the_reference(case, dtype, device):
    scores = torch.randn(case[0], device=device).to(dtype).requires_grad_()
    exact = scores.detach().double().requires_grad_()
    expected = reference.upsample_unary(exact, *case[1:])
    grad = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, exact, grad)
    energies = upsample_unary(scores, *case[1:])
    (got,) = torch.autograd.grad(energies, scores, grad.to(energies.dtype))
    assert got.dtype == dtype
    eps = max(torch.finfo(dtype).eps, 1e-7)
    torch.testing.assert_close(got.double(), wanted, rtol=8 * eps, atol=1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if case[0][0]])
def test_gradcheck(case, device):
    if case[0][1] > 5:
        case = ((case[0][0], 3, *case[0][2:]), *case[1:])
    scores = torch.randn(case[0], dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: upsample_unary(s, *case[1:]), scores)


def test_second_derivative_is_refused():
    scores = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = upsample_unary(scores, 5).square().sum()
    (grad,) = torch.autograd.grad(loss, scores, create_graph=True)
    with pytest.raises(RuntimeError, match=r"upsample_unary.*second derivative"):
        grad.sum().backward()


def test_opcheck(device):
    scores = torch.randn(2, 3, 3, 4, device=device, requires_grad=True)
    torch.library.opcheck(ops.upsample_unary.default, (scores, [9, 13], [9, 11]))
    energies = upsample_unary(scores, (9, 13), (9, 11)).detach()
    arguments = torch.randn_like(energies), energies, [3, 4], [9, 13]
    torch.library.opcheck(ops.upsample_unary_backward.default, arguments)


def test_compile_with_dynamic_shapes(device):
    def run(scores):
        size = 8 * scores.shape[2] - 7, 8 * scores.shape[3] - 7
        return upsample_unary(scores * 2, size, (size[0] - 3, size[1]))

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((2, 3, 2, 3), (1, 3, 3, 2)):
        scores = torch.randn(size, device=device, requires_grad=True)
        out, expected = compiled(scores), run(scores)
        torch.testing.assert_close(out, expected)
        grads = [torch.autograd.grad(o.square().sum(), scores)[0] for o in (out, expected)]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scores_far_apart_and_not_finite(dtype, device):
    scores = torch.tensor([1e4, -1e4, 0.0, 9e3], dtype=dtype, device=device)[None, :, None, None]
    scores = scores.expand(1, 4, 3, 3)
    energies = upsample_unary(scores, 9)
    assert energies.isfinite().all()
    torch.testing.assert_close(energies, reference.upsample_unary(scores, (9, 9)))
    for value in (float("nan"), float("inf"), float("-inf")):
        for label in range(3):
            bad = torch.zeros(1, 3, 1, 2, dtype=dtype, device=device)
            bad[0, label, 0, 0] = value
            wide = F.interpolate(bad, size=(1, 5), mode="bilinear", align_corners=True)
            energies = upsample_unary(bad, (1, 5))
            torch.testing.assert_close(energies, -F.log_softmax(wide, 1), equal_nan=True)


def test_same_bits_every_time_and_for_any_number_of_threads(set_threads):
    scores = torch.randn(3, 21, 9, 11, requires_grad=True)
    grad = torch.randn(3, 21, 60, 70)
    runs = []
    for threads in (1, 2, 5, 2):
        set_threads(threads)
        energies = upsample_unary(scores, (65, 81), (60, 70))
        runs.append((energies, *torch.autograd.grad(energies, scores, grad)))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_same_bits_on_the_device(device):
    scores = torch.randn(2, 5, 3, 4, device=device, requires_grad=True)
    runs = []
    for _ in range(2):
        energies = upsample_unary(scores, (17, 25))
        runs.append((energies, *torch.autograd.grad(energies.square().sum(), scores)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_integers_of_numpy():
    scores = torch.randn(1, 2, 3, 4)
    expected = upsample_unary(scores, (17, 25), (9, 9))
    assert torch.equal(upsample_unary(scores, np.array([17, 25]).tolist(), np.int64(9)), expected)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_property_equals_reference(data):
    draw = data.draw
    shape = [draw(st.integers(1, high)) for high in (3, 6, 7, 7)]
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    crop = tuple(draw(st.integers(1, n)) for n in size)
    scores = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    energies = upsample_unary(scores, size, crop)
    expected = reference.upsample_unary(scores, size, crop)
    torch.testing.assert_close(energies, expected)
    grad = torch.randn_like(expected)
    grads = [torch.autograd.grad(e, scores, grad)[0] for e in (energies, expected)]
    torch.testing.assert_close(*grads)


S = torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize(
    "error, words, call",
    [
        (TypeError, "scores.*ndarray", lambda: upsample_unary(S.numpy(), 9)),
        (TypeError, "scores.*int32", lambda: upsample_unary(S.int(), 9)),
        (ValueError, "scores.*4 dim", lambda: upsample_unary(S[0, 0], 9)),
        (ValueError, r"scores.*one label.*\(2, 0, 4, 5\)", lambda: upsample_unary(S[:, :0], 9)),
        (ValueError, "scores.*one pixel", lambda: upsample_unary(S[..., :0], 9)),
        (ValueError, "size.*at least 1.*0", lambda: upsample_unary(S, (9, 0))),
        (TypeError, "size.*1.5", lambda: upsample_unary(S, 1.5)),
        (TypeError, "crop.*9", lambda: upsample_unary(S, 9, (9, 9, 9))),
        (ValueError, "crop.*at least 1", lambda: upsample_unary(S, 9, 0)),
        (ValueError, r"crop.*\(9, 9\).*\(4, 10\)", lambda: upsample_unary(S, 9, (4, 10))),
    ],
)
def test_bad_arguments(error, words, call):
    with pytest.raises(error, match=words):
        call()
