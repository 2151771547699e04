"""`training.memory`: pages of freed blocks are not given back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from deeplab_native.training.memory import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(77)
def touch():
    np.ones(1 << 24, np.uint8)  # 4,096 pages of 4 KiB, freed at once
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    # of numpy, huge pages would make few faults of many; it asks for none where this is 0
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, how],
        capture_output=True,
        text=True,
        env={"NUMPY_MADVISE_HUGEPAGE": "0", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
    )
    if done.returncode == 77:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc alone has this")
def test_blocks_are_used_again():
    kept = page_faults("keep")
    assert kept < 100
    assert page_faults("give back") > 10 * max(kept, 10)
