"""The native module itself: imports, instruction sets, threads, memory."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C


@pytest.fixture(scope="module")
def crf():
    """Runs a CRF large enough for several threads; every tensor but Q exists before."""
    unary = torch.arange(2 * 200 * 300, dtype=torch.float32).reshape(1, 2, 200, 300).sin()
    image = torch.arange(200 * 300 * 3).reshape(1, 3, 200, 300).to(torch.uint8)
    params = dn.CRFParams(4, 67, 30, 3, 1)
    return lambda: dn.dense_crf(unary, image, params, iterations=2)


def test_importing_does_no_work():
    code = "import sys, deeplab_native; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    for name in dn.__all__:
        assert getattr(dn, name) is not None
    assert set(dir(dn)) == set(dn.__all__)
    with pytest.raises(AttributeError, match="no attribute 'densecrf'"):
        _ = dn.densecrf


def test_instruction_sets():
    assert _C.isa() == _C.available_isas()[-1]
    assert _C.available_isas()[0] == "baseline"
    with pytest.raises(ValueError, match=r"isa: expected baseline, avx2 or avx512, got sse9"):
        _C.set_isa("sse9")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_can_use_threads_too(crf, set_threads):
    """What libgomp cannot do: a parallel region in a child of a process that had one."""
    set_threads(2)
    expected = crf()
    child = os.fork()
    if child == 0:
        signal.alarm(120)  # ends a child that hangs
        torch.set_num_threads(2)  # a child has one, see _fork.py
        # compared by NumPy: torch's own parallel functions are those that hang here
        os._exit(0 if np.array_equal(crf().numpy(), expected.numpy()) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(crf(), expected)


def test_a_thread_that_throws_between_barriers_ends_the_region(tmp_path):
    """As where memory runs out for one thread of several: the others do not wait for it."""
    here = Path(__file__).parent
    csrc, program = here.parents[1] / "csrc", tmp_path / "team_that_throws"
    sources = [here / "team_that_throws.cpp", csrc / "common" / "parallel.cpp"]
    flags = ["-std=c++20", "-O1", f"-I{csrc}", "-pthread"]
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, *flags, *sources, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2 threads\n3 threads\n8 threads\n")


def test_several_python_threads_at_once(crf):
    expected, results = crf(), [None] * 6

    def work(i):
        for _ in range(5):
            results[i] = crf()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(q, expected) for q in results)


def test_kept_memory_can_be_released(crf):
    crf()
    assert _C.kept_memory() > 0
    _C.release_memory()
    assert _C.kept_memory() == 0
    crf()
