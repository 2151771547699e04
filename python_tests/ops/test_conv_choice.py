"""What atrous_conv2d takes on CUDA by itself; without a GPU, on tensors that are not there."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deeplab_native import atrous_conv2d
from deeplab_native.ops import _conv_choice as choice

FC6 = choice.Problem(
    (9, 0), "bfloat16", "contiguous", False, False, 512, 1024, 3, 12, 41, 41, batch=1
)


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({}, "space_to_batch"),
        ({"rate": 8}, "auto"),
        ({"batch": 8}, "auto"),
        # near to what was measured, and all of it agrees
        ({"rate": 15}, "space_to_batch"),
        ({"rate": 30}, "space_to_batch"),
        ({"rate": 3}, "auto"),
        ({"height": 45, "width": 36}, "space_to_batch"),
        ({"channels": 448, "filters": 1200}, "space_to_batch"),
        # between rates of which one is fastest by torch, the other not
        ({"rate": 9}, None),
        ({"rate": 11}, None),
        # not measured
        ({"rate": 40}, None),
        ({"height": 65, "width": 65}, None),
        ({"width": 65}, None),
        ({"batch": 2}, None),
        ({"channels": 256}, None),
        ({"filters": 512}, None),
        ({"kernel": 5}, None),
        ({"trains": True}, None),
        ({"layout": "channels_last"}, None),
        ({"dtype": "float32"}, None),
        ({"dtype": "tfloat32"}, None),
        ({"capability": (8, 0)}, None),
        ({"capability": (10, 0)}, None),
        # asked for the same bits, torch's convolution of channels_last maps takes 22 ms
        ({"same_bits": True}, "space_to_batch"),
        ({"same_bits": True, "layout": "channels_last"}, "space_to_batch"),
        ({"same_bits": True, "layout": "channels_last", "rate": 4}, "auto"),
    ],
)
def test_what_was_measured_decides(changed, expected):
    assert choice.measured_choice(FC6._replace(**changed)) == expected


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Chooses for a map (B, C, H, W) that is not there, on an H200, with a 3 x 3 filter."""
    monkeypatch.setattr(choice._C, "has_cuda", True)
    monkeypatch.setattr(choice, "_capability", lambda device: (9, 0))
    decide = choice._decide
    decide.cache_clear()  # what it was asked of other devices

    def choose(
        size=(1, 512, 41, 41), filters=1024, rate=12, dtype=torch.bfloat16, *, trains=False, **how
    ):
        with FakeTensorMode():
            options = {"dtype": dtype, "device": "cuda", "requires_grad": trains}
            layout = how.pop("layout", torch.contiguous_format)
            input = torch.empty(size, memory_format=layout, **options)
            weight = torch.empty(filters, size[1], 3, 3, **options)
            how = {"stride": (1, 1), "padding": (rate, rate), "rate": (rate, rate), **how}
            return choice.algorithm_on_cuda(input, weight, **how)

    yield choose
    decide.cache_clear()


def test_on_a_gpu(on_a_gpu):
    assert on_a_gpu() == "space_to_batch"
    assert on_a_gpu(trains=True) == "auto"
    with torch.no_grad():
        assert on_a_gpu(trains=True) == "space_to_batch"
    assert on_a_gpu(size=(0, 512, 41, 41)) == "auto"
    assert on_a_gpu(dtype=torch.float32) == "auto"
    # another size of the result, other strides, other rates
    assert on_a_gpu(padding=(0, 0)) == "auto"
    assert on_a_gpu(stride=(2, 1)) == "auto"
    assert on_a_gpu(rate=(12, 24), padding=(12, 24)) == "auto"


def test_under_autocast_its_dtype_counts(on_a_gpu, monkeypatch):
    monkeypatch.setattr(choice, "computing_dtype", lambda tensor: torch.bfloat16)
    assert on_a_gpu(dtype=torch.float32) == "space_to_batch"


def test_sizes_that_are_symbols(on_a_gpu, monkeypatch):
    def unhashable(*args):
        raise TypeError("unhashable type: non-nested SymInt")

    monkeypatch.setattr(choice, "_decide", unhashable)
    assert on_a_gpu() == "auto"


def test_without_kernels_for_it(on_a_gpu, monkeypatch):
    monkeypatch.setattr(choice._C, "has_cuda", False)
    assert on_a_gpu() == "auto"


def test_without_cudnn(on_a_gpu, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    assert on_a_gpu() == "auto"


def test_the_cpu_is_not_asked(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    tensors = torch.empty(1, 512, 41, 41), torch.empty(1024, 512, 3, 3)
    assert choice.algorithm_on_cuda(*tensors, (1, 1), (12, 12), (12, 12)) == "auto"


@pytest.mark.parametrize("setting", ["cudnn", "algorithms"])
def test_asked_for_the_same_bits(setting, on_a_gpu, monkeypatch):
    """Where torch leaves cuDNN out, and no channels_last, which takes it 22 ms instead of 0.8."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", setting == "cudnn")
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(setting == "algorithms")
    small = {"size": (2, 3, 9, 9), "filters": 4}
    try:
        assert on_a_gpu() == on_a_gpu(layout=torch.channels_last) == "space_to_batch"
        for dtype in (torch.float32, torch.float16, torch.float64):
            for trains in (False, True):
                assert on_a_gpu(**small, dtype=dtype, trains=trains) == "space_to_batch"
            assert on_a_gpu(**small, dtype=dtype, stride=(2, 2)) == "direct"
            assert on_a_gpu(**small, dtype=dtype, rate=1) == "auto"
            assert on_a_gpu(**small, dtype=dtype, layout=torch.channels_last) == "auto"
        assert on_a_gpu(**small) == "auto"  # torch leaves bfloat16 to cuDNN
    finally:
        torch.use_deterministic_algorithms(was)


def test_compiled_it_is_torchs(on_a_gpu, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert on_a_gpu() == "auto"


def test_traced_it_is_torchs(monkeypatch):
    """Whoever exports a net wants operators that others know."""
    monkeypatch.setattr(choice, "measured_choice", pytest.fail)
    input, weight = torch.randn(1, 3, 9, 9), torch.randn(2, 3, 3, 3)

    def traced(input):
        assert choice.is_graph()
        return atrous_conv2d(input, weight, padding=2, rate=2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing itself
        torch.jit.trace(traced, input, check_trace=False)
    assert not choice.is_graph()


@pytest.mark.parametrize("rate", [2, 12])
@pytest.mark.parametrize("chosen", ["space_to_batch", "direct", "im2col", "auto"])
def test_what_is_chosen_computes_on_cuda(chosen, rate, cuda, monkeypatch):
    monkeypatch.setattr(choice, "_decide", lambda *args: chosen)
    input, weight = torch.randn(2, 8, 17, 19), torch.randn(4, 8, 3, 3)
    input, weight, bias = (t.to(cuda).requires_grad_() for t in (input, weight, torch.randn(4)))
    out = atrous_conv2d(input, weight, bias, padding=rate, rate=rate)
    native = chosen != "auto"
    assert ("DeeplabNative" in out.grad_fn.name() or "deeplab" in out.grad_fn.name()) == native
    expected = torch.nn.functional.conv2d(input, weight, bias, padding=rate, dilation=rate)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"bias.*\(4,\).*\(3,\)"):
        atrous_conv2d(input, weight, bias[:3], padding=rate, rate=rate)
