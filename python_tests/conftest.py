"""Fixtures of all tests: a fixed seed, and the devices the kernels run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from deeplab_native import _C


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state."""
    torch.manual_seed(20170412)
    return 20170412


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where a test puts its tensors; for ops that have a CUDA kernel."""
    if request.param == "cuda":
        if not _C.has_cuda:
            pytest.skip("deeplab_native was built without CUDA")
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device, or a torch without CUDA")
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # 10 bits of mantissa
    return torch.device(request.param)


@contextmanager
def _float64_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.fixture(params=["float64", "meta"])
def torch_default(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager]:
    """Contexts in which torch creates tensors of another dtype, or on another device."""
    return _float64_by_default if request.param == "float64" else lambda: torch.device("meta")


@pytest.fixture
def set_threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
