"""atrous_conv2d with the same bits every time: its gradients, and torch's own settings."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from deeplab_native import atrous_conv2d
from deeplab_native.ops import _conv_algorithms as algorithms
from python_tests.ops.conv_cases import NATIVE_ON, assert_near, tensors


@contextmanager
def asked(how, monkeypatch):
    """Within, torch is told to give the same bits every time; by None, that it need not."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", how == "cudnn")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what it then wants for products
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(how == "algorithms")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)


def run_twice(leaves, **how):
    runs = []
    for _ in range(2):
        out = atrous_conv2d(*leaves, **how)
        runs.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    return runs


STEADY = [
    *((device, algorithm, None) for device, algorithm in NATIVE_ON),
    *((device, algorithm, "cudnn") for device, algorithm in NATIVE_ON if device != "cpu"),
    *(("cuda", a, "algorithms") for a in ("im2col", "space_to_batch", "direct")),
    *(("cuda", a, how) for a in ("aten", "auto") for how in ("cudnn", "algorithms")),
]


@pytest.mark.parametrize("device, algorithm, how", STEADY, indirect=["device"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_same_bits_twice(algorithm, how, layout, device, monkeypatch):
    """The native algorithms always; torch's where it is asked."""
    leaves = tensors((2, 24, 31, 33), (16, 3, 3), torch.float32, device)
    leaves = [leaves[0].contiguous(memory_format=layout), *leaves[1:]]
    leaves = [t.requires_grad_() for t in leaves]
    with asked(how, monkeypatch):
        runs = run_twice(leaves, padding=6, rate=6, algorithm=algorithm)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("algorithm", ["im2col", "space_to_batch", "direct"])
def test_same_bits_of_many_blocks_on_cuda(algorithm, dtype, cuda):
    """So many pixels that sums are split."""
    leaves = [t.requires_grad_() for t in tensors((8, 64, 65, 65), (96, 3, 3), dtype, cuda)]
    runs = run_twice(leaves, padding=12, rate=12, algorithm=algorithm)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_the_settings_of_the_process_stay(cuda_device, monkeypatch):
    """No other convolution, of another thread, may meet them changed."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    setting = vars(type(torch.backends.cudnn))["deterministic"]
    monkeypatch.setattr(setting, "setter", lambda value: pytest.fail("changed"))
    with pytest.raises(pytest.fail.Exception):
        torch.backends.cudnn.deterministic = True
    leaves = tensors((1, 3, 9, 8), (4, 3, 3), torch.float32, cuda_device)
    run_twice([t.requires_grad_() for t in leaves], rate=2, algorithm="space_to_batch")


@pytest.mark.parametrize("how", [None, "cudnn"])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 1), (1, 4)])
def test_both_gradients_of_the_blocks_agree(kernel, how, cuda_device, monkeypatch):
    """Torch's, which is asked for the same bits, and the one of products."""
    leaves = tensors((3, 5, 13, 11), (4, *kernel), device=cuda_device)
    leaves = [t.requires_grad_() for t in leaves]
    used = []
    for name in ("_standard_backward", "_steady_backward"):
        run = getattr(algorithms, name)

        def watched(*args, name=name, run=run):
            used.append(name)
            return run(*args)

        monkeypatch.setattr(algorithms, name, watched)
    with asked(how, monkeypatch):
        out = atrous_conv2d(*leaves, padding=(2, 1), rate=(4, 3), algorithm="space_to_batch")
        cotangent = torch.randn_like(out)
        grads = torch.autograd.grad(out, leaves, cotangent)
        expected = torch.nn.functional.conv2d(*leaves, padding=(2, 1), dilation=(4, 3))
        right = torch.autograd.grad(expected, leaves, cotangent)
    assert used == ["_standard_backward" if how else "_steady_backward"]
    for actual, wanted in zip(grads, right, strict=True):
        assert_near(actual, wanted, 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stride", [1, 2])
def test_auto_avoids_what_the_setting_makes_slow_on_cuda(stride, dtype, cuda, monkeypatch):
    """Torch leaves cuDNN out of dilated convolutions and unfolds the map, image by image."""
    leaves = tensors((2, 64, 33, 33), (32, 3, 3), dtype, cuda)
    leaves = [0.2 * leaves[0], 0.2 * leaves[1], leaves[2]]
    with asked("cudnn", monkeypatch), torch.profiler.profile() as profile:
        out = atrous_conv2d(*leaves, padding=12, rate=12, stride=stride)
    names = {event.key for event in profile.key_averages()}
    assert not any("slow_conv_dilated" in name for name in names)
    expected = torch.nn.functional.conv2d(
        *(t.double() for t in leaves), padding=12, dilation=12, stride=stride
    )
    assert_near(out, expected, 1e-5 if dtype == torch.float32 else 1e-2)
