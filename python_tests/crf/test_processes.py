"""The CRF in Python threads, after fork, in spawned processes and in data loader workers.

Every child has a time limit: what could go wrong is that it hangs.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import deeplab_native as dn
from trust._forked import Forked

SECONDS = 120  # far more than a busy machine needs


def problem(seed: int, height: int = 40, width: int = 50):
    """Unary (1, 4, H, W) and image (1, 3, H, W); large enough for several threads."""
    generator = torch.Generator().manual_seed(seed)
    unary = 3 * torch.rand(1, 4, height, width, generator=generator)
    image = torch.randint(0, 256, (1, 3, height, width), generator=generator)
    return unary, image.to(torch.uint8)


PARAMS = dn.CRFParams(4, 30, 20, 3, 3)


def digest(q: torch.Tensor) -> bytes:
    return q.numpy().tobytes()


def solve(seed: int) -> bytes:
    return digest(dn.dense_crf(*problem(seed), PARAMS))


@pytest.fixture(autouse=True)
def two_threads(set_threads):
    set_threads(2)


def in_child(function) -> bytes:
    return Forked(function).result(SECONDS)


def test_threads_each_with_an_object():
    expected = [solve(seed) for seed in range(6)]

    def own(seed: int) -> bytes:
        torch.set_num_threads(2)
        crf = dn.MeanField.from_image(*problem(seed), PARAMS)
        results = {digest(crf.inference(10)) for _ in range(3)}
        return results.pop() if len(results) == 1 else b""

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(own, range(6))) == expected


def test_threads_through_one_object():
    """Also step by step, and with other methods between."""
    crf = dn.MeanField.from_image(*problem(0), PARAMS)
    expected, q = solve(0), crf.start()
    kl = crf.kl_divergence(q)

    def shared(i: int) -> bool:
        if i % 3 == 0:
            return digest(crf.inference(10)) == expected
        if i % 3 == 1:
            return torch.equal(crf.kl_divergence(q), kl)
        stepped = crf.start()
        for _ in range(10):
            stepped = crf.step(stepped)
        return torch.equal(stepped, expected_steps)

    expected_steps = crf.start()
    for _ in range(10):
        expected_steps = crf.step(expected_steps)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(shared, range(24)))


def test_fork_after_use():
    """A child uses what it inherited, and makes its own; the parent goes on; grandchildren, too."""
    crf = dn.MeanField.from_image(*problem(0), PARAMS)
    expected = [digest(crf.inference(10)), solve(1)]
    torch.set_num_threads(1)  # as a child has
    expected_there = [expected[0], solve(1)]
    torch.set_num_threads(2)
    assert in_child(lambda: digest(crf.inference(10)) + solve(1)) == b"".join(expected_there)
    assert in_child(lambda: in_child(lambda: digest(crf.inference(10)))) == expected[0]
    assert [digest(crf.inference(10)), solve(1)] == expected


def test_pictures_of_usual_size_after_a_fork(set_threads):
    """Torch uses threads of its own for so many values, and a child would wait for them forever."""
    unary, image = problem(0, 100, 120)
    photo = image[0].permute(1, 2, 0).numpy()
    net = dn.weights.load_model(dn.weights.EMBEDDED)

    def everything() -> bytes:
        refined, q = dn.refine(photo, -unary[0].numpy(), kind="logits", return_probabilities=True)
        exact = dn.dense_crf(unary[..., :40, :50], image[..., :40, :50], PARAMS, algorithm="exact")
        labels = dn.models.predict(net, photo, crf=PARAMS).labels
        return b"".join(x.tobytes() for x in (refined, q, exact.numpy(), labels.numpy()))

    set_threads(1)
    expected = everything()
    set_threads(2)
    everything()
    torch.rand(200_000).exp_()
    assert in_child(everything) == expected
    assert torch.get_num_threads() == 2


def test_fork_in_a_thread_that_never_computed():
    crf = dn.MeanField.from_image(*problem(0), PARAMS)
    expected = digest(crf.inference(10))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_child, lambda: digest(crf.inference(10))).result() == expected


def test_fork_while_another_thread_computes():
    """The child has a copy of an object that is in use, by a thread that it has not."""
    crf = dn.MeanField.from_image(*problem(0, 150, 200), PARAMS)
    expected = digest(crf.inference(2))
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            crf.inference(20)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for _ in range(4):
            time.sleep(0.01)
            assert in_child(lambda: digest(crf.inference(2))) == expected
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method):
    torch.set_num_threads(1)  # as a forked child has
    expected = [solve(seed) for seed in range(4)]
    torch.set_num_threads(2)
    solve(0)  # the parent has used its threads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # a forkserver's child has as many as where torch was first imported: here, or in the server
        pool = multiprocessing.get_context(method).Pool(2, torch.set_num_threads, (1,))
    with pool:
        assert pool.map_async(solve, range(4)).get(SECONDS) == expected
        pool.close()
        pool.join()


class Refined(Dataset):
    def __init__(self) -> None:
        self.crf = None

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return dn.dense_crf(*problem(i), PARAMS)[0]


def test_data_loader_workers(set_threads):
    torch.manual_seed(0)
    with_two = [solve(i) for i in range(4)]  # the parent has used its threads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = DataLoader(Refined(), batch_size=None, num_workers=2, timeout=SECONDS)
        actual = [digest(q[None]) for q in loader]
    set_threads(1)  # as data loader workers have
    assert actual == [solve(i) for i in range(4)]
    assert len(with_two) == 4
