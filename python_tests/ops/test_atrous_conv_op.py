"""atrous_conv2d as an op: derivatives, registration, autocast, memory bound, arguments."""

from __future__ import annotations

import gc
import itertools
import warnings
import weakref
from contextlib import suppress

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import atrous_conv1d, atrous_conv2d
from deeplab_native.ops import _conv_algorithms
from python_tests.ops import conv_cases
from python_tests.ops.conv_cases import ALGORITHMS, ALGORITHMS_ON, NATIVE_ON, assert_near, tensors

conv_op = torch.ops.deeplab_native.atrous_conv2d.default
backward_op = torch.ops.deeplab_native.atrous_conv2d_backward.default


@pytest.mark.parametrize("device, algorithm", NATIVE_ON, indirect=["device"])
def test_gradcheck_first_and_second(algorithm, device):
    leaves = [t.requires_grad_() for t in tensors((1, 2, 4, 3), (2, 2, 3), device=device)]

    def conv(*args):
        return atrous_conv2d(*args, padding=(2, 1), rate=(3, 2), algorithm=algorithm)

    assert torch.autograd.gradcheck(conv, leaves)
    assert torch.autograd.gradgradcheck(conv, leaves)
    for i in range(3):  # one differentiable argument at a time

        def of_one(t, i=i):
            return conv(*(t if i == k else leaf.detach() for k, leaf in enumerate(leaves)))

        assert torch.autograd.gradcheck(of_one, leaves[i])
        assert torch.autograd.gradgradcheck(of_one, leaves[i])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("device, algorithm", NATIVE_ON, indirect=["device"])
def test_opcheck(algorithm, layout, device):
    input, weight, bias = tensors((2, 3, 7, 6), (4, 3, 3), torch.float32, device)
    leaves = [input.contiguous(memory_format=layout), weight, bias]
    leaves = [t.requires_grad_() for t in leaves]
    how = [1, 1], [3, 2], [3, 2], algorithm
    torch.library.opcheck(conv_op, (*leaves, *how))
    grad = conv_op(*leaves, *how).detach().requires_grad_()
    # what a mask leaves out of the second derivatives is the same for every algorithm
    traced = algorithm == "im2col" and layout == torch.contiguous_format
    for mask in itertools.product([True, False], repeat=3):
        checks = conv_cases.ALL_CHECKS if traced or all(mask) else conv_cases.ALL_CHECKS[:-1]
        torch.library.opcheck(backward_op, (grad, *leaves[:2], *how, list(mask)), test_utils=checks)


