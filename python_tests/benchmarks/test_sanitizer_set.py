"""What compute-sanitizer watches runs whole, calls every op, and says so where it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deeplab_native import _native

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "sanitizer_set.py"
if not SCRIPT.exists():
    pytest.skip("not a checkout", allow_module_level=True)


@pytest.fixture
def sanitizer_set(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import sanitizer_set

    return sanitizer_set


@pytest.mark.parametrize("where", [["--device", "cpu"], ["--emulated"]], ids=["cpu", "kernels"])
def test_the_script_calls_every_op(where, request):
    """In a process of its own: what a cache holds would not be called again."""
    if where == ["--emulated"]:
        request.getfixturevalue("emulator")
    done = subprocess.run([sys.executable, SCRIPT, *where], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(_native.CUDA_IMPLEMENTATIONS) <= set(done.stdout.replace(",", "").split())


def test_an_op_without_a_call_is_an_error(sanitizer_set, monkeypatch):
    monkeypatch.setattr(sanitizer_set, "CALLS", [])
    with pytest.raises(SystemExit, match=r"never called.*: aspp_branches, .*upsample_unary"):
        sanitizer_set.run(torch.device("cpu"), kernels=False)


def test_a_native_function_without_a_call_is_an_error(sanitizer_set, monkeypatch):
    monkeypatch.setattr(_native._C, "sharpen_cuda", print, raising=False)
    monkeypatch.setattr(sanitizer_set, "CASES", {})
    monkeypatch.setattr(_native, "CUDA_IMPLEMENTATIONS", {})
    monkeypatch.setattr(sanitizer_set, "CALLS", [])
    with pytest.raises(SystemExit, match=r"never called.*\bsharpen_cuda"):
        sanitizer_set.run(torch.device("cpu"), kernels=True)
