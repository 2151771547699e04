"""The native head of the CPU: its tiles, blocks and slices, threads and instruction sets."""

from __future__ import annotations

import pytest
import torch

from deeplab_native import _C, aspp
from deeplab_native.ops._aspp_panels import panels_forward
from python_tests.ops import reference
from python_tests.ops.test_aspp import CASES, TOLERANCES, new_case

RATES = (1, 2, 3, 4)


@pytest.mark.parametrize("channels", [1, 255, 256, 257, 600])
@pytest.mark.parametrize("filters", [1, 6, 7, 8, 13, 21])
def test_blocks_and_slices_of_any_size(filters, channels):
    """Weights lie in blocks of up to 7 filters and slices of 256 channels."""
    torch.manual_seed(0)
    input = torch.randn(1, channels, 7, 9)
    weights = [torch.randn(filters, channels, 3, 3) / channels for _ in RATES]
    expected = reference.aspp(input.double(), [w.double() for w in weights], None, RATES)
    for layout in (torch.contiguous_format, torch.channels_last):
        out = aspp(input.contiguous(memory_format=layout), weights, None, RATES)
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_head_has_the_same_bits_for_any_number_of_threads(channels_last, set_threads):
    """Threads take tiles as they come, but what a tile gives depends on nothing else."""
    input, weights, biases, rates = new_case(
        (2, 300, 19, 31), 21, CASES[0][2], channels_last=channels_last
    )
    outs = []
    for threads in (1, 2, 5):
        set_threads(threads)
        outs.append(aspp(input, weights, biases, rates))
    assert all(torch.equal(out, outs[0]) for out in outs)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_head_with_every_instruction_set(isa, dtype, request):
    """Tiles have 12 to 48 pixels, and registers hold 4 or 7 filters."""
    if isa not in _C.available_isas():
        pytest.skip(f"this processor has no {isa}")
    request.addfinalizer(lambda: _C.set_isa(_C.available_isas()[-1]))
    _C.set_isa(isa)
    for filters in (4, 7, 20):
        case = new_case((1, 290, 13, 11), filters, CASES[1][2], dtype)
        exact = [[t.double() for t in tensors] for tensors in case[1:3]]
        expected = reference.aspp(case[0].double(), *exact, case[3])
        torch.testing.assert_close(aspp(*case).double(), expected, **TOLERANCES[dtype])


def test_native_head_refuses_rows_that_are_not_there():
    input, weights = torch.randn(1, 3, 4, 4), [torch.randn(2, 3, 1, 1)]
    for index, offsets in (([1], [0, 0]), ([0], [0, 0, 1, 1])):
        with pytest.raises(ValueError, match="index: expected"):
            panels_forward(input, weights, None, index, offsets)
