"""aspp against the sum of its branches, and its kernels against loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplab_native import _C, aspp
from deeplab_native.ops import _aspp_pack, _aspp_product
from deeplab_native.ops._aspp_offsets import merge_taps
from python_tests.ops import reference

ops = torch.ops.deeplab_native

# input, filters, (kernel, rate) of each branch
CASES = [
    ((2, 5, 9, 13), 3, [((3, 3), 2), ((3, 3), 4), ((3, 3), 6)]),
    ((1, 3, 7, 5), 8, [((3, 3), 6), ((3, 3), 12), ((3, 3), 18), ((3, 3), 24)]),  # few taps inside
    ((2, 4, 8, 9), 4, [((1, 1), 1), ((3, 5), (2, 1)), ((5, 3), 1)]),  # more than centres coincide
    ((1, 2, 1, 1), 1, [((3, 3), 1)]),
    ((3, 1, 1, 17), 5, [((3, 3), 3), ((1, 7), 2)]),
    ((0, 3, 6, 5), 2, [((3, 3), 2), ((3, 3), 3)]),
    ((1, 4, 6, 4), 9, [((3, 3), 1)]),
]
TOLERANCES = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 1e-5, "atol": 1e-4},
    torch.bfloat16: {"rtol": 2e-2, "atol": 4e-2},
    torch.float16: {"rtol": 3e-3, "atol": 6e-3},
}


def new_case(size, filters, branches, dtype=torch.float32, device="cpu", channels_last=False):
    """input, weights, biases, rates; results are about 1, whatever the number of taps."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    input = torch.randn(size, dtype=dtype, device=device).contiguous(memory_format=layout)
    taps = sum(kernel[0] * kernel[1] for kernel, _ in branches)
    weights = [
        torch.randn(filters, size[1], *kernel, dtype=dtype, device=device) / (taps * size[1]) ** 0.5
        for kernel, _ in branches
    ]
    biases = [torch.randn(filters, dtype=dtype, device=device) for _ in branches]
    return input, weights, biases, [rate for _, rate in branches]


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_sum_of_branches(case, channels_last, dtype, device):
    input, weights, biases, rates = new_case(*case, dtype, device, channels_last)
    out = aspp(input, weights, biases, rates)
    exact = [[t.double() for t in tensors] for tensors in (weights, biases)]
    expected = reference.aspp(input.double(), *exact, rates)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, **TOLERANCES[dtype])
    if channels_last and input.numel() and min(input.shape[1:]) > 1 and case[1] > 1:
        assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_equal_those_of_the_branches(dtype, channels_last, device):
    case = new_case(*CASES[0], dtype, device, channels_last)
    leaves = [case[0], *case[1], *case[2]]
    exact = [t.double().requires_grad_() for t in leaves]
    expected = reference.aspp(exact[0], exact[1:4], exact[4:], case[3])
    grad = torch.randn_like(expected).to(dtype)
    expected = torch.autograd.grad(expected, exact, grad.double())
    leaves = [t.requires_grad_() for t in leaves]
    out = aspp(leaves[0], leaves[1:4], leaves[4:], case[3])
    for got, wanted in zip(torch.autograd.grad(out, leaves, grad), expected, strict=True):
        assert got.dtype == dtype
        scale = wanted.abs().max().item()
        tolerance = 1e-6 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=tolerance * scale)


