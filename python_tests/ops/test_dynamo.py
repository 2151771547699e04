"""What Dynamo traces of the checks in front of the ops, in every torch that is supported."""

from __future__ import annotations

import pytest
import torch

from deeplab_native import aspp, atrous_conv2d
from deeplab_native._native import autocasts
from python_tests.ops.conv_cases import tensors


@pytest.mark.parametrize("device", ["meta", "lazy", "vulkan"])
def test_autocast_is_off_where_there_is_none(device):
    assert not torch.amp.is_autocast_available(device)
    assert not autocasts(device)


def test_autocast_as_it_is_set():
    assert torch.amp.is_autocast_available("cpu")
    compiled = torch.compile(lambda x: x + autocasts("cpu"), fullgraph=True, backend="eager")
    for enabled in (False, True):
        with torch.autocast("cpu", enabled=enabled):
            assert autocasts("cpu") == enabled
            assert compiled(torch.zeros(())) == enabled


def test_compile_on_meta():
    input, weight, bias = tensors((2, 3, 9, 8), (4, 3, 3), torch.float32, "meta")

    def conv(input):
        return atrous_conv2d(input, weight, bias, padding=12, rate=12, algorithm="im2col")

    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    assert compiled(input).shape == conv(input).shape == (2, 4, 9, 8)


@pytest.mark.parametrize("autocast", [False, True])
def test_compile_of_aspp_with_symbols_for_sizes(autocast):
    """Some sizes are numbers, others symbols; under autocast every dtype is looked at."""
    _, weight, bias = tensors((1, 5, 1, 1), (3, 3, 3), torch.float32)
    if autocast:
        bias = bias.bfloat16()

    def head(input):
        return aspp(input, [weight], [bias], [2])

    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    for size in ((9, 13), (6, 4)):
        input = torch.randn(2, 5, *size)
        for dimension in (2, 3):
            torch._dynamo.mark_dynamic(input, dimension)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            torch.testing.assert_close(compiled(input), head(input))
