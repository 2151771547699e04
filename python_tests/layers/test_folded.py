"""Frozen batch normalisation folded into a convolution."""

import pytest
import torch

from deeplab_native.layers import AtrousConv2d, FrozenBatchNorm2d
from deeplab_native.layers.folded import FoldedConv


def layers(dtype, *, bias=False):
    conv = AtrousConv2d(5, 7, 3, stride=2, padding="same", rate=2, bias=bias, dtype=dtype)
    bn = FrozenBatchNorm2d(7, eps=1e-3, dtype=dtype)
    with torch.no_grad():
        for parameter in bn.parameters():
            parameter.copy_(torch.randn(7))
        bn.running_mean.copy_(torch.randn(7))
        bn.running_var.copy_(torch.rand(7) + 0.01)
    return conv, bn


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 0.1)]
)
def test_it_is_both_layers(device, dtype, tolerance, bias):
    conv, bn = layers(dtype, bias=bias)
    conv, bn = conv.to(device), bn.to(device)
    x = torch.randn(2, 5, 13, 10, dtype=dtype, device=device)
    with torch.no_grad():
        expected = bn.double()(conv.double()(x.double()))
    folded = FoldedConv(conv.to(dtype), bn.to(dtype))
    assert folded.weight.dtype == dtype
    torch.testing.assert_close(folded(x).double(), expected, rtol=tolerance, atol=tolerance)
    residual = torch.randn(expected.shape, dtype=dtype, device=device)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = folded(x.contiguous(memory_format=layout), residual, relu=True).double()
        whole = (expected + residual.double()).relu()
        torch.testing.assert_close(found, whole, rtol=tolerance, atol=tolerance)


def test_precision_and_layout():
    conv, bn = layers(torch.float32)
    folded = FoldedConv(conv, bn, torch.bfloat16, torch.channels_last)
    assert (folded.weight.dtype, folded.bias.dtype) == (torch.bfloat16, torch.float32)
    assert folded.weight.is_contiguous(memory_format=torch.channels_last)
    # rounded once: of the exact product
    scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    exact = conv.weight.double() * scale[:, None, None, None]
    torch.testing.assert_close(folded.weight.double(), exact, rtol=2**-8, atol=0)


def test_it_has_no_gradients_and_the_layers_keep_theirs():
    conv, bn = layers(torch.float32)
    folded = FoldedConv(conv, bn)
    assert not any(True for _ in folded.parameters())
    bn(conv(torch.randn(1, 5, 9, 9))).sum().backward()
    assert conv.weight.grad is not None and conv.weight.requires_grad
