"""The direct convolution on tensor cores: every tile, layout, type and cut of the sums."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from deeplab_native import _variants, atrous_conv2d
from deeplab_native.ops import _atrous_pipelined as pipelined
from python_tests.ops.conv_cases import assert_near, tensors

# Relative to the largest value: results of 8 and 11 bits; tfloat32: sums of exact products
TOLERANCE = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 2e-6}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PLANS = [(0, 1), (1, 1), (1, 3), (2, 1), (3, 2), (4, 1), (4, 5)]
# channels, (O, kh, kw), size, stride, padding, rate
CASES = {
    "odd": (5, (3, 3, 2), (9, 11), (2, 3), (3, 1), (2, 4)),
    "whole_vectors": (16, (24, 3, 3), (7, 9), (1, 1), (4, 4), (4, 4)),
    "several_tiles": (72, (136, 1, 2), (9, 17), (1, 1), (0, 2), (1, 3)),
    "several_chunks": (200, (7, 2, 1), (6, 5), (1, 1), (1, 0), (2, 1)),
    "taps_in_the_padding": (8, (8, 3, 3), (5, 6), (1, 1), (12, 5), (12, 5)),
    "more_taps_than_bits": (3, (4, 6, 6), (14, 13), (1, 1), (2, 3), (2, 1)),
    "one_pixel": (8, (4, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
}


@pytest.fixture
def device(cuda_device, monkeypatch):
    """The devices of the kernel; tfloat32 is allowed."""
    if cuda_device.type == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("compute capability below 8.0")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    return cuda_device


def take(monkeypatch, plan):
    """Forces a plan, with a tile that the device has room for."""

    def make_plan(*args):
        return max(plan[0], args[-1]), plan[1]

    monkeypatch.setattr(pipelined, "make_plan", make_plan)


def as_multiplied(tensor):
    if tensor.dtype != torch.float32:
        return tensor.double()
    return (tensor.view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32).double()


def check(input, weight, bias, **how):
    assert pipelined.fits(input, weight, (1, 1))
    out = atrous_conv2d(input, weight, bias, **how, algorithm="direct")
    geometry = how["stride"], how["padding"], how["rate"]
    exact = None if bias is None else bias.double()
    expected = F.conv2d(as_multiplied(input), as_multiplied(weight), exact, *geometry)
    assert_near(out, expected, TOLERANCE[input.dtype])
    return out


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_plan(case, dtype, plan, layout, device, monkeypatch):
    if dtype == torch.float16 and plan not in PLANS[2:4]:
        pytest.skip("as bfloat16 but for the product of two fragments")
    channels, filters, size, stride, padding, rate = case
    input, weight, bias = (
        t.to(dtype) for t in tensors((2, channels, *size), filters, device=device)
    )
    take(monkeypatch, plan)
    how = {"stride": stride, "padding": padding, "rate": rate}
    out = check(input.contiguous(memory_format=LAYOUTS[layout]), weight, bias, **how)
    assert out.is_contiguous(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize("begin", [0, 1, 4, 8])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_views_of_any_alignment(dtype, layout, begin, device):
    """Channels, rows and columns of larger maps; NaN beside them reaches no sum."""
    base = torch.full((2, 26, 9, 11), torch.nan, dtype=dtype, device=device)
    base[:, begin : begin + 16, 1:7, 2:9] = torch.randn(2, 16, 6, 7, device=device).to(dtype)
    base = base.contiguous(memory_format=LAYOUTS[layout])
    _, weight, _ = tensors((1, 16), (3, 3, 3), dtype, device)
    view = base[:, begin : begin + 16, 1:7, 2:9]
    check(view, weight, None, stride=(1, 1), padding=(2, 2), rate=(2, 2))
    check(view[:, :13], weight[:, :13], None, stride=(1, 1), padding=(2, 2), rate=(2, 2))
    wide = view[:, :, ::2, ::3]
    check(wide, weight, None, stride=(1, 1), padding=(1, 1), rate=(1, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_in_channels_last_and_bias_with_gaps(layout, device):
    input, weight, bias = (
        t.bfloat16() for t in tensors((1, 24, 6, 7), (8, 3, 3), torch.float32, device)
    )
    weight = weight.contiguous(memory_format=torch.channels_last)
    bias = torch.stack((bias, bias + 1), 1)[:, 0]
    input = input.contiguous(memory_format=LAYOUTS[layout])
    check(input, weight, bias, stride=(1, 1), padding=(2, 2), rate=(2, 2))


@pytest.mark.parametrize("rate", [1, 3, 6, 9, 12])
@pytest.mark.parametrize("plan", [(4, 1), (4, 2)], ids=str)
def test_taps_in_the_padding_are_skipped(rate, plan, device, monkeypatch):
    """Maps of many tiles, whose pixels are taken by the taps that lie on the map."""
    take(monkeypatch, plan)
    tensors_ = tensors((3, 8, 17, 13), (4, 3, 3), torch.float32, device)
    check(*(t.half() for t in tensors_), stride=(1, 1), padding=(rate, rate), rate=(rate, rate))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("plan", [(1, 1), (4, 1), (4, 3)], ids=str)
def test_same_bits_wherever_a_map_lies_in_its_batch(plan, layout, device, monkeypatch):
    take(monkeypatch, plan)
    input, weight, bias = (
        t.bfloat16() for t in tensors((5, 72, 9, 7), (20, 3, 3), torch.float32, device)
    )
    input[3] = input[0]
    input = input.contiguous(memory_format=LAYOUTS[layout])

    def run(maps):
        return atrous_conv2d(maps, weight, bias, padding=3, rate=3, algorithm="direct")

    out = run(input)
    assert torch.equal(out[3], out[0])
    assert torch.equal(run(input), out)
    assert torch.equal(run(input.flip(0)), out.flip(0))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_same_bits_by_every_tile(dtype, device, monkeypatch):
    input, weight, bias = (
        t.to(dtype) for t in tensors((2, 72, 9, 7), (20, 3, 3), torch.float32, device)
    )
    results = []
    for tile in range(pipelined.first_tile(input), len(pipelined.TILES)):
        take(monkeypatch, (tile, 1))
        results.append(check(input, weight, bias, stride=(1, 1), padding=(2, 2), rate=(2, 2)))
    assert all(torch.equal(results[0], other) for other in results)


def test_empty_batch(device):
    input, weight, _ = (t.half() for t in tensors((0, 8, 5, 5), (4, 3, 3), torch.float32, device))
    assert atrous_conv2d(input, weight, algorithm="direct").shape == (0, 4, 3, 3)


def test_infinity_and_nan_stay(device):
    input = torch.tensor([torch.inf, -torch.inf, torch.nan, 1.0], device=device)
    for dtype in TOLERANCE:
        values = input.to(dtype)
        weight = torch.ones(1, 1, 1, 1, dtype=dtype, device=device)
        out = atrous_conv2d(values[None, None, None], weight, algorithm="direct")
        torch.testing.assert_close(out[0, 0, 0], values, equal_nan=True)


def test_what_does_not_fit_goes_to_the_other_kernel(device, monkeypatch):
    half = torch.zeros(1, 8, 5, 5, dtype=torch.float16, device=device)
    weight = torch.zeros(4, 8, 3, 3, dtype=torch.float16, device=device)
    assert pipelined.fits(half, weight, (3, 3))
    assert pipelined.fits(half.float(), weight.float(), (3, 3))
    assert not pipelined.fits(half.double(), weight.double(), (3, 3))
    huge = half[:1, :, :1, :1].expand(2**20, 8, 2**5, 2**5)
    assert not pipelined.fits(huge, weight, (3, 3))
    assert not pipelined.fits(half, weight, (2**15, 2**15))
    with _variants.use({"direct": "registers"}):
        assert not pipelined.fits(half, weight, (3, 3))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert not pipelined.fits(half.float(), weight.float(), (3, 3))
    monkeypatch.setitem(pipelined._first_tiles, half.device.index, -1)  # an older device
    assert not pipelined.fits(half, weight, (3, 3))


@pytest.mark.parametrize("first", [0, 1])
def test_plans_stay_within_their_bounds(first):
    sizes = itertools.product((1, 8), (1, 441, 1681, 4225), (1, 21, 256, 1024), (64, 2304, 18432))
    for batch, pixels, filters, terms in sizes:
        tile, parts = pipelined.make_plan(batch, pixels, filters, terms, torch.bfloat16, first)
        assert first <= tile < len(pipelined.TILES)
        assert 1 <= parts <= pipelined.MAX_PARTS
        if parts > 1:
            assert parts * batch * pixels * filters * 4 <= pipelined.PART_BYTES
            assert terms * 2 / pipelined.STEP_BYTES / parts >= pipelined.MIN_STEPS


def test_plans_of_the_layers_that_matter():
    """Few results are cut into parts, score maps of few classes take narrow tiles."""

    def plan(batch, filters, channels):
        return pipelined.make_plan(batch, 41 * 41, filters, 9 * channels, torch.bfloat16, 0)

    assert plan(8, 1024, 512) == (0, 1)
    assert plan(1, 1024, 512)[1] > 1
    tile, parts = plan(1, 21, 2048)
    assert tile == 4
    assert parts > 4


@pytest.mark.parametrize("choice", _variants.CHOICES["direct"])
def test_the_switch_takes_every_tile(choice, device):
    tensors_ = tensors((1, 24, 6, 7), (9, 3, 3), torch.float32, device)
    input, weight, bias = (t.bfloat16() for t in tensors_)
    with _variants.use({"direct": choice}):
        out = atrous_conv2d(input, weight, bias, padding=2, rate=2, algorithm="direct")
    expected = F.conv2d(input.double(), weight.double(), bias.double(), padding=2, dilation=2)
    assert_near(out, expected, TOLERANCE[torch.bfloat16])
