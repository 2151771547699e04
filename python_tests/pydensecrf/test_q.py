"""deeplab_native.pydensecrf: marginals as matrices, live views of them, threads, processes."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deeplab_native.pydensecrf import densecrf as dcrf
from deeplab_native.pydensecrf import eigen
from python_tests.pydensecrf.pydensecrf_cases import problem

GIVEN = problem(3, 40, [2, 5], 0, "symmetric", 0)


@pytest.fixture(autouse=True)
def no_threads_chosen(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    dcrf.set_num_threads(None)


def test_step_writes_into_live_views():
    crf = GIVEN.crf(dcrf)
    Q, tmp1, tmp2 = crf.startInference()
    live, buffer = np.asarray(Q), memoryview(Q)
    assert np.shares_memory(live, np.asarray(Q)) and type(live) is np.ndarray
    assert buffer.format == "f" and buffer.shape == (3, 40) and not buffer.readonly
    np.testing.assert_array_equal(live, crf.inference(0))
    for step in range(1, 4):
        crf.stepInference(Q, tmp1, tmp2)
        # inference does not store Q in between: its last bits differ
        np.testing.assert_allclose(live, crf.inference(step), rtol=0, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(buffer), live)
    copied = np.array(Q)
    crf.stepInference(Q, tmp1, tmp2)
    assert not np.array_equal(copied, live)


def test_step_uses_what_is_written():
    crf = GIVEN.crf(dcrf)
    Q, tmp1, tmp2 = crf.startInference()
    given = np.random.default_rng(0).dirichlet(np.ones(3), 40).T.astype(np.float32)
    np.asarray(Q)[:] = given
    assert crf.klDivergence(Q) == crf.klDivergence(eigen.matrixXf(given))
    crf.stepInference(Q, tmp1, tmp2)
    other = eigen.matrixXf(given)
    crf.stepInference(other, eigen.MatrixXf(), eigen.MatrixXf())
    np.testing.assert_array_equal(Q, other)
    assert not np.array_equal(Q, crf.inference(1))


def test_every_result_has_its_own_memory():
    crf = GIVEN.crf(dcrf)
    first = crf.inference(2)
    before = np.array(first)
    np.asarray(crf.inference(2))[:] = 0
    np.testing.assert_array_equal(first, before)
    np.testing.assert_array_equal(crf.inference(2), before)
    view = np.asarray(first)
    del first, crf
    np.testing.assert_array_equal(view, before)


def test_what_numpy_computes_of_q_are_plain_arrays():
    Q = GIVEN.crf(dcrf).inference(2)
    assert isinstance(Q, eigen.MatrixXf)
    plain = np.array(Q)
    for result, expected in [
        (np.argmax(Q, axis=0), plain.argmax(0)),
        (np.max(Q, axis=0), plain.max(0)),
        (Q * 2, plain * 2),
        (np.stack([Q, Q]), np.stack([plain, plain])),
        (np.reshape(Q, (3, 8, 5)), plain.reshape(3, 8, 5)),
        (pickle.loads(pickle.dumps(Q, 5)), plain),
    ]:
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, expected)
    assert type(np.max(Q)) is np.float32 and type(np.add.reduce(Q, None)) is np.float32


def test_conversion_of_arrays():
    random = np.random.default_rng(0)
    for make, kind, a in [
        (eigen.vectorXf, eigen.VectorXf, random.normal(size=6).astype(np.float32)),
        (eigen.matrixXf, eigen.MatrixXf, random.normal(size=(4, 6)).astype(np.float32)),
    ]:
        for strided in (a, a[::-1], a[..., ::2], np.asfortranarray(a)):
            made = make(strided)
            assert type(made) is kind and made.flags.c_contiguous
            np.testing.assert_array_equal(made, strided)
            assert not np.shares_memory(made, strided)
        assert np.asarray(kind()).shape == (0,) * a.ndim
        for wrong, error in [
            (None, TypeError),
            ([1.0], TypeError),
            (a.astype(np.float64), ValueError),
            (a[None], ValueError),
        ]:
            with pytest.raises(error, match="arr: expected"):
                make(wrong)


def test_wrong_q():
    crf = GIVEN.crf(dcrf)
    Q, tmp1, tmp2 = crf.startInference()
    before = np.array(Q)
    for wrong, error, message in [
        (np.asarray(Q), TypeError, r"Q: expected a MatrixXf \(eigen.matrixXf .* got ndarray"),
        (None, TypeError, "Q: expected a MatrixXf"),
        (eigen.matrixXf(before.T), ValueError, r"Q: expected float32 \(3, 40\), got .* \(40, 3\)"),
        (eigen.MatrixXf(), ValueError, r"Q: expected float32 \(3, 40\), got float32 \(0, 0\)"),
    ]:
        with pytest.raises(error, match=message):
            crf.klDivergence(wrong)
        with pytest.raises(error, match=message):
            crf.stepInference(wrong, tmp1, tmp2)
    part = np.repeat(before, 2, 1).view(eigen.MatrixXf)[:, ::2]
    with pytest.raises(ValueError, match="Q: expected a MatrixXf as startInference gives it"):
        crf.stepInference(part, tmp1, tmp2)
    assert crf.klDivergence(part) == crf.klDivergence(Q)
    for tmps in [(None, tmp2), (tmp1, np.zeros((3, 40)))]:
        with pytest.raises(TypeError, match=r"tmp[12]: expected a MatrixXf"):
            crf.stepInference(Q, *tmps)
    np.testing.assert_array_equal(Q, before)


def test_no_copies_of_native_memory():
    for crf in (dcrf.DenseCRF(3, 2), dcrf.DenseCRF2D(3, 2, 2)):
        for copying in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match=r"DenseCRF(2D)?: .* cannot be copied or pickled"):
                copying(crf)


def test_python_threads():
    """With an object each, and sharing one."""
    dcrf.set_num_threads(2)
    given = problem(3, 2000, [2, 5], 0, "symmetric", 0, iterations=5)
    shared = given.crf(dcrf)
    expected = np.array(shared.inference(5))

    def own(_):
        return np.array(given.crf(dcrf).inference(5))

    def steps(_):
        Q, tmp1, tmp2 = shared.startInference()
        for _ in range(5):
            shared.stepInference(Q, tmp1, tmp2)
        return np.array(Q)

    with ThreadPoolExecutor(4) as pool:
        for work in (own, lambda _: np.array(shared.inference(5))):
            for q in pool.map(work, range(8)):
                np.testing.assert_array_equal(q, expected)
        stepped = list(pool.map(steps, range(8)))
    for q in stepped:
        np.testing.assert_array_equal(q, stepped[0])
        np.testing.assert_allclose(q, expected, rtol=0, atol=1e-6)


def test_number_of_threads(monkeypatch):
    assert dcrf.get_num_threads() == len(os.sched_getaffinity(0))
    for value, expected in [("3", 3), ("5,2", 5), (" 2 ", 2)]:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert dcrf.get_num_threads() == expected
    for ignored in ("", "0", "-1", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", ignored)
        assert dcrf.get_num_threads() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    dcrf.set_num_threads(7)
    assert dcrf.get_num_threads() == 7
    for n, error in [(0, ValueError), (-1, ValueError), ("2", TypeError), (1.5, TypeError)]:
        with pytest.raises(error, match="n: expected"):
            dcrf.set_num_threads(n)
    assert dcrf.get_num_threads() == 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    dcrf.set_num_threads(None)
    monkeypatch.setattr(multiprocessing.process, "parent_process", lambda: object())
    assert dcrf.get_num_threads() == 1  # more are in PROCESSES


PROCESSES = """
import multiprocessing, os, sys
import numpy as np
import deeplab_native.pydensecrf.densecrf as dcrf
from python_tests.pydensecrf.pydensecrf_cases import problem

def child(_):
    q = CRF.inference(5) if CRF else given().crf(dcrf).inference(5)
    return dcrf.get_num_threads(), np.array(q)

def given():
    return problem(3, 2000, [2, 5], 0, "symmetric", 0)

CRF = None
if __name__ == "__main__":
    expected = np.array(given().crf(dcrf).inference(5))
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            for threads, q in pool.map(child, range(4)):
                assert threads == 1 and np.abs(q - expected).max() <= 1e-5
    dcrf.set_num_threads(2)
    CRF = given().crf(dcrf)
    expected = np.array(CRF.inference(5))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for threads, q in pool.map(child, range(4)):
            assert threads == 2 and np.array_equal(q, expected)
"""


def test_processes(tmp_path):
    """One thread in a worker unless set; an object of the parent works in a forked child."""
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert out.returncode == 0, out.stderr
