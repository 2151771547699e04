"""The direct convolution whose loads go through registers, that of every device.

Every tile, type, layout and cut of the sums, and what it refuses.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from deeplab_native import _variants, atrous_conv1d, atrous_conv2d
from deeplab_native.ops import _atrous_direct
from deeplab_native.ops._atrous_direct import LARGE, NARROW, SMALL, Plan, make_plan
from python_tests.ops.conv_cases import assert_near, tensors

# Relative to the largest value. The 2-byte types round results to 8 and 11 bits; their sums, like
# those of float32, are float: 24 bits, less for the order of some hundred terms.
TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 2e-6,
    torch.bfloat16: 2**-7,
    torch.float16: 2**-10,
}
PLANS = [Plan(LARGE, 3), Plan(SMALL, 1), Plan(NARROW, 3)]
# channels, (O, kh, kw), size, stride, padding, rate: what the loaders tell apart
CASES = {
    "odd": (5, (3, 3, 2), (9, 11), (2, 3), (3, 1), (2, 4)),
    "whole_vectors": (16, (24, 3, 3), (7, 9), (1, 1), (4, 4), (4, 4)),
    "several_tiles": (72, (136, 1, 2), (9, 17), (1, 1), (0, 2), (1, 3)),
    "taps_in_the_padding": (8, (8, 3, 3), (5, 6), (1, 1), (12, 5), (12, 5)),
    "more_taps_than_bits": (3, (4, 6, 6), (14, 13), (1, 1), (2, 3), (2, 1)),
}


@pytest.fixture
def device(cuda_device):
    """The devices of the direct convolution, without the kernel of test_atrous_pipelined.py."""
    with _variants.use({"direct": "registers"}):
        yield cuda_device


def take(monkeypatch, plan):
    monkeypatch.setattr(_atrous_direct, "make_plan", lambda *args: plan)


def check(leaves, how, tolerance):
    """Values and gradients against the double convolution of the same numbers."""
    exact = [t.detach().double().requires_grad_() for t in leaves]
    out = atrous_conv2d(*leaves, **how, algorithm="direct")
    expected = F.conv2d(*exact, how["stride"], how["padding"], how["rate"])
    cotangent = torch.randn_like(expected).to(out.dtype)
    assert_near(out, expected, tolerance)
    for actual, right in zip(
        torch.autograd.grad(out, leaves, cotangent),
        torch.autograd.grad(expected, exact, cotangent.double()),
        strict=True,
    ):
        assert_near(actual, right, tolerance)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_plan(case, dtype, plan, channels_last, device, monkeypatch):
    if dtype == torch.float64 and plan.tile == LARGE:
        pytest.skip("a large tile of doubles does not fit the registers")
    channels, filters, size, stride, padding, rate = case
    leaves = [t.to(dtype) for t in tensors((2, channels, *size), filters, device=device)]
    if channels_last:
        leaves[0] = leaves[0].contiguous(memory_format=torch.channels_last)
    take(monkeypatch, plan)
    how = {"stride": stride, "padding": padding, "rate": rate}
    check([t.requires_grad_() for t in leaves], how, TOLERANCE[dtype])


@pytest.mark.parametrize("begin", [0, 1, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_channels_of_any_alignment(dtype, begin, device):
    """Channels are read 16 bytes at a time where their number and place allow, else one by one."""
    input = torch.randn(1, 24, 6, 7, device=device).to(dtype)
    for layout in (torch.channels_last, torch.contiguous_format):
        map = input.contiguous(memory_format=layout)[:, begin : begin + 16]
        _, weight, bias = tensors((1, map.shape[1]), (3, 3, 3), dtype, device)
        leaves = [t.detach().requires_grad_() for t in (map, weight, bias)]
        how = {"stride": (1, 1), "padding": (2, 2), "rate": (2, 2)}
        check(leaves, how, TOLERANCE[dtype])


def round_to_tfloat32(tensor):
    bits = tensor.view(torch.int32) + 0x1000 & ~0x1FFF
    return bits.view(torch.float32)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_tfloat32_where_torch_allows_it(channels_last, plan, device, monkeypatch):
    if device.type == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("no tfloat32 on this GPU")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    take(monkeypatch, plan)
    leaves = list(tensors((2, 12, 7, 8), (6, 3, 3), torch.float32, device))
    if channels_last:
        leaves[0] = leaves[0].contiguous(memory_format=torch.channels_last)
    how = {"padding": 2, "rate": 2}
    out = atrous_conv2d(*leaves, **how, algorithm="direct")
    rounded = [round_to_tfloat32(t).double() for t in leaves[:2]]
    expected = F.conv2d(*rounded, leaves[2].double(), padding=2, dilation=2)
    assert_near(out, expected, 2e-6)
    exact = F.conv2d(*(t.double() for t in leaves), padding=2, dilation=2)
    assert (out - exact).abs().max() > 1e-5 * exact.abs().max()


def test_infinity_and_nan_survive_the_rounding(device, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    input = torch.tensor([torch.inf, -torch.inf, torch.nan, 1.0], device=device)
    weight = torch.ones(1, 1, 1, device=device)
    out = atrous_conv1d(input[None, None], weight, algorithm="direct")
    torch.testing.assert_close(out[0, 0], input, equal_nan=True)


@pytest.mark.parametrize("mask", [(True, True), (True, False), (False, True)])
def test_empty_batch(mask, device):
    input, weight, bias = tensors((0, 3, 9, 7), (4, 3, 3), device=device)
    leaves = [t.requires_grad_(need) for t, need in zip((input, weight), mask, strict=True)]
    out = atrous_conv2d(*leaves, bias, padding=2, rate=2, algorithm="direct")
    assert out.shape == (0, 4, 9, 7)
    if mask[1]:
        (grad,) = torch.autograd.grad(out.sum(), weight)
        assert torch.equal(grad, torch.zeros_like(weight))


def test_values_beyond_the_padding_do_not_leak(device):
    """Neither NaN outside a view nor in channels beside it reaches the sums."""
    base = torch.full((2, 9, 12, 13), torch.nan, dtype=torch.float64, device=device)
    base[:, 2:7, 3:9, 4:11] = torch.randn(2, 5, 6, 7, dtype=torch.float64, device=device)
    for layout in (torch.contiguous_format, torch.channels_last):
        view = base.contiguous(memory_format=layout)[:, 2:7, 3:9, 4:11]
        _, weight, bias = tensors((2, 5), (3, 3, 3), device=device)
        leaves = [t.detach().requires_grad_() for t in (view, weight, bias)]
        check(leaves, {"stride": (1, 1), "padding": (3, 3), "rate": (3, 3)}, 1e-13)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rows", [1, 441, 1681, 33800])
@pytest.mark.parametrize("cols", [1, 21, 256, 1024])
@pytest.mark.parametrize("terms", [1, 2304, 18432])
def test_plans_stay_within_their_bounds(rows, cols, terms, dtype):
    for repeats in (1, 9):
        plan = make_plan(rows, cols, terms, repeats, dtype)
        assert plan.tile in (SMALL, NARROW) or dtype != torch.float64
        assert 1 <= plan.parts <= _atrous_direct.MAX_PARTS
        if plan.parts > 1:
            assert plan.parts * repeats * rows * cols * 4 <= _atrous_direct.PART_BYTES
            steps = terms * dtype.itemsize / _atrous_direct.STEP_BYTES
            assert steps / plan.parts > _atrous_direct.MIN_STEPS - 1


def test_cpu_tensors_are_refused():
    input, weight, bias = tensors((1, 2, 5, 5), (3, 1, 1), torch.float32)
    with pytest.raises(RuntimeError, match="algorithm: 'direct' has no CPU kernel; take 'auto'"):
        atrous_conv2d(input, weight, bias, algorithm="direct")


def test_maps_too_large_are_refused(device):
    input, weight, _ = tensors((1, 1, 1, 1), (1, 1, 1), torch.float32, device)
    input = input.expand(1, 1, 1, 2**30 - 2)
    with pytest.raises(ValueError, match=r"input: algorithm 'direct' takes .*1073741824"):
        atrous_conv2d(input, weight, padding=2, stride=2**28, algorithm="direct")
