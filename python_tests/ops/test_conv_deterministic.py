"""atrous_conv2d on a GPU where torch is asked for the same bits every time."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deeplab_native import atrous_conv2d
from deeplab_native.ops import _conv_algorithms as algorithms


def layout_of(input, rate, monkeypatch) -> torch.memory_format:
    """What "auto" makes of an input, which need not be there."""
    asked = []
    monkeypatch.setattr(
        torch.Tensor, "contiguous", lambda self, memory_format: asked.append(memory_format)
    )
    algorithms.in_better_layout(input, torch.empty(4, 3, 3, 3), rate)
    return asked[0] if asked else torch.contiguous_format


@pytest.mark.parametrize("deterministic", ["cudnn", "algorithms", None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rate", [1, 2, 12])
def test_layout(deterministic, dtype, rate, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic == "cudnn")
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic == "algorithms")
    try:
        with FakeTensorMode():
            input = torch.empty(2, 3, 9, 9, dtype=dtype, device="cuda")
        found = layout_of(input, rate, monkeypatch)
    finally:
        torch.use_deterministic_algorithms(was)
    changes = deterministic is not None and dtype != torch.float64 and rate > 1
    assert found == (torch.channels_last if changes else torch.contiguous_format)


def test_without_cudnn_nothing_is_gained(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    with FakeTensorMode():
        input = torch.empty(2, 3, 9, 9, device="cuda")
    assert layout_of(input, 2, monkeypatch) == torch.contiguous_format


def test_the_cpu_is_not_asked(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    input = torch.empty(2, 3, 9, 9)
    assert layout_of(input, 2, monkeypatch) == torch.contiguous_format


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_by_cudnn_on_cuda(dtype, cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    input = torch.randn(2, 64, 33, 33, device=cuda, dtype=dtype, requires_grad=True)
    weight = (0.05 * torch.randn(32, 64, 3, 3, device=cuda, dtype=dtype)).requires_grad_()

    def run():
        out = atrous_conv2d(input, weight, padding=12, rate=12)
        return out, *torch.autograd.grad(out, (input, weight), torch.ones_like(out))

    with torch.profiler.profile() as profile:
        first = run()
    names = {event.key for event in profile.key_averages()}
    assert "aten::cudnn_convolution" in names and not any("slow_conv" in name for name in names)
    assert first[0].is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(first, run(), strict=True):
        assert torch.equal(a, b)
    slow = torch.nn.functional.conv2d(input, weight, padding=12, dilation=12)
    tolerance = {"rtol": 1e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(first[0], slow.contiguous(), **tolerance)
