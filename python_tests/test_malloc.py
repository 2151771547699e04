"""`_malloc`: which memory glibc's allocator keeps, and which the system has back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from deeplab_native import _malloc

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")

_FAULTS = """
import resource, sys
import numpy as np
from deeplab_native._malloc import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("refused")
def touch():
    np.ones(1 << 24, np.uint8)  # 4,096 pages of 4 KiB, freed at once
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
# 256 MB of which one array in forty stays
_HOLES = """
import numpy as np
from deeplab_native._malloc import Holes, _resident

holes = Holes()
assert not holes.give_back()
arrays = [np.ones(1 << 16, np.uint8) for _ in range(4096)]
assert holes.give_back()  # in vain: all are in use
kept = arrays[::40]
del arrays
filled = _resident()
assert not holes.give_back()  # nothing has grown
more = [np.ones(3 << 20, np.uint8) for _ in range(80)]  # which the holes are too small for
del more[:-1]
assert _resident() > filled + (1 << 25)
assert holes.give_back()
print(filled - _resident())
assert all(int(array.sum()) == array.size for array in kept)
"""


def printed(code: str, *words: str, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def page_faults(how: str) -> int:
    # of numpy, huge pages would make few faults of many; it asks for none where this is 0
    threshold = str(1 << 20)
    return printed(_FAULTS, how, NUMPY_MADVISE_HUGEPAGE="0", MALLOC_MMAP_THRESHOLD_=threshold)


def test_blocks_are_used_again():
    kept = page_faults("keep")
    assert kept < 100
    assert page_faults("give back") > 10 * max(kept, 10)


def test_holes_are_given_back():
    # the default, which adapts, at its end from the start
    assert printed(_HOLES, MALLOC_MMAP_THRESHOLD_=str(1 << 25)) > 200e6


def test_a_system_that_does_not_say_what_is_in_use(monkeypatch, tmp_path):
    monkeypatch.setattr(_malloc, "_STATM", tmp_path / "none")
    assert not _malloc.Holes(most=0).give_back()
