"""The native module itself: imports, instruction sets, threads, memory."""

import os
import subprocess
import sys
import threading

import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C


def run_crf():
    unary = torch.arange(2 * 30 * 40, dtype=torch.float32).reshape(1, 2, 30, 40).sin()
    image = torch.zeros(1, 3, 30, 40, dtype=torch.uint8)
    return dn.dense_crf(unary, image, dn.CRFParams(4, 67, 3, 3, 1))


def test_importing_does_no_work():
    code = "import sys, deeplab_native; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
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
    with pytest.raises(ValueError, match="isa: expected baseline, avx2 or avx512, got sse9"):
        _C.set_isa("sse9")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_can_use_threads_too():
    """What libgomp cannot do: a parallel region in a child of a process that had one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = run_crf()
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(run_crf(), expected) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert torch.equal(run_crf(), expected)
    finally:
        torch.set_num_threads(before)


def test_several_python_threads_at_once():
    expected, results = run_crf(), [None] * 6

    def work(i):
        for _ in range(5):
            results[i] = run_crf()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(q, expected) for q in results)


def test_kept_memory_can_be_released():
    run_crf()
    _C.release_memory()
    run_crf()
