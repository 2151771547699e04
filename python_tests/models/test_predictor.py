"""`Predictor` and `predict(graph=True)`: what is recorded, kept and replayed, and by whom."""

import gc
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch

from deeplab_native import _variants
from deeplab_native.crf import CRFParams
from deeplab_native.models import Predictor, create_model, predict
from deeplab_native.models._cuda_graphs import CudaGraphs, recorder_of
from deeplab_native.models._recordings import Recordings
from python_tests.models.graph_cases import FakeCuda, FakeRecorder

CRF = CRFParams(w1=4, sigma_alpha=30, sigma_beta=10, w2=3, sigma_gamma=2)
# the modules, not the function of the same name
PREDICT, PREDICTOR = (sys.modules[f"deeplab_native.models.{n}"] for n in ("predict", "predictor"))


def random_image(height=17, width=25, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def net():
    return create_model("deeplab_mobilenetv2_aspp", 3, seed=0)


@pytest.fixture
def graphs(monkeypatch):
    """The CPU as if it had graphs."""
    fake = FakeRecorder()
    for module in (PREDICT, PREDICTOR):
        monkeypatch.setattr(module, "recorder_of", lambda device: fake)
    return fake


def test_each_size_is_recorded_once(net, graphs):
    predictor = Predictor(net, crf=CRF, iterations=2)
    images = [random_image(seed=i) for i in range(3)]
    for image in images:
        assert equal(predictor(image), predict(net, image, crf=CRF, iterations=2))
    assert (graphs.recorded, graphs.replayed) == (1, 3)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    found = predictor(batch)
    assert found.labels.shape == (3, 17, 25)
    assert equal(found, predict(net, batch, crf=CRF, iterations=2))
    assert predictor.recorded == [(1, 17, 25), (3, 17, 25)]


def test_a_size_is_recorded_at_once(net, graphs):
    predictor = Predictor(net, (17, 25), batch=2)
    assert predictor.recorded == [(2, 17, 25)]
    assert Predictor(net, 9).recorded == [(1, 9, 9)]
    predictor(np.zeros((17, 25, 3), np.uint8))
    assert predictor.recorded == [(2, 17, 25), (1, 17, 25)]


def test_predict_records_what_comes_twice(net, graphs):
    for i in range(3):
        assert equal(
            predict(net, random_image(seed=i), graph=True), predict(net, random_image(seed=i))
        )
        predict(net, random_image(9, 9 + i), graph=True)
    assert (graphs.recorded, graphs.replayed) == (1, 2)
    predict(net, random_image(), graph=True, longest_side=9)
    predict(net, random_image(), graph=True, precision="bfloat16")
    assert graphs.recorded == 1
    predict(net, random_image(), graph=True, longest_side=9)
    assert graphs.recorded == 2


def test_the_latest_are_kept(net, graphs):
    predictor = Predictor(net, keep=2)
    for width in (9, 10, 9, 11):
        predictor(random_image(9, width))
    assert predictor.recorded == [(1, 9, 9), (1, 9, 11)]
    assert (graphs.recorded, graphs.dropped) == (3, 1)


def test_changed_weights_are_recorded_anew(net, graphs):
    predictor = Predictor(net)
    predictor(random_image())
    predictor(random_image(9, 9))
    with torch.no_grad():
        net.conv1.weight.mul_(1.5)
    assert equal(predictor(random_image()), predict(net, random_image()))
    assert predictor.recorded == [(1, 17, 25)]  # the other was of the old weights
    assert (graphs.recorded, graphs.dropped) == (3, 2)
    net.conv1.weight.data.mul_(1.5)  # which nobody sees
    predictor.refresh()
    assert predictor.recorded == []
    assert equal(predictor(random_image()), predict(net, random_image()))
    net.scales = (1.0, 0.5)
    assert equal(predictor(random_image()), predict(net, random_image()))
    assert graphs.recorded == 5


def test_settings_are_recorded_anew(net, graphs, monkeypatch):
    predictor = Predictor(net)
    predictor(random_image())
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    predictor(random_image())
    assert graphs.recorded == 2
    monkeypatch.setitem(_variants.CHOICES, "speed", ("slow", "fast"))
    with _variants.use({"speed": "fast"}):
        predictor(random_image())
    assert graphs.recorded == 3
    predictor(random_image())
    assert graphs.recorded == 3


def test_what_cannot_be_recorded_runs_as_it_is(net, graphs):
    graphs.impossible = True
    predictor = Predictor(net)
    with pytest.warns(RuntimeWarning, match="cannot be recorded as a CUDA graph .*: it waits"):
        found = predictor(random_image())
    assert equal(found, predict(net, random_image()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor(random_image())  # it is not tried again
    graphs.impossible = False
    with torch.no_grad():
        net.conv1.weight.mul_(1.5)
    predictor(random_image())
    assert graphs.recorded == 1  # of other weights it is


def test_a_faulty_net_says_what_is_wrong(net, graphs):
    net.num_classes = 7
    with pytest.raises(ValueError, match=r"model: expected a score map .* got shape \(1, 3"):
        Predictor(net)(random_image())
    net.num_classes = 3
    predict(net, random_image())


def test_within_a_capture_it_runs_as_it_is(net, graphs):
    predictor = Predictor(net, (17, 25))
    graphs.capturing = True
    predictor(random_image())
    assert graphs.replayed == 1  # of the constructor


def test_threads_share_a_predictor(net, graphs):
    predictor = Predictor(net, keep=2)
    images = [random_image(9, 9 + i % 3, seed=i) for i in range(12)]
    expected = [predict(net, image).scores for image in images]
    found: dict[int, torch.Tensor] = {}

    def work(first):
        for i in range(first, len(images), 3):
            found[i] = predictor(images[i]).scores

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], expected[i]) for i in range(len(images)))
    assert len(predictor.recorded) == 2


