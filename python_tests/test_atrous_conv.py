"""atrous_conv2d and atrous_conv1d: every algorithm against the definition and torch."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from deeplab_native import atrous_conv1d, atrous_conv2d
from deeplab_native.ops import _conv_algorithms

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
NATIVE = ["im2col", "space_to_batch"]
ALGORITHMS = [*NATIVE, "aten", "auto"]
VIEWS = {
    "channels_last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "sliced": lambda t: t[:, 1:, ::2, 1:-1],
    "sliced_channels_last": lambda t: t.contiguous(memory_format=torch.channels_last)[:, :3],
    "transposed": lambda t: t.transpose(2, 3),
    "channels_across": lambda t: t.transpose(1, 3),
    "expanded": lambda t: t[:1, :1].expand(2, 5, -1, -1),
    "expanded_columns": lambda t: t[..., :1].expand(-1, -1, -1, 9),
}

conv_op = torch.ops.deeplab_native.atrous_conv2d.default
backward_op = torch.ops.deeplab_native.atrous_conv2d_backward.default


def lacks(algorithm, stride):
    return algorithm == "space_to_batch" and stride != (1, 1)


def tensors(size, filters, dtype=torch.float64, device="cpu"):
    input = torch.randn(size, dtype=dtype, device=device)
    weight = torch.randn(filters[0], size[1], *filters[1:], dtype=dtype, device=device)
    return input, weight, torch.randn(filters[0], dtype=dtype, device=device)


def assert_near(actual, expected, tolerance):
    """Relative to the largest value: single pixels may cancel out."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().item() if expected.numel() else 1.0
    torch.testing.assert_close(
        actual.to(expected), expected, rtol=0, atol=tolerance * scale, check_stride=False
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size, filters, stride, padding, rate", CASES)
def test_values_and_gradients(size, filters, stride, padding, rate, algorithm):
    if lacks(algorithm, stride):
        pytest.skip("space_to_batch has stride 1 only")
    leaves = [t.requires_grad_() for t in tensors(size, filters)]
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
@pytest.mark.parametrize("algorithm", NATIVE)
def test_two_byte_types(algorithm, dtype, tolerance):
    leaves = [t.to(dtype) for t in tensors((2, 16, 15, 17), (8, 3, 3))]
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
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_any_strides(algorithm, view):
    base = torch.randn(2, 5, 9, 12, dtype=torch.float64, requires_grad=True)
    input = view(base)
    weight = torch.randn(4, input.shape[1], 3, 2, dtype=torch.float64)
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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_channels_last_stays(algorithm):
    input, weight, bias = tensors((2, 5, 9, 8), (4, 3, 3), torch.float32)
    input = input.contiguous(memory_format=torch.channels_last).requires_grad_()
    out = atrous_conv2d(input, weight, bias, padding=2, rate=2, algorithm=algorithm)
    assert out.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(out.square().sum(), input)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sum_sends_an_expanded_gradient(algorithm):
    leaves = [t.requires_grad_() for t in tensors((2, 3, 7, 6), (4, 3, 3))]
    sums = [
        atrous_conv2d(*leaves, padding=3, rate=3, algorithm=algorithm).sum(),
        F.conv2d(*leaves, padding=3, dilation=3).sum(),
    ]
    grads = [torch.autograd.grad(s, leaves) for s in sums]
    for actual, right in zip(*grads, strict=True):
        assert_near(actual, right, 1e-10)


@pytest.mark.parametrize("needed", range(1, 8))
@pytest.mark.parametrize("algorithm", NATIVE)
def test_only_needed_gradients(algorithm, needed):
    leaves = [
        t.requires_grad_(bool(needed >> i & 1))
        for i, t in enumerate(tensors((2, 3, 7, 6), (4, 3, 3)))
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


@pytest.mark.parametrize("algorithm", NATIVE)
def test_gradcheck_first_and_second(algorithm):
    leaves = [t.requires_grad_() for t in tensors((1, 2, 4, 3), (2, 2, 3))]

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
@pytest.mark.parametrize("algorithm", NATIVE)
def test_opcheck(algorithm, layout):
    input, weight, bias = tensors((2, 3, 7, 6), (4, 3, 3), torch.float32)
    leaves = [input.contiguous(memory_format=layout), weight, bias]
    leaves = [t.requires_grad_() for t in leaves]
    how = [1, 1], [3, 2], [3, 2], algorithm
    torch.library.opcheck(conv_op, (*leaves, *how))
    grad = conv_op(*leaves, *how).detach().requires_grad_()
    torch.library.opcheck(backward_op, (grad, *leaves[:2], *how, [True, True, True]))
    torch.library.opcheck(backward_op, (grad, *leaves[:2], *how, [False, True, False]))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_compile(algorithm):
    _, weight, bias = tensors((1, 3, 1, 1), (4, 3, 3), torch.float32)
    leaves = [weight.requires_grad_(), bias.requires_grad_()]

    def conv(input):
        out = atrous_conv2d(input, *leaves, padding=12, rate=12, algorithm=algorithm)
        return out.relu() + atrous_conv1d(input[:, :, 0], weight[:, :, 0], padding=1).sum()

    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((2, 3, 9, 8), (2, 3, 12, 17)):
        input = torch.randn(size)
        torch.testing.assert_close(compiled(input), conv(input))
        grads = [torch.autograd.grad(f(input).sum(), leaves) for f in (compiled, conv)]
        torch.testing.assert_close(*grads)


def test_compile_by_inductor():
    input, weight, bias = tensors((1, 3, 9, 8), (4, 3, 3), torch.float32)

    def conv(input):
        return atrous_conv2d(input, weight, bias, padding=2, rate=2, algorithm="im2col") * 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the compiler's own
        out = torch.compile(conv, fullgraph=True)(input)
    torch.testing.assert_close(out, conv(input))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(algorithm, dtype):
    leaves = [t.requires_grad_() for t in tensors((2, 3, 7, 6), (4, 3, 3), torch.float32)]
    with torch.autocast("cpu", dtype):
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


@pytest.mark.parametrize("algorithm", NATIVE)
def test_same_bits_twice(algorithm):
    leaves = [t.requires_grad_() for t in tensors((2, 24, 31, 33), (16, 3, 3), torch.float32)]
    runs = []
    for _ in range(2):
        out = atrous_conv2d(*leaves, padding=6, rate=6, algorithm=algorithm)
        runs.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "size, kernel, stride, padding, rate",
    [(30, 3, 1, 4, 4), (5, 3, 1, 24, 24), (20, 4, 3, 2, 2), (7, 1, 1, 0, 9)],
)
def test_conv1d(size, kernel, stride, padding, rate, algorithm):
    if lacks(algorithm, (1, stride)):
        pytest.skip("space_to_batch has stride 1 only")
    input = torch.randn(2, 3, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    leaves = input, weight, bias
    how = {"stride": stride, "padding": padding}
    out = atrous_conv1d(*leaves, **how, rate=rate, algorithm=algorithm)
    expected = F.conv1d(*leaves, **how, dilation=rate)
    assert_near(out, expected, 1e-10)
    grads = [torch.autograd.grad(o.square().sum(), leaves) for o in (out, expected)]
    for actual, right in zip(*grads, strict=True):
        assert_near(actual, right, 1e-10)


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