def test_gradients_accumulate():
    """Of two passes, the sum of their gradients: no two biases may share the memory of theirs."""
    input, weights, biases, rates = new_case(*CASES[1])
    parameters = [t.requires_grad_() for t in weights + biases]

    def gradients(*signs):
        for parameter in parameters:
            parameter.grad = None
        for sign in signs:
            aspp(input, weights, biases, rates).mul(sign).sum().backward()
        return [parameter.grad.clone() for parameter in parameters]

    expected = [3 * gradient for gradient in gradients(1.0)]
    torch.testing.assert_close(gradients(1.0, 2.0), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t[:, ::2, 1:, :-2],
        lambda t: t.transpose(2, 3),
        lambda t: t.transpose(1, 3),
        lambda t: t[:1].expand(3, -1, -1, -1),
        lambda t: t[:, :, :, :1].expand(-1, -1, -1, 9),
        lambda t: t.contiguous(memory_format=torch.channels_last)[:, 1:],
        lambda t: t.contiguous(memory_format=torch.channels_last)[:, :, ::2],
    ],
)
def test_any_strides(view, device):
    input = view(torch.randn(2, 6, 8, 7, device=device))
    _, weights, biases, rates = new_case((1, input.shape[1], 1, 1), 5, CASES[0][2], device=device)
    weights[1] = weights[1].transpose(2, 3)
    weights[2] = weights[2].contiguous(memory_format=torch.channels_last)
    biases[0] = biases[0].expand(10, 5)[0].repeat_interleave(2)[::2]
    expected = reference.aspp(input, weights, biases, rates)
    torch.testing.assert_close(aspp(input, weights, biases, rates), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("filters", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pixels_of_any_alignment(filters, offset, dtype, device):
    """channels_last maps whose pixels are whole aligned 16-byte words, and others."""
    offsets = [(0, 0), (1, -1), (-2, 0)]
    memory = torch.randn(2 * 5 * 4 * filters + offset, device=device).to(dtype)[offset:]
    map = memory.view(2, 5, 4, filters).permute(0, 3, 1, 2)
    taps = torch.zeros(3, filters, 8, dtype=dtype, device=device)
    input = map.new_zeros(2, 8, 5, 4).contiguous(memory_format=torch.channels_last)
    padded = _aspp_pack.padded_filters(input, filters, dtype)
    taps = F.pad(taps, (0, 0, 0, padded - filters))
    product = _aspp_product.Product(input, taps, [d for o in offsets for d in o], filters)
    y = torch.full((40, 3 * product.padded), float("nan"), dtype=dtype, device=device)
    product.spread(map, y)
    y = y.view(2, 5, 4, 3, product.padded).permute(0, 3, 4, 1, 2)
    padded = F.pad(map, (2, 2, 2, 2))
    for t, (dy, dx) in enumerate(offsets):
        expected = padded[:, :, 2 - dy : 7 - dy, 2 - dx : 6 - dx]
        assert torch.equal(y[:, t, :filters], expected)
    assert not y[:, :, filters:].any()


def test_images_in_groups(device, monkeypatch):
    """As many images at a time as the memory of the product allows, at least one."""
    for channels_last in (False, True):
        size = (5, *CASES[0][0][1:])
        input, weights, biases, rates = new_case(
            size, *CASES[0][1:], device=device, channels_last=channels_last
        )
        leaves = [t.requires_grad_() for t in (input, *weights)]
        results = []
        for most in (1, 2 * 25 * 9 * 13 * 4 * 4, 2**30):
            monkeypatch.setattr(_aspp_product, "PRODUCT_BYTES", {"cpu": most, "cuda": most})
            out = aspp(input, weights, biases, rates)
            results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
        for result in results[1:]:
            for got, wanted in zip(result, results[0], strict=True):
                torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_infinite_weights_stay_where_they_are(device):
    input, weights, biases, rates = new_case(*CASES[0], device=device)
    weights[0].data[0, 0, 0, 0] = float("inf")  # reaches up and left only
    out = aspp(input, weights, biases, rates)
    assert out[:, 1:].isfinite().all()
    assert out[:, 0, :2].isfinite().all()


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradcheck(channels_last, device):
    case = new_case((2, 2, 3, 2), 1, [((3, 3), 1), ((3, 1), 2)], torch.float64, device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    input = case[0].contiguous(memory_format=layout).requires_grad_()
    leaves = [t.requires_grad_() for t in (*case[1], *case[2])]

    def run(input, *leaves):
        return aspp(input, leaves[:2], leaves[2:], case[3])

    assert torch.autograd.gradcheck(run, (input, *leaves))
    assert torch.autograd.gradgradcheck(run, (input, *leaves))


@pytest.mark.parametrize("channels_last", [False, True])
def test_opcheck(channels_last, device):
    input, weights, biases, rates = new_case(*CASES[0], device=device, channels_last=channels_last)
    index, offsets = merge_taps([(3, 3)] * 3, [(r, r) for r in rates], input.shape[2:])
    leaves = [w.requires_grad_() for w in weights]
    padded = _aspp_pack.padded_filters(input, len(biases[0]), input.dtype)
    pack = leaves, index, len(offsets), padded, input.dtype
    torch.library.opcheck(ops.aspp_pack.default, pack)
    taps = _aspp_pack.pack_taps(*pack).detach().requires_grad_()
    torch.library.opcheck(ops.aspp_unpack.default, (taps, len(biases[0]), [3, 3], index[9:18]))
    flat = [d for offset in offsets for d in offset]
    bias = biases[0].requires_grad_()
    input.requires_grad_()
    torch.library.opcheck(ops.aspp_taps.default, (input, taps, bias, flat, len(bias)))
    torch.library.opcheck(ops.aspp_taps.default, (input, taps, None, flat, len(bias)))
    grad = torch.randn_like(aspp(input, weights, biases, rates)).requires_grad_()
    both = [d for rate in rates for d in (rate, rate)]
    torch.library.opcheck(ops.aspp_branches.default, (input, leaves, biases, both))
    torch.library.opcheck(ops.aspp_branches.default, (input, leaves, [], both))
    for mask in ([True, True], [True, False], [False, True]):
        arguments = grad, input, taps, flat, mask
        torch.library.opcheck(ops.aspp_taps_backward.default, arguments)


def test_compile(device):
    def run(input, weights, biases):
        return aspp(input * 2, weights, biases, [2, 4, 6])

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((2, 5, 9, 13), (1, 5, 6, 4)):
        input, weights, biases, _ = new_case(size, *CASES[0][1:], device=device)
        leaves = [t.requires_grad_() for t in (input, *weights, *biases)]
        out, expected = compiled(input, weights, biases), run(input, weights, biases)
        torch.testing.assert_close(out, expected)
        grads = [torch.autograd.grad(o.square().sum(), leaves) for o in (out, expected)]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_is_that_of_convolutions(dtype, device):
    input, weights, biases, rates = new_case(*CASES[0], device=device)
    weights[0].requires_grad_()
    with torch.autocast(device.type, dtype=dtype):
        out = aspp(input, weights, biases, rates)
        assert (
            aspp(
                input.double(), *[[t.double() for t in ts] for ts in (weights, biases)], rates
            ).dtype
            == torch.float64
        )
    assert out.dtype == dtype
    expected = reference.aspp(input, weights, biases, rates)
    torch.testing.assert_close(out.float(), expected, **TOLERANCES[dtype])
    out.float().sum().backward()
    assert weights[0].grad.dtype == torch.float32


@pytest.mark.parametrize("channels_last", [False, True])
def test_gather_equals_loops_for_any_number_of_threads(channels_last, set_threads):
    """The product is the library's; what the kernels make of it does not depend on threads."""
    taps, filters, size = 7, 21, (9, 11)
    offsets = [(0, 0), (3, 0), (-3, 5), (0, -10), (8, 8), (-1, 1), (2, -2)]
    y = torch.randn(3, taps, filters, *size)
    bias = torch.randn(filters)
    stored = y.permute(0, 3, 4, 1, 2).contiguous() if channels_last else y
    layout = torch.channels_last if channels_last else torch.contiguous_format
    outs = []
    for threads in (1, 2, 5):
        out = torch.empty(3, filters, *size).contiguous(memory_format=layout)
        where = stored.data_ptr(), bias.data_ptr(), out.data_ptr(), tuple(out.shape)
        _C.aspp_gather_cpu(*where, filters, offsets, channels_last, "float32", threads)
        outs.append(out)
    assert all(torch.equal(out, outs[0]) for out in outs)
    torch.testing.assert_close(outs[0], reference.aspp_gather(y, bias, offsets))


def test_same_bits_every_time(device):
    for channels_last in (False, True):
        input, weights, biases, rates = new_case(
            *CASES[0], device=device, channels_last=channels_last
        )
        leaves = [t.requires_grad_() for t in (input, *weights, *biases)]
        runs = []
        for _ in range(2):
            out = aspp(input, weights, biases, rates)
            runs.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_property_equals_the_sum_of_branches(data):
    draw = data.draw
    size = [draw(st.integers(1, high)) for high in (3, 4, 12, 12)]
    odd = st.sampled_from([1, 3, 5])
    rate = st.one_of(st.integers(1, 9), st.tuples(st.integers(1, 9), st.integers(1, 9)))
    branches = draw(st.lists(st.tuples(st.tuples(odd, odd), rate), min_size=1, max_size=4))
    channels_last = draw(st.booleans())
    filters = draw(st.integers(1, 9))
    case = new_case(size, filters, branches, torch.float64, "cpu", channels_last)
    torch.testing.assert_close(aspp(*case), reference.aspp(*case))
