"""atrous_conv2d and atrous_conv1d: every algorithm against the definition and torch."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import atrous_conv1d, atrous_conv2d
from deeplab_native.ops._conv_checks import may_see_padding_alone
from python_tests.ops import reference
from python_tests.ops.conv_cases import ALGORITHMS, ALGORITHMS_ON, NATIVE_ON, assert_near, tensors

# size, (O, kh, kw), stride, padding, rate
CASES = [
    ((2, 3, 41, 41), (4, 3, 3), (1, 1), (24, 24), (24, 24)),
    ((1, 6, 41, 41), (5, 3, 3), (1, 1), (12, 12), (12, 12)),
    ((2, 3, 5, 8), (4, 3, 3), (1, 1), (12, 12), (12, 12)),  # map smaller than the rate
    ((1, 3, 10, 12), (2, 2, 4), (1, 1), (0, 3), (3, 2)),  # even kernel
    ((2, 3, 9, 7), (4, 3, 2), (2, 3), (2, 1), (1, 4)),
    ((2, 3, 9, 16), (4, 1, 5), (1, 1), (0, 7), (2, 3)),
    ((1, 2, 6, 6), (3, 1, 1), (1, 1), (0, 0), (4, 4)),
    ((1, 2, 6, 6), (3, 1, 1), (3, 2), (2, 5), (1, 1)),
    ((2, 1, 1, 1), (1, 3, 3), (1, 1), (6, 6), (6, 6)),
    ((1, 5, 17, 33), (1, 3, 3), (1, 1), (4, 4), (2, 4)),
    ((0, 3, 9, 7), (4, 3, 3), (1, 1), (1, 1), (1, 1)),
    ((1, 2, 14, 14), (128, 3, 3), (1, 1), (12, 12), (12, 12)),  # where "auto" changes the layout
]
VIEWS = {
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "sliced": lambda t: t[:, 1:, ::2, 1:-1],
    "sliced_channels_last": lambda t: t.contiguous(memory_format=torch.channels_last)[:, :3],
    "transposed": lambda t: t.transpose(2, 3),
    "channels_across": lambda t: t.transpose(1, 3),
    "expanded": lambda t: t[:1, :1].expand(2, 5, -1, -1),
    "expanded_columns": lambda t: t[..., :1].expand(-1, -1, -1, 9),
}


backward_op = torch.ops.deeplab_native.atrous_conv2d_backward.default


def lacks(algorithm, stride):
    return algorithm == "space_to_batch" and stride != (1, 1)


@pytest.mark.parametrize("device, algorithm", ALGORITHMS_ON, indirect=["device"])
@pytest.mark.parametrize("size, filters, stride, padding, rate", CASES)
def test_values_and_gradients(size, filters, stride, padding, rate, algorithm, device):
    if lacks(algorithm, stride):
        pytest.skip("space_to_batch has stride 1 only")
    leaves = [t.requires_grad_() for t in tensors(size, filters, device=device)]
    expected = reference.atrous_conv2d(*leaves, stride, padding, rate)
    torch_says = F.conv2d(*leaves, stride, padding, rate)
    cotangent = torch.randn_like(expected)
    grads = torch.autograd.grad(torch_says, leaves, cotangent)
    how = {"stride": stride, "padding": padding, "rate": rate, "algorithm": algorithm}
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        cast = [t.detach().to(dtype).requires_grad_() for t in leaves]
        out = atrous_conv2d(*cast, **how)
        assert out.dtype == dtype
        assert_near(out, expected, tolerance)
        assert_near(out, torch_says, tolerance)
        for actual, right in zip(
            torch.autograd.grad(out, cast, cotangent.to(dtype)), grads, strict=True
        ):
            assert_near(actual, right, tolerance)
        assert_near(atrous_conv2d(*cast[:2], **how), expected - leaves[2][:, None, None], tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 2e-2), (torch.float16, 4e-3)])
@pytest.mark.parametrize("device, algorithm", NATIVE_ON, indirect=["device"])
def test_two_byte_types(algorithm, dtype, tolerance, device):
    """Sums are float32: the tolerance is for the roundings of results to 8 and 11 bits."""
    leaves = [t.to(dtype) for t in tensors((2, 16, 15, 17), (8, 3, 3), device=device)]
    exact = [t.double().requires_grad_() for t in leaves]
    leaves = [t.requires_grad_() for t in leaves]
    out = atrous_conv2d(*leaves, padding=4, rate=4, algorithm=algorithm)
    expected = F.conv2d(*exact, padding=4, dilation=4)
    assert out.dtype == dtype
    assert_near(out, expected, tolerance)
    cotangent = torch.randn_like(out)
    for actual, right in zip(
        torch.autograd.grad(out, leaves, cotangent),
        torch.autograd.grad(expected, exact, cotangent.double()),
        strict=True,
    ):
        assert_near(actual, right, tolerance)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("device, algorithm", ALGORITHMS_ON, indirect=["device"])
def test_any_strides(algorithm, view, device):
    new = partial(torch.randn, dtype=torch.float64, device=device)
    base = new(2, 5, 9, 12, requires_grad=True)
    input = view(base)
    weight = new(4, input.shape[1], 3, 2)
    weight = weight.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    out = atrous_conv2d(input, weight, padding=2, rate=(2, 3), algorithm=algorithm)
    expected = F.conv2d(input.contiguous(), weight, padding=2, dilation=(2, 3))
    assert_near(out, expected, 1e-10)
    cotangent = torch.randn_like(expected).transpose(2, 3).contiguous().transpose(2, 3)
    for actual, right in zip(
        torch.autograd.grad(out, (base, weight), cotangent),
        torch.autograd.grad(expected, (base, weight), cotangent),
        strict=True,
    ):
        assert_near(actual, right, 1e-10)


@pytest.mark.parametrize("device, algorithm", ALGORITHMS_ON, indirect=["device"])
def test_channels_last_stays(algorithm, device):
    input, weight, bias = tensors((2, 5, 9, 8), (4, 3, 3), torch.float32, device)
    input = input.contiguous(memory_format=torch.channels_last).requires_grad_()
    out = atrous_conv2d(input, weight, bias, padding=2, rate=2, algorithm=algorithm)
    assert out.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(out.square().sum(), input)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "filters, rate, dtype, trains, changes",
    [
        (128, 12, torch.float32, False, True),
        (21, 12, torch.float32, False, False),
        (21, 12, torch.float32, True, True),
        (128, 6, torch.float32, True, False),
        (128, 12, torch.float64, True, False),
    ],
)
def test_auto_takes_the_layout_that_was_measured(filters, rate, dtype, trains, changes):
    input, weight, _ = tensors((1, 2, 8, 9), (filters, 3, 3), dtype)
    out = atrous_conv2d(input, weight.requires_grad_(trains), padding=rate, rate=rate)
    assert out.is_contiguous(memory_format=torch.channels_last) == changes


@pytest.mark.parametrize("device, algorithm", ALGORITHMS_ON, indirect=["device"])
def test_sum_sends_an_expanded_gradient(algorithm, device):
    leaves = [t.requires_grad_() for t in tensors((2, 3, 7, 6), (4, 3, 3), device=device)]
    sums = [
        atrous_conv2d(*leaves, padding=3, rate=3, algorithm=algorithm).sum(),
        F.conv2d(*leaves, padding=3, dilation=3).sum(),
    ]
    grads = [torch.autograd.grad(s, leaves) for s in sums]
    for actual, right in zip(*grads, strict=True):
        assert_near(actual, right, 1e-10)


@pytest.mark.parametrize("needed", range(1, 8))
@pytest.mark.parametrize("device, algorithm", NATIVE_ON, indirect=["device"])
def test_only_needed_gradients(algorithm, needed, device):
    leaves = [
        t.requires_grad_(bool(needed >> i & 1))
        for i, t in enumerate(tensors((2, 3, 7, 6), (4, 3, 3), device=device))
    ]
    wanted = [t for t in leaves if t.requires_grad]
    out = atrous_conv2d(*leaves, padding=3, rate=3, algorithm=algorithm)
    expected = F.conv2d(*leaves, padding=3, dilation=3)
    cotangent = torch.randn_like(out)
    for actual, right in zip(
        torch.autograd.grad(out, wanted, cotangent),
        torch.autograd.grad(expected, wanted, cotangent),
        strict=True,
    ):
        assert_near(actual, right, 1e-10)
    mask = [t.requires_grad for t in leaves]
    how = [1, 1], [3, 3], [3, 3], algorithm
    sizes = [g.numel() for g in backward_op(cotangent, *leaves[:2], *how, mask)]
    assert sizes == [t.numel() * t.requires_grad for t in leaves]


# size, (O, kh, kw), stride, padding, rate: torch's ended the process on a CPU with AMX in the first
# five, of float16 or bfloat16; the last is like that of oneDNN's issue 5942
PADDING_ALONE = [
    ((2, 1, 1, 1), (1, 1, 1), (1, 2), (2, 1), (7, 7)),
    ((2, 3, 8, 1), (16, 3, 3), (3, 2), (3, 7), (2, 2)),
    ((2, 3, 8, 1), (1, 2, 2), (2, 2), (7, 7), (2, 2)),
    ((1, 40, 3, 20), (16, 2, 1), (1, 1), (3, 0), (7, 1)),
    ((2, 40, 1, 1), (1, 3, 1), (2, 2), (7, 3), (1, 2)),
    ((2, 64, 1, 1), (1, 125, 1), (2, 2), (63, 63), (1, 1)),
]


@pytest.mark.parametrize("algorithm", ["auto", "aten"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size, filters, stride, padding, rate", PADDING_ALONE)
def test_pixels_that_see_padding_alone(
    size, filters, stride, padding, rate, dtype, algorithm, monkeypatch
):
    """Whatever the CPU, torch is not asked."""
    input, weight, bias = (t.to(dtype).requires_grad_() for t in tensors(size, filters))
    wide = [t.detach().double().requires_grad_() for t in (input, weight, bias)]
    expected = reference.atrous_conv2d(*wide, stride, padding, rate)
    monkeypatch.setattr(F, "conv2d", None)
    how = {"stride": stride, "padding": padding, "rate": rate, "algorithm": algorithm}
    for x in (input, input.contiguous(memory_format=torch.channels_last)):
        out = atrous_conv2d(x, weight, bias, **how)
        assert out.dtype == dtype
        assert_near(out, expected, 64 * torch.finfo(dtype).eps)
        own = torch.autograd.grad(out.sum(), (input, weight, bias))
        right = torch.autograd.grad(expected.sum(), wide, retain_graph=True)
        for actual, grad in zip(own, right, strict=True):
            assert_near(actual, grad, 64 * torch.finfo(dtype).eps)


def test_pixels_that_see_padding_alone_compiled_and_exported():
    """Graphs have torch's operators, which compilers and exporters know."""
    input, weight, bias = tensors((1, 2, 3, 3), (2, 1, 1))
    conv = partial(atrous_conv2d, padding=2, rate=2)

    class Conv(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)

        def forward(self, x):
            return conv(x, self.weight, self.bias)

    eager = conv(input, weight, bias)
    assert_near(torch.compile(Conv(), backend="aot_eager", fullgraph=True)(input), eager, 1e-12)
    exported = torch.export.export(Conv(), (input,))
    targets = {str(node.target) for node in exported.graph.nodes}
    assert any("aten.conv2d" in target for target in targets)
    assert not any("deeplab_native" in target for target in targets)


