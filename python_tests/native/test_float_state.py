"""What a caller sets of the processor's arithmetic is not the kernels' business, nor theirs its."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import threading

import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="modes by their numbers on x86"),
    pytest.mark.unsanitized,
]

MODES = {"to nearest": 0, "down": 0x400, "up": 0x800, "to zero": 0xC00}


def set_rounding(mode: str) -> None:
    assert ctypes.CDLL(ctypes.util.find_library("m")).fesetround(MODES[mode]) == 0


@pytest.fixture
def usual():
    """Whatever happens, the next test finds what is usual."""
    yield
    set_rounding("to nearest")
    torch.set_flush_denormal(False)


def in_a_thread(call):
    """In a Python thread of its own, whose workers are made now."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def given():
    generator = torch.Generator().manual_seed(0)
    unary = 2 * torch.randn(1, 3, 60, 80, generator=generator)
    image = torch.randint(0, 256, (1, 3, 60, 80), generator=generator, dtype=torch.uint8)
    columns = torch.randn(2, 18 * 9, 4096, generator=generator) * 1e-39
    return unary, image, columns, torch.randn(4096, 5, generator=generator)


def results(unary, image, columns, features):
    return (
        dn.dense_crf(unary, image, dn.CRFParams(4, 67, 3, 3, 1), iterations=3),
        dn.atrous_col2im(columns, (64, 64), 3, padding=2, rate=2),
        dn.upsample_unary(unary, (240, 320)),
        dn.gauss_transform(columns[0, :4].T.contiguous(), features),
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mode", ["down", "up", "to zero", "flush"])
def test_results_have_the_same_bits(mode, threads, set_threads, usual):
    """Also of workers that were made while it was set, and of those made before."""
    set_threads(threads)
    tensors = given()
    expected = results(*tensors)
    assert 0 < expected[1].abs().max() < 1e-37  # sums of denormal numbers
    set_rounding(mode) if mode in MODES else torch.set_flush_denormal(True)
    found = [results(*tensors), in_a_thread(lambda: results(*tensors))]
    set_rounding("to nearest")
    torch.set_flush_denormal(False)
    for one in found:
        assert all(map(torch.equal, one, expected))


@pytest.mark.parametrize("flush", [False, True])
def test_the_callers_state_stays(flush, set_threads, usual):
    set_threads(2)
    tensors = given()
    small = torch.tensor([1e-39], dtype=torch.float32)
    torch.set_flush_denormal(flush)
    set_rounding("up")
    results(*tensors)
    with pytest.raises(ValueError, match="features"):  # also where a kernel throws
        dn.permutohedral_filter(tensors[3], tensors[3] * 1e30)
    # 1 + 2^-60 is the next number above 1 only where it is rounded up
    up = (torch.ones(1, dtype=torch.float64) + 2.0**-60).item() > 1
    flushed = (small * 1).item() == 0
    assert (up, flushed) == (True, flush)
    assert _C.isa()
