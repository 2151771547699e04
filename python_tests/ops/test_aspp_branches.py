"""Branches of any number, size and dtype, with and without a bias, go into one product."""

from __future__ import annotations

import pytest
import torch

from deeplab_native import aspp
from python_tests.ops import reference
from python_tests.ops.test_aspp import CASES, new_case


@pytest.mark.parametrize("sizes", [[1] * 45, [3] * 40, [15, 15]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_many_branches(sizes, dtype, device):
    """More, and larger, than one launch packs: their centres have one tap in common."""
    kernels = [((size, size), 1) for size in sizes]
    input, weights, biases, rates = new_case((1, 3, 9, 8), 2, kernels, device=device)
    got = aspp(
        input.to(dtype), [w.to(dtype) for w in weights], [b.to(dtype) for b in biases], rates
    )
    expected = reference.aspp(input, weights, biases, rates)
    scale = expected.abs().max()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert (got - expected).abs().max() < tolerance * scale


@pytest.mark.parametrize("channels_last", [False, True])
def test_weights_of_several_dtypes_under_autocast(channels_last, device):
    input, weights, biases, rates = new_case(*CASES[0], device=device, channels_last=channels_last)
    expected = reference.aspp(input, weights, biases, rates)
    weights[1], biases[0] = weights[1].bfloat16(), biases[0].bfloat16()
    leaves = [t.requires_grad_() for t in (*weights, *biases)]
    with torch.autocast(input.device.type, torch.bfloat16):
        got = aspp(input, weights, biases, rates)
    assert got.dtype == torch.bfloat16
    assert (got - expected).abs().max() < 2e-2 * expected.abs().max()
    for leaf, grad in zip(leaves, torch.autograd.grad(got.sum(), leaves), strict=True):
        assert grad.dtype == leaf.dtype and grad.any()


def test_absent_biases(device):
    input, weights, biases, rates = new_case(*CASES[0], device=device)
    none = aspp(input, weights, None, rates)
    assert torch.equal(none, aspp(input, weights, [None] * 3, rates))
    one = aspp(input, weights, [None, biases[1], None], rates)
    torch.testing.assert_close(one, none + biases[1][:, None, None])
