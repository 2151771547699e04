"""The layouts in which CUDA multiplies: what of contiguous maps is not aligned is transposed."""

from __future__ import annotations

import pytest
import torch

from deeplab_native import _variants, aspp
from deeplab_native.ops import _aspp_product
from deeplab_native.ops._aspp_offsets import _taps_of, bands_of, in_order_of_rows
from deeplab_native.ops._aspp_pack import padded_filters, product_layout
from python_tests.ops import reference
from python_tests.ops.test_aspp import TOLERANCES, new_case

ops = torch.ops.deeplab_native
BRANCHES = [((3, 3), 2), ((3, 3), 4), ((3, 3), 6)]
ODD = (3, 16, 9, 13)  # 117 pixels: no whole number of words of 16 bytes
LAST = torch.channels_last
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture
def tf32():
    """float32 goes to the tensor cores, whose rows are to be aligned."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 5, 3, 7), (1, 64, 8, 16), (3, 130, 11, 13)])
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("variant", _variants.CHOICES["aspp_transpose"])
def test_transposed_there_and_back(variant, dtype, size, cuda_device):
    """Tiles that are whole, cut off, and of rows of an odd number of elements."""
    map = torch.randn(size, device=cuda_device).to(dtype)
    with _variants.use({"aspp_transpose": variant}):
        last = _aspp_product.to_layout(map, LAST)
    assert last.is_contiguous(memory_format=LAST) and torch.equal(last, map)
    back = _aspp_product.to_layout(last, torch.contiguous_format)
    assert back.is_contiguous() and torch.equal(back, map)


def test_a_transposed_map_that_begins_anywhere(cuda_device):
    """Of an address that no pair of elements has, and of strides that are neither layout."""
    memory = torch.randn(2 * 8 * 35 + 1, device=cuda_device).bfloat16()
    map = memory[1:].view(2, 8, 5, 7)
    assert torch.equal(_aspp_product.to_layout(map, LAST), map)
    cut = map[:, :, 1:, ::2]
    assert torch.equal(_aspp_product.to_layout(cut, LAST), cut)
    assert torch.equal(_aspp_product.as_pixels(cut), cut.permute(0, 2, 3, 1))


def layout_of(device, *size, dtype=torch.bfloat16, last=False):
    map = torch.empty(size, dtype=dtype, device=device)
    return product_layout(map.contiguous(memory_format=LAST) if last else map)


def test_which_layout(cuda_device):
    assert layout_of(cuda_device, *ODD) == LAST
    assert layout_of(cuda_device, *ODD, last=True) == LAST
    assert layout_of(cuda_device, 1, 16, 8, 5) == torch.contiguous_format  # whole words
    assert layout_of(cuda_device, 1, 15, 9, 13) == torch.contiguous_format  # in neither layout
    for dtype in (torch.float32, torch.float64):
        assert layout_of(cuda_device, *ODD, dtype=dtype) == torch.contiguous_format


def test_which_layout_in_tfloat32(tf32, cuda_device):
    assert layout_of(cuda_device, *ODD, dtype=torch.float32) == LAST
    assert layout_of(cuda_device, 1, 16, 9, 12, dtype=torch.float32) == torch.contiguous_format
    assert layout_of(cuda_device, *ODD, dtype=torch.float64) == torch.contiguous_format


@pytest.mark.parametrize("variant", _variants.CHOICES["aspp_transpose"])
@pytest.mark.parametrize("filters", [3, 8, 21])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_odd_contiguous_maps(dtype, filters, variant, cuda_device, monkeypatch):
    """The bits of channels_last maps, in planes; in groups of images, too."""
    input, weights, biases, rates = new_case(ODD, filters, BRANCHES, dtype, cuda_device)
    with _variants.use({"aspp_transpose": variant}):
        out = aspp(input, weights, biases, rates)
        assert out.is_contiguous()
        assert torch.equal(out, aspp(input.contiguous(memory_format=LAST), weights, biases, rates))
        monkeypatch.setitem(_aspp_product.PRODUCT_BYTES, cuda_device.type, 1)
        tolerance = TOLERANCES[dtype]
        torch.testing.assert_close(aspp(input, weights, biases, rates), out, **tolerance)
    exact = [[t.double() for t in tensors] for tensors in (weights, biases)]
    expected = reference.aspp(input.double(), *exact, rates)
    torch.testing.assert_close(out.double(), expected, **tolerance)


def test_odd_contiguous_maps_in_tfloat32(tf32, cuda_device):
    case = new_case(ODD, 5, BRANCHES, torch.float32, cuda_device)
    out = aspp(*case)
    assert out.is_contiguous()
    rtol = 1e-5 if cuda_device.type == "cpu" else 5e-3
    torch.testing.assert_close(out, reference.aspp(*case), rtol=rtol, atol=10 * rtol)


@pytest.mark.parametrize(
    "view", [lambda t: t[:, :, 2:, ::2], lambda t: t[:1].expand(3, -1, -1, -1)]
)
def test_odd_maps_of_any_strides(view, cuda_device):
    input, weights, biases, rates = new_case(ODD, 5, BRANCHES, torch.bfloat16, cuda_device)
    input = view(input)
    assert product_layout(input) == LAST
    expected = aspp(input.contiguous(), weights, biases, rates)
    assert torch.equal(aspp(input, weights, biases, rates), expected)


def test_gradients_of_odd_contiguous_maps(cuda_device):
    """Those of channels_last maps, bit by bit, in the layout of the input; twice the same."""
    input, weights, biases, rates = new_case(ODD, 5, BRANCHES, torch.bfloat16, cuda_device)
    grad = torch.randn(3, 5, 9, 13, device=cuda_device).bfloat16()
    results = []
    for layout in (torch.contiguous_format, torch.contiguous_format, LAST):
        leaves = [input.contiguous(memory_format=layout), *weights, *biases]
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        out = aspp(leaves[0], leaves[1:4], leaves[4:], rates)
        results.append(torch.autograd.grad(out, leaves, grad.contiguous(memory_format=layout)))
        assert results[-1][0].is_contiguous(memory_format=layout)
    for got in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], got, strict=True))


def test_opcheck_of_odd_contiguous_maps(cuda_device):
    input, weights, biases, rates = new_case(ODD, 5, BRANCHES, torch.bfloat16, cuda_device)
    leaves = [t.requires_grad_() for t in (input, *weights, *biases)]
    both = [d for rate in rates for d in (rate, rate)]
    arguments = leaves[0], leaves[1:4], leaves[4:], both
    # the numbers of gradients are tested above: a compiled one rounds its sums elsewhere
    utils = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops.aspp_branches.default, arguments, test_utils=utils)


@pytest.mark.parametrize("filters", [3, 4, 21])
def test_float_taps_without_a_gap(filters, cuda_device):
    """The same bits as with taps of whole words, which are multiplied with zeros in vain."""
    case = new_case((2, 8, 7, 5), filters, BRANCHES, torch.float32, cuda_device, True)
    input, weights, biases, rates = case
    results = []
    for variant in _variants.CHOICES["aspp_float_taps"]:
        with _variants.use({"aspp_float_taps": variant}):
            dense = padded_filters(input, filters, input.dtype) == filters
            assert dense == (variant == "dense" or filters % 4 == 0)
            leaf = input.detach().requires_grad_()
            out = aspp(leaf, weights, biases, rates)
            results.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaf)))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(2, 5, 9, 7), (3, 4, 5, 8), (1, 3, 1, 6)])
def test_bands_of_rows(size, channels_last, cuda_device, monkeypatch):
    """Fewer taps in the rows near the border: branches that reach far, and none."""
    for dtype in (torch.float32, torch.float64):
        case = new_case(size, 3, BRANCHES, dtype, cuda_device, channels_last)
        expected = reference.aspp(*case)
        with _variants.use({"aspp_float_rows": "bands"}):
            out = aspp(*case)
            torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
            assert torch.equal(out, aspp(*case))
            with monkeypatch.context() as patch:
                patch.setitem(_aspp_product.PRODUCT_BYTES, cuda_device.type, 1)
                torch.testing.assert_close(aspp(*case), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("height", [1, 5, 6, 41])
def test_bands_hold_what_is_read(height):
    """Each row of a band is read by the band's taps, and by no other."""
    taps = [(3, 3)] * 4, (6, 6, 12, 12, 18, 18, 24, 24), (height, 41)
    taps = in_order_of_rows(_taps_of(tuple(taps[0]), *taps[1:]))
    bands = bands_of(taps.pairs, height)
    assert [row for first, end, *_ in bands for row in range(first, end)] == list(range(height))
    for first, end, *run in bands:
        for row in range(first, end):
            read = [t for t, (dy, _) in enumerate(taps.pairs) if 0 <= row - dy < height]
            assert read == list(range(*run))
