"""The filters of positions that are kept: what for, how many, on which streams, in graphs."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import deeplab_native as dn
from deeplab_native import CRFParams
from deeplab_native.ops import _kept_filters as kept
from deeplab_native.ops._lattice_cuda import FilterParts

PARAMS = CRFParams(w1=4, sigma_alpha=40, sigma_beta=10, w2=3, sigma_gamma=3)


@pytest.fixture(autouse=True)
def nothing_kept():
    kept.drop_kept_filters()
    yield
    kept.drop_kept_filters()


@pytest.fixture
def built(monkeypatch):
    """The shapes of the features of which a lattice was built."""
    shapes, of = [], FilterParts.of

    def counting(features, *rest):
        shapes.append(tuple(features.shape))
        return of(features, *rest)

    monkeypatch.setattr(FilterParts, "of", counting)
    return shapes


def crf(device, height=9, width=11, batch=1, dtype=torch.float32, normalization="symmetric", **how):
    generator = torch.Generator().manual_seed(height)
    unary = torch.rand(batch, 3, height, width, generator=generator, dtype=dtype) * 4
    image = torch.randint(0, 256, (batch, 3, height, width), generator=generator)
    params = replace(PARAMS, **how)
    call = unary.to(device), image.to(device, torch.uint8), params
    return dn.dense_crf(*call, iterations=2, normalization=normalization)


def test_the_second_image_builds_one_lattice(cuda_device, built):
    first = crf(cuda_device)
    assert sorted(built) == [(1, 99, 5), (99, 2)]
    again = crf(cuda_device)
    assert torch.equal(first, again) and sorted(built[2:]) == [(1, 99, 5)]
    kept.drop_kept_filters()
    assert torch.equal(first, crf(cuda_device)) and sorted(built[3:]) == [(1, 99, 5), (99, 2)]


def test_what_it_depends_on(cuda_device, built):
    """Nothing else finds the filter of another: the results are those with nothing kept."""
    cases = [
        {},
        {"height": 11, "width": 9},
        {"sigma_gamma": 2.5},
        {"dtype": torch.float64},
        {"normalization": "before"},
        {"normalization": "after"},
        {"normalization": "none"},
        {"batch": 2},  # the one of {}
    ]
    results = [crf(cuda_device, **case) for case in cases]
    assert len(kept._kept) == len(cases) - 1
    for case, result in zip(cases, results, strict=True):
        kept.drop_kept_filters()
        assert torch.equal(crf(cuda_device, **case), result)


def test_gradients_and_mean_fields_use_it(cuda_device, built):
    unary = torch.rand(1, 3, 9, 11, device=cuda_device, requires_grad=True)
    image = torch.zeros(1, 3, 9, 11, dtype=torch.uint8, device=cuda_device)
    for scale in (1, 0.5):
        dn.dense_crf(unary, image, PARAMS, iterations=2, scale=scale).square().sum().backward()
    dn.MeanField.from_image(unary.detach(), image, PARAMS).step(unary.detach().softmax(1))
    assert built.count((99, 2)) == 1


# ---- the keeping itself, of stand-ins without a device ----
class Memory:
    """Of a filter: its size, and the streams that are recorded as using it."""

    def __init__(self, nbytes):
        self.nbytes, self.used_on = nbytes, []

    def record_stream(self, stream):
        self.used_on.append(stream.cuda_stream)


class Parts:
    def __init__(self, nbytes=1):
        self.memory = Memory(nbytes)

    def tensors(self):
        return [self.memory]


@pytest.fixture
def device(monkeypatch):
    """The state of a pretended device: the current stream, capturing or not, what is done."""
    state = SimpleNamespace(stream=1, captures=False, done=True, waited=[])

    class Streams(kept._Streams):
        def __init__(self, like):
            wait = lambda event: state.waited.append((state.stream, event))  # noqa: E731
            self._stream = SimpleNamespace(cuda_stream=state.stream, wait_event=wait)
            self.number, self.captures = state.stream, state.captures

        def mark(self):
            return [state.done], f"built on {state.stream}"

    monkeypatch.setattr(kept, "_Streams", Streams)
    return state


LIKE = torch.empty(0)


def get(key, nbytes=1):
    return kept.kept_parts(key, LIKE, lambda: Parts(nbytes))


def test_the_least_recently_used_one_goes(device, monkeypatch):
    monkeypatch.setattr(kept, "MOST_FILTERS", 2)
    a, b = get("a"), get("b")
    assert get("a") is a
    get("c")
    assert get("a") is a and get("b") is not b


def test_bytes_are_bounded(device, monkeypatch):
    monkeypatch.setattr(kept, "MOST_BYTES", 10)
    a, b = get("a", 4), get("b", 6)
    assert get("a") is a and get("b") is b
    assert get("large", 11) is not get("large", 11)
    assert get("a") is a and get("b") is b
    get("c", 5)
    assert [key[1] for key in kept._kept] == ["c"]
    assert sum(one.bytes for one in kept._kept.values()) <= 10


def test_another_stream_waits_and_is_recorded(device):
    device.done = False
    a = get("a")
    assert get("a") is a and not device.waited and not a.memory.used_on
    device.stream = 2
    assert get("a") is a and get("a") is a
    assert device.waited == [(2, "built on 1")] and a.memory.used_on == [2]


def test_a_stream_does_not_wait_for_what_is_done(device):
    a = get("a")
    device.stream = 2
    assert get("a") is a and not device.waited and a.memory.used_on == [2]


def test_what_a_capture_builds_is_not_kept(device):
    device.captures = True
    assert get("a") is not get("a") and not kept._kept


def test_a_capture_uses_only_what_is_done(device):
    device.done = False
    a = get("a")
    device.captures, device.stream = True, 2
    assert get("a") is not a
    device.captures = False
    assert get("a") is a  # it stays for others


def test_what_a_graph_uses_is_never_dropped(device, monkeypatch):
    monkeypatch.setattr(kept, "MOST_FILTERS", 2)
    a = get("a")
    device.captures, device.stream = True, 2
    assert get("a") is a and not a.memory.used_on and not device.waited
    device.captures = False
    for key in "bcdefgh":
        get(key)
    assert get("a") is a and len(kept._kept) == 2
    device.captures = True
    h = get("h")
    device.captures = False
    assert get("i") is not get("i")  # two graphs have all the room
    assert get("a") is a and get("h") is h


def test_threads(device, monkeypatch):
    """Every thread gets parts of its key, of which one becomes everyone's; bounds hold."""
    monkeypatch.setattr(kept, "MOST_FILTERS", 3)
    wrong, start = [], threading.Barrier(8)

    def work(first):
        start.wait(60)
        for i in range(400):
            key = (first + i) % 5
            parts = kept.kept_parts(key, LIKE, lambda key=key: Parts(key))
            if parts.memory.nbytes != key or len(kept._kept) > 4:  # one is dropped at a time
                wrong.append((key, parts.memory.nbytes, len(kept._kept)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and len(kept._kept) == 3


# ---- on a GPU ----
def test_streams_and_graphs_on_cuda(cuda, built):
    """Two streams at once, and a graph that replays after everything else was dropped."""
    expected = crf(cuda)
    kept.drop_kept_filters()
    streams, results = [torch.cuda.Stream() for _ in range(2)], []
    for stream in streams:
        with torch.cuda.stream(stream):
            results.append(crf(cuda))
    torch.cuda.synchronize()
    assert all(torch.equal(r, expected) for r in results)
    unary = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(9)) * 4
    image = torch.zeros(1, 3, 9, 11, dtype=torch.uint8, device=cuda)
    unary = unary.to(cuda)
    q_before = dn.dense_crf(unary, image, PARAMS)
    torch.cuda.synchronize()
    count, graph = built.count((99, 2)), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        q = dn.dense_crf(unary, image, PARAMS)
    assert built.count((99, 2)) == count
    assert [one.in_graph for one in kept._kept.values()] == [True]
    for height in range(20, 20 + kept.MOST_FILTERS + 1):  # all others go
        crf(cuda, height=height)
    graph.replay()
    assert torch.equal(q, q_before)


def test_a_capture_without_a_warm_up_on_cuda(cuda):
    crf(cuda, height=30)  # modules are loaded
    unary = torch.rand(1, 3, 9, 11, device=cuda)
    image = torch.zeros(1, 3, 9, 11, dtype=torch.uint8, device=cuda)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        q = dn.dense_crf(unary, image, PARAMS)
    assert len(kept._kept) == 1  # of height 30
    graph.replay()
    assert torch.equal(q, dn.dense_crf(unary, image, PARAMS))
