"""atrous_im2col and atrous_col2im against the definition, fold and unfold."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import atrous_col2im, atrous_im2col
from deeplab_native.ops.atrous_im2col import add_columns, fill_columns, sum_dtype
from python_tests.emulation.build import on_the_emulator
from python_tests.ops import reference

# size, kernel, stride, padding, rate
CASES = [
    ((2, 3, 41, 41), (3, 3), (1, 1), (24, 24), (24, 24)),
    ((1, 2, 8, 6), (3, 3), (1, 1), (12, 12), (12, 12)),  # map smaller than the rate
    ((2, 3, 9, 7), (3, 2), (2, 3), (2, 1), (1, 4)),
    ((2, 17, 6, 8), (2, 4), (1, 1), (0, 3), (3, 2)),  # more channels than a cache line holds
    ((1, 1, 1, 1), (1, 1), (3, 3), (0, 0), (5, 5)),
    ((1, 2, 5, 5), (1, 1), (2, 2), (4, 0), (1, 1)),  # whole output rows in the padding
    ((1, 4, 3, 30), (1, 5), (1, 4), (0, 9), (1, 6)),
    ((0, 2, 9, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
]
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

ops = torch.ops.deeplab_native


def unfold_arguments(kernel, stride, padding, rate):
    return {"kernel_size": kernel, "dilation": rate, "padding": padding, "stride": stride}


def layouts(map):
    """The same values behind other strides."""
    yield map
    yield map.contiguous(memory_format=torch.channels_last)
    yield map.transpose(2, 3).contiguous().transpose(2, 3)
    yield torch.stack((map, map), 4)[..., 0]
    padded = F.pad(map, (1, 2, 3, 1))
    yield padded[:, :, 3:-1, 1:-2]


@pytest.mark.parametrize("size, kernel, stride, padding, rate", CASES)
def test_im2col_equals_definition(size, kernel, stride, padding, rate, device):
    for map in layouts(torch.randn(size, dtype=torch.float64, device=device)):
        columns = atrous_im2col(map, kernel, stride=stride, padding=padding, rate=rate)
        expected = reference.atrous_im2col(map, kernel, stride, padding, rate)
        torch.testing.assert_close(columns, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("size, kernel, stride, padding, rate", CASES[:-1])
def test_equal_unfold_and_fold(size, kernel, stride, padding, rate, dtype, device):
    how = {"stride": stride, "padding": padding, "rate": rate}
    map = torch.randn(size, device=device).to(dtype)
    columns = atrous_im2col(map, kernel, **how)
    unfolded = F.unfold(map, **unfold_arguments(kernel, stride, padding, rate))
    torch.testing.assert_close(columns, unfolded, rtol=0, atol=0)
    folded = F.fold(columns.double(), size[2:], **unfold_arguments(kernel, stride, padding, rate))
    back = atrous_col2im(columns, size[2:], kernel, **how)
    assert back.dtype == dtype
    # one rounding: the sums of the 2-byte types are float32
    tolerance = max(2 * torch.finfo(torch.float32).eps, torch.finfo(dtype).eps / 2)
    if dtype == torch.float64:
        tolerance = 1e-14
    torch.testing.assert_close(back.double(), folded, rtol=tolerance, atol=8 * tolerance / 100)


def test_half_columns_are_read_exactly(device):
    """Every float16 and bfloat16 there is, subnormal numbers and infinities included."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32, device=device).to(torch.int16)
    for dtype in (torch.float16, torch.bfloat16):
        values = bits.view(dtype)
        values = values[values.isfinite()]
        infinite = torch.tensor([torch.inf, -torch.inf], dtype=dtype, device=device)
        values = torch.cat((values, infinite))
        back = atrous_col2im(values[None, None], (1, len(values)), 1)
        assert torch.equal(back.flatten(), values)
    nan = torch.full((1, 1, 1), torch.nan, dtype=torch.float16, device=device)
    assert atrous_col2im(nan, (1, 1), 1).isnan().all()


def test_expanded_columns(device):
    """What sum().backward() sends: one number behind all the strides."""
    columns = torch.ones(1, 1, 1, device=device).expand(2, 2 * 9, 25)
    back = atrous_col2im(columns, (5, 5), 3, padding=1)
    expected = F.fold(columns.contiguous(), 5, 3, padding=1)
    torch.testing.assert_close(back, expected)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("rows, cols", [(1, 1), (2, 20), (5, 3), (7, 7)])
