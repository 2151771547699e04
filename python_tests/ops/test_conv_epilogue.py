"""Bias, residual and ReLU in one pass, against torch."""

import pytest
import torch

from deeplab_native.ops._conv_epilogue import finish_, takes

LAYOUTS = (torch.contiguous_format, torch.channels_last)
# (B, C, H, W): more packs than a step of the grid, odd rows of packs, one pixel
SIZES = [(2, 8, 5, 7), (1, 24, 3, 5), (3, 64, 1, 1), (1, 40, 33, 9), (0, 8, 3, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_is_the_sum_and_its_relu(cuda_device, size, layout, dtype):
    shape = {"device": cuda_device, "dtype": dtype}
    for relu in (False, True):
        for residual in (None, torch.randn(size, **shape)):
            map = torch.randn(size, **shape).contiguous(memory_format=layout)
            bias = torch.randn(size[1], device=cuda_device)
            # in float32, rounded once: the same bits
            expected = map.float() + bias[:, None, None]
            expected = expected if residual is None else expected + residual.float()
            expected = (expected.relu() if relu else expected).to(dtype)
            again = map.clone()
            assert takes(map)
            assert finish_(map, bias, residual, relu=relu) is map
            assert torch.equal(map, expected)
            assert torch.equal(finish_(again, bias, residual, relu=relu), map)


def test_nan_and_infinity_stay(cuda_device):
    values = torch.tensor([torch.nan, torch.inf, -torch.inf, -1.0, 2.0, 0.0, -0.0, 1.0])
    map = values.view(1, 8, 1, 1).clone().to(cuda_device)
    found = finish_(map, torch.zeros(8, device=cuda_device), None, relu=True).flatten().cpu()
    assert found[0].isnan()
    assert found[1:].tolist() == [torch.inf, 0, 0, 2, 0, 0, 1]


def test_what_it_does_not_take(cuda_device):
    def new(*size, dtype=torch.float32):
        return torch.zeros(size, dtype=dtype, device=cuda_device)

    assert takes(new(1, 6, 3, 5))
    assert not takes(new(1, 6, 3, 5).contiguous(memory_format=torch.channels_last))
    assert not takes(new(1, 8, 3, 5, dtype=torch.float64))
    assert not takes(new(1, 8, 6, 5)[:, :, ::2])
    assert not takes(new(121)[1:].view(1, 8, 3, 5))


def test_on_the_cpu_torch_does_it():
    assert not takes(torch.zeros(1, 8, 3, 5))
