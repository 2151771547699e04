"""space_to_batch and batch_to_space against slicing, and as each other's adjoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import batch_to_space, space_to_batch
from python_tests.ops import reference

# size, rate, padding
CASES = [
    ((2, 3, 41, 41), (24, 24), (24, 24)),
    ((2, 3, 41, 41), (12, 12), (0, 0)),
    ((1, 5, 6, 8), (2, 4), (0, 0)),
    ((2, 2, 3, 5), (7, 9), (0, 0)),  # smaller than the rate: most blocks are empty
    ((2, 2, 3, 5), (7, 2), (1, 6)),
    ((1, 1, 1, 1), (3, 3), (0, 0)),
    ((3, 4, 9, 7), (1, 1), (2, 1)),
    ((1, 21, 10, 11), (3, 1), (2, 9)),
    ((0, 4, 9, 7), (2, 3), (1, 1)),
]
VIEWS = [
    lambda t: t[:, ::2, 1:, :-2],
    lambda t: t.transpose(2, 3),
    lambda t: t.transpose(1, 3),
    lambda t: t[:1].expand(3, -1, -1, -1),
    lambda t: t[:, :, :, :1].expand(-1, -1, -1, 9),
    lambda t: t.contiguous(memory_format=torch.channels_last)[:, 1:],
    lambda t: t.contiguous(memory_format=torch.channels_last)[:, :, ::2],
]
DTYPES = [torch.uint8, torch.bfloat16, torch.float32, torch.float64, torch.complex128]

ops = torch.ops.deeplab_native


def random_map(size, dtype, device):
    return torch.randint(1, 100, size, device=device).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size, rate, padding", CASES)
def test_equals_reference_and_returns(size, rate, padding, channels_last, dtype, device):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    map = random_map(size, dtype, device).contiguous(memory_format=layout)
    blocks = space_to_batch(map, rate, padding)
    expected = reference.space_to_batch(map, rate, padding)
    torch.testing.assert_close(blocks, expected, rtol=0, atol=0)
    assert map.numel() == 0 or blocks.is_contiguous(memory_format=layout)

    # what the blocks hold outside the map must not come back
    blocks += blocks == 0
    back = batch_to_space(blocks, rate, size[2:], padding)
    torch.testing.assert_close(back, map, rtol=0, atol=0)
    if blocks.shape[2:] != (1, 1) and map.numel() > 0:  # else the layout of the blocks is open
        assert back.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("view", VIEWS)
def test_any_strides(view, device):
    map = view(random_map((2, 4, 12, 10), torch.float32, device))
    blocks = space_to_batch(map, (5, 3), 2)
    torch.testing.assert_close(
        blocks, reference.space_to_batch(map, (5, 3), (2, 2)), rtol=0, atol=0
    )


@pytest.mark.parametrize("view", VIEWS)
def test_any_strides_of_blocks(view, device):
    blocks = view(random_map((30, 4, 12, 10), torch.float32, device))
    rate = (blocks.shape[0], 1)  # one map
    size = blocks.shape[2] * rate[0], blocks.shape[3]
    map = batch_to_space(blocks, rate, size)
    torch.testing.assert_close(reference.space_to_batch(map, rate, (0, 0)), blocks, rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("offset", [0, 1, 2, 4])
def test_pixels_of_any_alignment(channels, offset, device):
    """channels_last pixels move in words as wide as size and address allow."""
    numel = 2 * 9 * 7 * channels
    storage = torch.arange(numel + offset, device=device).to(torch.int16)[offset:]
    map = storage.view(2, 9, 7, channels).permute(0, 3, 1, 2)
    blocks = space_to_batch(map, 4, 1)
    torch.testing.assert_close(blocks, reference.space_to_batch(map, (4, 4), (1, 1)))
    torch.testing.assert_close(batch_to_space(blocks, 4, (9, 7), 1), map)


@pytest.mark.parametrize(
    "size, rate, padding",
    [
        ((1, 3, 90, 80), (4, 3), (1, 2)),  # bands of a map
        ((1, 1, 8, 900), (7, 2), (0, 5)),  # rows of a band
        ((1, 2, 3, 6000), (2, 7), (1, 3)),  # parts of a row
        ((1, 2, 1, 5), (1, 6000), (0, 4)),  # less than a pixel of every block
        ((1, 300, 3, 5), (2, 1), (0, 1)),  # many channels
        ((3, 2, 2, 3), (2, 2), (70, 60)),  # mostly padding
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_maps_of_many_tiles(size, rate, padding, dtype, device):
    """Shared memory holds 42 KiB of a map: 5376 pixels in float64."""
    map = random_map(size, dtype, device)
    blocks = space_to_batch(map, rate, padding)
    assert torch.equal(blocks, reference.space_to_batch(map, rate, padding))
    assert torch.equal(batch_to_space(blocks, rate, size[2:], padding), map)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("width", [1, 7, 16])
def test_contiguous_maps_of_any_alignment(width, offset, dtype, device):
    """Their middle moves in words of 16 bytes, what lies before and behind by elements."""
    numel = 2 * 3 * 5 * width
    storage = random_map((numel + offset,), dtype, device)
    map = storage[offset:].view(2, 3, 5, width)
    blocks = space_to_batch(map, (2, 3), 1)
    assert torch.equal(blocks, reference.space_to_batch(map, (2, 3), (1, 1)))
    assert torch.equal(batch_to_space(blocks, (2, 3), (5, width), 1), map)


def test_gradients(device):
    map = torch.randn(2, 2, 5, 4, dtype=torch.float64, device=device, requires_grad=True)
    blocks = torch.randn(12, 2, 3, 4, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: space_to_batch(m, (3, 2), (2, 1)), map)
    assert torch.autograd.gradcheck(lambda b: batch_to_space(b, (3, 2), (7, 6), (1, 1)), blocks)
    assert torch.autograd.gradgradcheck(lambda m: space_to_batch(m, (3, 2), (2, 1)), map)
    assert torch.autograd.gradgradcheck(lambda b: batch_to_space(b, (3, 2), (7, 8)), blocks)


@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck(channels_last, device):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    map = torch.randn(2, 3, 7, 5, device=device).contiguous(memory_format=layout)
    map.requires_grad_()
    torch.library.opcheck(ops.space_to_batch.default, (map, [3, 2], [1, 0]))
    blocks = space_to_batch(map, (3, 2), (1, 0)).detach().requires_grad_()
    torch.library.opcheck(ops.batch_to_space.default, (blocks, [3, 2], [7, 5], [1, 0]))


@pytest.mark.unsanitized
@pytest.mark.parametrize("size", [(1, 2, 65538, 2), (65538, 2, 1, 2)])
def test_more_rows_than_a_grid_has(size, device):
    map = random_map(size, torch.float32, device)
    blocks = space_to_batch(map, 1)
    assert torch.equal(blocks, map)
    assert torch.equal(batch_to_space(blocks, 1, size[2:]), map)


def test_defaults_of_torch_do_not_matter(torch_default):
    input = torch.randn(2, 3, 6, 5)
    blocks = space_to_batch(input, 2, 1)
    with torch_default():
        assert torch.equal(space_to_batch(input, 2, 1), blocks)
        assert torch.equal(batch_to_space(blocks, 2, (6, 5), 1), input)


def test_integers_of_numpy():
    input = torch.randn(2, 3, 6, 5)
    blocks = space_to_batch(input, np.int64(2), (np.uint8(1), np.int32(0)))
    assert torch.equal(blocks, space_to_batch(input, 2, (1, 0)))
    size = tuple(np.array([6, 5]))
    assert torch.equal(batch_to_space(blocks, np.int64(2), size, (1, 0)), input)


def test_compile_with_dynamic_shapes(device):
    def there_and_back(map):
        blocks = space_to_batch(map, (3, 2), 1) * 2
        return batch_to_space(blocks, (3, 2), map.shape[2:], 1)

    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((2, 3, 8, 9), (1, 3, 11, 4)):
        map = torch.randn(size, device=device, requires_grad=True)
        out = compiled(map)
        torch.testing.assert_close(out, 2 * map)
        out.sum().backward()
        torch.testing.assert_close(map.grad, torch.full_like(map, 2))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_property_inverse_and_adjoint(data):
    draw = data.draw
    size = [draw(st.integers(1, high)) for high in (3, 5, 20, 20)]
    rate = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    padding = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    map = torch.randn(size, dtype=torch.float64)
    if draw(st.booleans()):
        map = map.contiguous(memory_format=torch.channels_last)
    blocks = space_to_batch(map, rate, padding)
    assert torch.equal(batch_to_space(blocks, rate, size[2:], padding), map)
    other = torch.randn_like(blocks)
    back = batch_to_space(other, rate, size[2:], padding)
    torch.testing.assert_close((blocks * other).sum(), (map * back).sum())


@pytest.mark.parametrize("channels_last", [False, True])
def test_same_bits_for_any_number_of_threads(channels_last, set_threads):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    map = torch.randn(3, 40, 65, 65).contiguous(memory_format=layout)
    expected = reference.space_to_batch(map, (12, 12), (12, 12))
    for threads in (1, 2, 5):
        set_threads(threads)
        blocks = space_to_batch(map, 12, 12)
        assert torch.equal(blocks, expected)
        assert torch.equal(batch_to_space(blocks, 12, (65, 65), 12), map)


MAP = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    "error, words, call",
    [
        (TypeError, "input.*ndarray", lambda: space_to_batch(MAP.numpy(), 2)),
        (ValueError, r"input.*4 dim.*\(2, 3, 8\)", lambda: space_to_batch(MAP[..., 0], 2)),
        (ValueError, "rate.*at least 1.*0", lambda: space_to_batch(MAP, 0)),
        (TypeError, "rate.*1.5", lambda: space_to_batch(MAP, 1.5)),
        (TypeError, "rate.*True", lambda: space_to_batch(MAP, True)),
        (TypeError, r"rate.*\(1, 2, 3\)", lambda: space_to_batch(MAP, (1, 2, 3))),
        (ValueError, "padding.*-1", lambda: space_to_batch(MAP, 2, (0, -1))),
        (ValueError, "padding.*4294967", lambda: space_to_batch(MAP[:, :0], 1, 2**31 - 1)),
        (ValueError, "blocks.*multiple.*3 x 3", lambda: batch_to_space(MAP, 3, (8, 8))),
        (ValueError, r"blocks.*\(8, 9\)", lambda: batch_to_space(MAP, (1, 2), (8, 18))),
        (ValueError, r"blocks.*\(9, 8\)", lambda: batch_to_space(MAP, (1, 2), (7, 14), 1)),
        (ValueError, "size.*-8", lambda: batch_to_space(MAP, (1, 2), (-8, 16))),
        (TypeError, "size.*None", lambda: batch_to_space(MAP, (1, 2), None)),
    ],
)
def test_bad_arguments(error, words, call):
    with pytest.raises(error, match=words):
        call()