def test_windows_cover_the_output(rows, cols, channels_last, device):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    map = torch.randn(2, 19, 12, 11, dtype=torch.float64, device=device)
    map = map.contiguous(memory_format=layout)
    geometry = (3, 2), (2, 1), (3, 1), (2, 4)
    height, width = 7, 9
    whole = atrous_im2col(map, (3, 2), stride=(2, 1), padding=(3, 1), rate=(2, 4))
    whole = whole.view(2, -1, height, width)
    back = torch.zeros_like(map)
    for y in range(0, height, rows):
        for x in range(0, width, cols):
            window = y, min(y + rows, height), x, min(x + cols, width)
            expected = whole[:, :, window[0] : window[1], window[2] : window[3]].flatten(2)
            columns = torch.full_like(expected, torch.nan, memory_format=torch.contiguous_format)
            fill_columns(map, columns, geometry, window)
            assert torch.equal(columns, expected)
            add_columns(columns, back, geometry, window)
    expected = atrous_col2im(
        whole.flatten(2), (12, 11), (3, 2), stride=(2, 1), padding=(3, 1), rate=(2, 4)
    )
    torch.testing.assert_close(back, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("channels_last", [False, True])
def test_same_bits_for_any_number_of_threads(channels_last, set_threads):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    map = torch.randn(2, 40, 33, 35).contiguous(memory_format=layout)
    geometry = (3, 3), (1, 1), (4, 4), (4, 4)
    results = []
    for threads in (1, 2, 2, 5):
        set_threads(threads)
        columns = atrous_im2col(map, 3, padding=4, rate=4)
        back = map.clone()
        add_columns(columns, back, geometry, (0, 33, 0, 35))
        results.append((columns, back))
    for columns, back in results[1:]:
        assert torch.equal(columns, results[0][0])
        assert torch.equal(back, results[0][1])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_emulated_same_bits_as_cpu(channels_last, dtype, emulator):
    """Both add the taps in the same order to the same floats."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    map = torch.randn(2, 37, 11, 13).to(dtype).contiguous(memory_format=layout)
    geometry = (3, 2), (1, 2), (2, 3), (2, 3)
    window = 1, 10, 0, 7
    results = []
    for context in (nullcontext(), on_the_emulator(emulator)):
        columns = torch.zeros(2, 37 * 6, 9 * 7, dtype=dtype)
        back = map.to(sum_dtype(dtype), copy=True)
        with context:
            fill_columns(map, columns, geometry, window)
            add_columns(columns, back, geometry, window)
        results.append((columns, back))
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("offset", range(5))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_columns_of_any_alignment(dtype, offset, device):
    """On a GPU, whole aligned words of a row are written at once, its ends one by one."""
    map = torch.randn(2, 3, 7, 5, device=device).to(dtype)
    room = torch.zeros(2 * 27 * 35 + offset + 8, dtype=dtype, device=device)
    columns = room[offset:][: 2 * 27 * 35].view(2, 27, 35)
    fill_columns(map, columns, ((3, 3), (1, 1), (2, 2), (2, 2)), (0, 7, 0, 5))
    assert torch.equal(columns, atrous_im2col(map, 3, padding=2, rate=2))
    assert room[:offset].eq(0).all() and room[offset + columns.numel() :].eq(0).all()


def test_gradients(device):
    how = {"stride": (2, 1), "padding": (1, 3), "rate": (1, 3)}
    new = partial(torch.randn, dtype=torch.float64, device=device, requires_grad=True)
    map, columns = new(2, 2, 5, 4), new(2, 12, 21)

    def im2col(m):
        return atrous_im2col(m, (3, 2), **how)

    def col2im(c):
        return atrous_col2im(c, (5, 4), (3, 2), **how)

    assert torch.autograd.gradcheck(im2col, map)
    assert torch.autograd.gradcheck(col2im, columns)
    assert torch.autograd.gradgradcheck(im2col, map)
    assert torch.autograd.gradgradcheck(col2im, columns)


def test_opcheck(device):
    geometry = [3, 2], [2, 1], [1, 3], [1, 3]
    map = torch.randn(2, 2, 5, 4, device=device, requires_grad=True)
    torch.library.opcheck(ops.atrous_im2col.default, (map, *geometry))
    columns = torch.randn(2, 12, 21, device=device, requires_grad=True)
    torch.library.opcheck(ops.atrous_col2im.default, (columns, [5, 4], *geometry))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_defaults_of_torch_do_not_matter(dtype, torch_default):
    """The results have the dtype and device of the input, not the ones torch creates tensors in."""
    input = torch.randn(2, 3, 6, 5).to(dtype)
    columns = atrous_im2col(input, 3, padding=1)
    map = atrous_col2im(columns, (6, 5), 3, padding=1)
    with torch_default():
        assert torch.equal(atrous_im2col(input, 3, padding=1), columns)
        assert torch.equal(atrous_col2im(columns, (6, 5), 3, padding=1), map)


def test_compile_with_dynamic_shapes(device):
    def there_and_back(map):
        columns = atrous_im2col(map, 3, padding=2, rate=2)
        return atrous_col2im(columns * 3, map.shape[2:], 3, padding=2, rate=2)

    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((2, 3, 8, 9), (1, 3, 11, 4)):
        map = torch.randn(size, device=device, requires_grad=True)
        (expected,) = torch.autograd.grad(there_and_back(map).sum(), map)
        (grad,) = torch.autograd.grad(compiled(map).sum(), map)
        torch.testing.assert_close(compiled(map), there_and_back(map))
        torch.testing.assert_close(grad, expected)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_property_unfold_and_adjoint(data):
    def two(low, high):
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, stride, padding, rate = two(1, 4), two(1, 3), two(0, 8), two(1, 6)
    size = [
        data.draw(st.integers(max(1, r * (k - 1) + 1 - 2 * p), 20))
        for k, p, r in zip(kernel, padding, rate, strict=True)
    ]
    map = torch.randn(data.draw(st.integers(1, 2)), data.draw(st.integers(1, 20)), *size).double()
    if data.draw(st.booleans()):
        map = map.contiguous(memory_format=torch.channels_last)
    columns = atrous_im2col(map, kernel, stride=stride, padding=padding, rate=rate)
    assert torch.equal(columns, F.unfold(map, **unfold_arguments(kernel, stride, padding, rate)))
    other = torch.randn_like(columns)
    back = atrous_col2im(other, size, kernel, stride=stride, padding=padding, rate=rate)
    torch.testing.assert_close((columns * other).sum(), (map * back).sum())


MAP, COLUMNS = torch.zeros(2, 3, 8, 8), torch.zeros(2, 27, 36)


@pytest.mark.parametrize(
    "error, words, call",
    [
        (ValueError, r"input.*4 dim.*\(3, 8, 8\)", lambda: atrous_im2col(MAP[0], 3)),
        (TypeError, "input.*int32", lambda: atrous_im2col(MAP.int(), 3)),
        (ValueError, "kernel_size.*0", lambda: atrous_im2col(MAP, 0)),
        (ValueError, "stride.*0", lambda: atrous_im2col(MAP, 3, stride=(1, 0))),
        (ValueError, "rate.*-2", lambda: atrous_im2col(MAP, 3, rate=-2)),
        (TypeError, "padding.*'same'", lambda: atrous_im2col(MAP, 3, padding="same")),
        (ValueError, "input.*no output", lambda: atrous_im2col(MAP, 3, rate=4)),
        (ValueError, "input.*at least one", lambda: atrous_im2col(MAP[:, :, :0], 1, padding=2)),
        (ValueError, "input.*at least one", lambda: atrous_im2col(MAP[:, :0], 1)),
        (ValueError, "columns.*3 dim", lambda: atrous_col2im(MAP, 8, 3)),
        (ValueError, "columns.*3 x 2 = 6 rows.*27", lambda: atrous_col2im(COLUMNS, 8, (3, 2))),
        (ValueError, "columns.*7 x 6 = 42.*36", lambda: atrous_col2im(COLUMNS, (9, 8), 3)),
        (ValueError, "size.*0", lambda: atrous_col2im(COLUMNS, (0, 8), 3)),
        (ValueError, "rows, got 0", lambda: atrous_col2im(COLUMNS[:, :0], (8, 8), 3)),
    ],
)
def test_bad_arguments(error, words, call):
    with pytest.raises(error, match=words):
        call()