@pytest.mark.parametrize("algorithm", ["aten", "auto", "fft"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_ops_take_the_native_algorithms_only(algorithm, device):
    input, weight, bias = tensors((1, 2, 5, 5), (3, 1, 1), torch.float32, device)
    how = [1, 1], [0, 0], [1, 1], algorithm
    with pytest.raises(ValueError, match=f"algorithm: expected one of .*got '{algorithm}'"):
        conv_op(input, weight, bias, *how)
    with pytest.raises(ValueError, match=f"algorithm: expected one of .*got '{algorithm}'"):
        backward_op(input.new_zeros(1, 3, 5, 5), input, weight, *how, [True] * 3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_defaults_of_torch_do_not_matter(algorithm, torch_default):
    """The results have the dtype and device of the input, not the ones torch creates tensors in."""
    leaves = [t.requires_grad_() for t in tensors((2, 3, 9, 8), (4, 3, 3), torch.float32)]
    how = {"padding": 12, "rate": 12, "algorithm": algorithm}
    expected = atrous_conv2d(*leaves, **how)
    grads = torch.autograd.grad(expected.sum(), leaves)
    with torch_default():
        out = atrous_conv2d(*leaves, **how)
        again = torch.autograd.grad(out.sum(), leaves)
    for actual, right in zip((out, *again), (expected, *grads), strict=True):
        assert (actual.dtype, actual.device) == (torch.float32, torch.device("cpu"))
        torch.testing.assert_close(actual, right)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_integers_of_numpy(algorithm):
    leaves = tensors((1, 2, 7, 6), (3, 3, 3))
    expected = atrous_conv2d(*leaves, padding=2, rate=(2, 1), algorithm=algorithm)
    rate = (np.int64(2), np.uint8(1))
    out = atrous_conv2d(
        *leaves, stride=np.int32(1), padding=np.int64(2), rate=rate, algorithm=algorithm
    )
    assert torch.equal(out, expected)


@pytest.mark.parametrize("device, algorithm", ALGORITHMS_ON, indirect=["device"])
def test_compile(algorithm, device):
    _, weight, bias = tensors((1, 3, 1, 1), (4, 3, 3), torch.float32, device)
    leaves = [weight.requires_grad_(), bias.requires_grad_()]

    def conv(input):
        out = atrous_conv2d(input, *leaves, padding=12, rate=12, algorithm=algorithm)
        return out.relu() + atrous_conv1d(input[:, :, 0], weight[:, :, 0], padding=1).sum()

    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((2, 3, 9, 8), (2, 3, 12, 17)):
        input = torch.randn(size, device=device)
        torch.testing.assert_close(compiled(input), conv(input))
        grads = [torch.autograd.grad(f(input).sum(), leaves) for f in (compiled, conv)]
        torch.testing.assert_close(*grads)


# of a description of the graph for its own log, which torch 2.6 makes where it has no cached code
@pytest.mark.filterwarnings("ignore:Skipping serialization:UserWarning")
def test_compile_by_inductor():
    input, weight, bias = tensors((1, 3, 9, 8), (4, 3, 3), torch.float32)

    def conv(input):
        return atrous_conv2d(input, weight, bias, padding=2, rate=2, algorithm="im2col") * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the compiler's own
        out = torch.compile(conv, fullgraph=True)(input)
    torch.testing.assert_close(out, conv(input))


@pytest.mark.parametrize("device, algorithm", ALGORITHMS_ON, indirect=["device"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(algorithm, dtype, device):
    leaves = [t.requires_grad_() for t in tensors((2, 3, 7, 6), (4, 3, 3), torch.float32, device)]
    with torch.autocast(device.type, dtype):
        out = atrous_conv2d(*leaves, padding=2, rate=2, algorithm=algorithm)
        mixed = atrous_conv2d(leaves[0].to(dtype), *leaves[1:], padding=2, rate=2)
        double = atrous_conv2d(*(t.double() for t in leaves), algorithm=algorithm)
    assert (out.dtype, mixed.dtype, double.dtype) == (dtype, dtype, torch.float64)
    assert_near(out, F.conv2d(*leaves, padding=2, dilation=2), 2e-2)
    grads = torch.autograd.grad(out.float().sum(), leaves)
    assert [g.dtype for g in grads] == [torch.float32] * 3


@pytest.mark.parametrize("column_bytes", [1, 3 * 9 * 8 * 5, 3 * 9 * 8 * 30])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_small_bands_give_the_same(layout, column_bytes, monkeypatch):
    """Single pixels, parts of rows and bands of rows."""
    leaves = [t.requires_grad_() for t in tensors((2, 3, 9, 11), (4, 3, 3))]
    leaves[0] = leaves[0].detach().contiguous(memory_format=layout).requires_grad_()
    how = {"padding": (3, 2), "rate": (3, 2), "stride": (2, 1), "algorithm": "im2col"}
    whole = atrous_conv2d(*leaves, **how)
    cotangent = torch.randn_like(whole)
    grads = torch.autograd.grad(whole, leaves, cotangent)
    monkeypatch.setattr(_conv_algorithms, "COLUMN_BYTES", column_bytes)
    banded = atrous_conv2d(*leaves, **how)
    assert_near(banded, whole, 1e-13)
    for actual, right in zip(torch.autograd.grad(banded, leaves, cotangent), grads, strict=True):
        assert_near(actual, right, 1e-13)


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    column_rows=st.integers(1, 50_000),
    element_size=st.sampled_from([2, 4, 8]),
)
def test_windows_fit_and_cover(size, column_rows, element_size):
    begin = 0
    for first, last, left, right in _conv_algorithms.windows(size, column_rows, element_size):
        assert last - first == 1 or (left, right) == (0, size[1])
        assert first * size[1] + left == begin  # in order, without a gap
        begin = (last - 1) * size[1] + right
        area = (last - first) * (right - left)
        assert area * column_rows * element_size <= 64 * 2**20
    assert begin == size[0] * size[1]


def test_column_buffer_of_a_large_layer(monkeypatch):
    """Wherever the time goes, 300 MiB of columns never lie in memory at once."""
    sizes = []
    fill = _conv_algorithms.fill_columns

    def watch(map, columns, geometry, window):
        sizes.append(columns.untyped_storage().nbytes())
        fill(map, columns, geometry, window)

    monkeypatch.setattr(_conv_algorithms, "fill_columns", watch)
    input, weight, _ = tensors((1, 64, 376, 376), (2, 3, 3), torch.float32)
    out = atrous_conv2d(input, weight, padding=2, rate=2, algorithm="im2col")
    assert_near(out, F.conv2d(input, weight, padding=2, dilation=2), 1e-5)
    assert len(sizes) == 5 and max(sizes) <= 64 * 2**20


MAP, FILTER, BIAS = torch.zeros(2, 3, 8, 8), torch.zeros(4, 3, 3, 3), torch.zeros(4)


@pytest.mark.parametrize(
    "error, words, arguments, options",
    [
        (TypeError, "input.*list", ([1.0], FILTER), {}),
        (ValueError, r"input.*4 dim.*\(3, 8, 8\)", (MAP[0], FILTER), {}),
        (TypeError, "input.*int64", (MAP.long(), FILTER), {}),
        (ValueError, "weight.*4 dim", (MAP, FILTER[0]), {}),
        (ValueError, r"\(4, 1, 3, 3\).*\(2, 3, 8, 8\)", (MAP, FILTER[:, :1]), {}),
        (ValueError, "weight.*empty", (MAP, FILTER[:0]), {}),
        (ValueError, "weight.*empty", (MAP, FILTER[..., :0]), {}),
        (ValueError, r"bias.*\(4,\).*\(3,\)", (MAP, FILTER, BIAS[:3]), {}),
        (ValueError, "bias.*1 dim", (MAP, FILTER, BIAS[None]), {}),
        (TypeError, "weight torch.float64", (MAP, FILTER.double()), {}),
        (TypeError, "bias torch.float64", (MAP, FILTER, BIAS.double()), {}),
        (ValueError, "weight on meta", (MAP, FILTER.to("meta")), {}),
        (ValueError, "no output pixel", (MAP, FILTER), {"rate": 4}),
        (ValueError, "at least one", (MAP[:, :, :0], FILTER), {"padding": 4}),
        (ValueError, "stride.*0", (MAP, FILTER), {"stride": 0}),
        (ValueError, "rate.*0", (MAP, FILTER), {"rate": (1, 0)}),
        (ValueError, "padding.*-1", (MAP, FILTER), {"padding": -1}),
        (TypeError, "rate.*True", (MAP, FILTER), {"rate": True}),
        (TypeError, "rate.*2.0", (MAP, FILTER), {"rate": 2.0}),
        (TypeError, "rate.*integer.*2", (MAP, FILTER), {"rate": np.float64(2)}),
        (TypeError, "rate.*integer.*True", (MAP, FILTER), {"rate": np.bool_(True)}),
        (TypeError, "rate.*tensor", (MAP, FILTER), {"rate": torch.tensor(2)}),
        (ValueError, "rate.*0", (MAP, FILTER), {"rate": np.int64(0)}),
        (TypeError, "rate.*(1, 2, 3)", (MAP, FILTER), {"rate": (1, 2, 3)}),
        (TypeError, "padding.*'same'", (MAP, FILTER), {"padding": "same"}),
        (ValueError, "algorithm.*'fft'", (MAP, FILTER), {"algorithm": "fft"}),
        (
            ValueError,
            "stride.*needs 1",
            (MAP, FILTER),
            {"stride": 2, "algorithm": "space_to_batch"},
        ),
    ],
)
def test_bad_arguments(error, words, arguments, options):
    with pytest.raises(error, match=words):
        atrous_conv2d(*arguments, **options)


@pytest.mark.parametrize(
    "error, words, options",
    [
        (TypeError, r"rate.*\(1, 2\)", {"rate": (1, 2)}),
        (ValueError, "padding.*-1", {"padding": -1}),
        (TypeError, "stride.*1.5", {"stride": 1.5}),
        (ValueError, "input.*3 dim", {"input": MAP}),
        (ValueError, "weight.*3 dim", {"weight": FILTER}),
    ],
)
def test_bad_arguments_1d(error, words, options):
    with pytest.raises(error, match=words):
        atrous_conv1d(**{"input": MAP[0], "weight": FILTER[0], **options})


def test_what_torch_checks_is_not_checked_twice(monkeypatch):
    """The checks of "auto" take twice the time of a small convolution."""
    monkeypatch.setattr("deeplab_native.ops.atrous_conv.check_tensors_fit", pytest.fail)
    input, weight = torch.randn(1, 3, 8, 8), torch.randn(2, 3, 3, 3)
    for rate in (2, (2, 1)):
        out = atrous_conv2d(input, weight, torch.zeros(2), padding=rate, rate=rate)
        assert out.shape == (1, 2, 8, 8)


def test_errors_that_no_check_finds(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(F, "conv2d", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        atrous_conv2d(torch.randn(1, 3, 8, 8), torch.randn(2, 3, 3, 3))


def test_a_failed_call_keeps_no_memory(monkeypatch):
    """Who catches it, as out of memory, finds the input freed at once, without the collector."""

    def fail(*arguments):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(F, "conv2d", fail)
    input = torch.randn(1, 3, 8, 8)
    alive = weakref.ref(input)
    gc.collect()
    gc.disable()
    try:
        with suppress(RuntimeError):
            atrous_conv2d(input, torch.randn(2, 3, 3, 3))
        del input
        assert alive() is None
    finally:
        gc.enable()
