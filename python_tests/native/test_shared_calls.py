"""What calls of several Python threads share: kept memory, kept lattices, one object.

Results are compared, and under python_tests/native/sanitize.py races are found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native import _C
from deeplab_native.pydensecrf import densecrf
from python_tests.ops.func_cases import CASES, Call

THREADS = 4
PARAMS = dn.CRFParams(4, 30, 20, 3, 3)


def at_once(functions: Sequence[Callable[[], object]]) -> list[object]:
    """What the functions return, each called by a thread of its own, all at the same time."""
    start = threading.Barrier(len(functions))

    def call(function: Callable[[], object]) -> object:
        torch.set_num_threads(2)  # OpenMP has it by thread
        start.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(call, functions))


@pytest.fixture(autouse=True)
def two_threads(set_threads):
    set_threads(2)


def solve(height: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(height)
    unary = 3 * torch.rand(1, 12, height, 64, generator=generator)
    image = torch.randint(0, 256, (1, 3, height, 64), generator=generator).to(torch.uint8)
    return dn.dense_crf(unary, image, PARAMS, iterations=2).numpy()


def test_kept_lattices_and_memory_are_shared_and_released():
    """More sizes than are kept: each thread takes what another made, or has it thrown out."""
    sizes = range(64, 76)
    expected = {size: solve(size) for size in sizes}
    _C.release_memory()

    def solves(order: Sequence[int]) -> bool:
        return all(np.array_equal(solve(size), expected[size]) for size in order)

    def releases() -> bool:
        for _ in range(20):
            _C.kept_memory()
            _C.release_memory()
        return True

    forward, backward = [*sizes], [*reversed(sizes)]
    assert all(at_once([lambda o=o: solves(o) for o in (forward, backward, forward)] + [releases]))


def test_one_object_of_the_drop_in_is_filled_and_asked_at_once():
    """What comes out depends on who comes first; it is that of some order, and nothing breaks."""
    densecrf.set_num_threads(2)
    height, width, labels = 48, 64, 3
    random = np.random.default_rng(0)
    energies = [random.random((labels, height * width), np.float32) * 3 for _ in range(2)]
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(energies[0])
    crf.addPairwiseGaussian(sxy=3, compat=3)
    image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)

    def adds() -> bool:
        for _ in range(3):
            crf.addPairwiseBilateral(sxy=20, srgb=13, rgbim=image, compat=1)
        return True

    def sets() -> bool:
        for i in range(6):
            crf.setUnaryEnergy(energies[i % 2])
        return True

    def infers() -> bool:
        for _ in range(3):
            q = np.array(crf.inference(2)).reshape(labels, -1)
            if not np.allclose(q.sum(axis=0), 1, atol=1e-5):
                return False
        return True

    def steps() -> bool:
        q, first, second = crf.startInference()
        for _ in range(3):
            crf.stepInference(q, first, second)
            if not np.isfinite(crf.klDivergence(q)):
                return False
        return True

    assert all(at_once([adds, sets, infers, steps]))
    densecrf.set_num_threads(None)


@pytest.mark.parametrize("case", [c for c in CASES if not c.only_cuda], ids=str)
def test_every_op_from_several_threads(case):
    call = Call(case, torch.device("cpu"))
    expected = [out.numpy() for out in call(*call.tensors)]

    def same() -> bool:
        outs = call(*call.tensors)
        return all(np.array_equal(o.numpy(), e) for o, e in zip(outs, expected, strict=True))

    assert all(at_once([same] * THREADS))