def test_maps_as_large_as_before_see_no_padding_alone():
    assert not may_see_padding_alone((3, 3), (12, 12), (12, 12))
    assert not may_see_padding_alone((3, 5), (0, 8), (24, 4))
    assert not may_see_padding_alone((3, 1), (2, 0), (1, 1))
    assert may_see_padding_alone((3, 1), (2, 1), (1, 1))
    assert may_see_padding_alone((3, 3), (12, 13), (12, 12))
    assert may_see_padding_alone((2, 3), (1, 0), (2, 2))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), algorithm=st.sampled_from(ALGORITHMS))
def test_property_equals_torch(data, algorithm):
    def two(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, padding, rate = two(1, 4), two(0, 14), two(1, 14)
    stride = (1, 1) if algorithm == "space_to_batch" else two(1, 4)
    size = [
        data.draw(st.integers(max(1, r * (k - 1) + 1 - 2 * p), 45))
        for k, p, r in zip(kernel, padding, rate, strict=True)
    ]
    batch, channels, filters = (data.draw(st.integers(1, n)) for n in (3, 5, 4))
    leaves = [t.requires_grad_() for t in tensors((batch, channels, *size), (filters, *kernel))]
    how = {"stride": stride, "padding": padding}
    out = atrous_conv2d(*leaves, **how, rate=rate, algorithm=algorithm)
    expected = F.conv2d(*leaves, **how, dilation=rate)
    assert_near(out, expected, 1e-10)
    cotangent = torch.randn_like(expected)
    grads = [torch.autograd.grad(o, leaves, cotangent) for o in (out, expected)]
    for actual, right in zip(*grads, strict=True):
        assert_near(actual, right, 1e-10)


@pytest.mark.parametrize("device, algorithm", ALGORITHMS_ON, indirect=["device"])
@pytest.mark.parametrize(
    "size, kernel, stride, padding, rate",
    [(30, 3, 1, 4, 4), (5, 3, 1, 24, 24), (20, 4, 3, 2, 2), (7, 1, 1, 0, 9)],
)
def test_conv1d(size, kernel, stride, padding, rate, algorithm, device):
    if lacks(algorithm, (1, stride)):
        pytest.skip("space_to_batch has stride 1 only")
    new = partial(torch.randn, dtype=torch.float64, device=device, requires_grad=True)
    leaves = new(2, 3, size), new(4, 3, kernel), new(4)
    how = {"stride": stride, "padding": padding}
    out = atrous_conv1d(*leaves, **how, rate=rate, algorithm=algorithm)
    expected = F.conv1d(*leaves, **how, dilation=rate)
    assert_near(out, expected, 1e-10)
    grads = [torch.autograd.grad(o.square().sum(), leaves) for o in (out, expected)]
    for actual, right in zip(*grads, strict=True):
        assert_near(actual, right, 1e-10)
