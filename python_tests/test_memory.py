"""What the package does about the memory of its process."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from deeplab_native._memory import give_back
from trust._process import use_of


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_holes_are_given_back():
    """256 MB of which one array in forty stays: glibc keeps the rest for what comes."""
    arrays = [np.ones(64 << 10, np.uint8) for _ in range(4096)]
    kept = arrays[::40]
    del arrays
    before = use_of().resident
    give_back()
    after = use_of().resident
    assert before - after > 150e6
    assert all(int(array.sum()) == array.size for array in kept)