def test_nothing_is_kept_of_a_net_that_is_gone(monkeypatch):
    cuda = FakeCuda()
    graphs = CudaGraphs("device", cuda)
    monkeypatch.setattr(PREDICT, "recorder_of", lambda device: graphs)
    net = create_model("deeplab_mobilenetv2_aspp", 3, seed=0)
    for _ in range(2):
        predict(net, random_image(9, 9), graph=True)
    gone = weakref.ref(net)
    cuda.log.clear()
    del net
    gc.collect()
    assert gone() is None
    assert cuda.log == ["host waits for event"]  # then the graph's memory goes to others


def test_graphs_give_way_where_memory_is_short(net, graphs):
    predictor = Predictor(net, (9, 9))
    graphs.out_of_memory = 1
    assert equal(predictor(random_image()), predict(net, random_image()))
    assert (predictor.recorded, graphs.dropped) == ([], 1)
    graphs.out_of_memory = 1
    with pytest.raises(torch.OutOfMemoryError):
        predictor(random_image())


def test_on_the_cpu_there_are_no_graphs(net):
    assert recorder_of(torch.device("cpu")) is None
    predictor = Predictor(net, (17, 25), crf=CRF)
    assert equal(predictor(random_image()), predict(net, random_image(), crf=CRF, graph=True))
    assert predictor.recorded == []
    predictor.refresh()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 0}, ValueError, "size: expected at least 1, got 0"),
        ({"size": (3, 4, 5)}, TypeError, "size: expected an integer or two"),
        ({"batch": 0}, ValueError, "batch: expected at least 1"),
        ({"keep": 0}, ValueError, "keep: expected at least 1"),
        ({"precision": "int8"}, ValueError, "precision: expected one of auto, .*'int8'"),
        ({"crf": "voc"}, TypeError, "crf: expected CRFParams or None, got str"),
    ],
)
def test_arguments(net, arguments, error, message):
    with pytest.raises(error, match=message):
        Predictor(net, **arguments)


def test_tiles_have_no_graph(net):
    with pytest.raises(ValueError, match="graph: expected False with a tile, got True"):
        predict(net, random_image(), tile=17, graph=True)


def doubled(pixels):
    return (pixels * 2,)


def test_what_failed_is_not_remembered_for_ever():
    recordings, fake = Recordings(keep=1, after=1), FakeRecorder()
    fake.impossible = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key in range(1000):
            recordings.run(fake, key, "state", doubled, torch.zeros(1))
    assert len(recordings._impossible) <= 256 and len(recordings._seen) <= 256
