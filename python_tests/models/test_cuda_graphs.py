"""The graphs of a device: their order on streams, their memory; and whole nets on a GPU."""

import threading

import numpy as np
import pytest
import torch

from deeplab_native.crf import CRFParams
from deeplab_native.models import Predictor, create_model, predict
from deeplab_native.models._cuda_graphs import CudaGraphs, NotRecordableError, recorder_of
from python_tests.models.graph_cases import FakeCuda
from python_tests.models.small_net import SmallNet

CRF = CRFParams(w1=4, sigma_alpha=30, sigma_beta=10, w2=3, sigma_gamma=2)


def random_image(height=17, width=25, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def doubled(pixels):
    return (pixels * 2,)


def test_streams_take_turns():
    cuda = FakeCuda()
    graphs = CudaGraphs("the device", cuda)
    recording = graphs.record(doubled, torch.zeros(2, 3), keep=None)
    side = "the device"
    assert cuda.log == [
        f"{side} waits for stream first",
        f"host waits for {side}",
        "capture in pool (0, 0)",
    ]
    cuda.log.clear()
    for name in ("first", "second"):
        cuda.stream_now = cuda.Stream(name)
        result = recording.replay(torch.ones(2, 3))
        # whoever comes next waits for the copy of the results, on whatever stream
        assert cuda.log == [f"{name} waits for event", "replay", f"event on {name}"]
        assert result[0].data_ptr() != recording._results[0].data_ptr()
        cuda.log.clear()
    assert torch.equal(recording._static, torch.ones(2, 3))
    other = graphs.record(doubled, torch.zeros(1), keep=None)
    assert cuda.log[-1] == "capture in pool (0, 0)"  # of the same memory
    assert other._static.data_ptr() != recording._static.data_ptr()
    cuda.log.clear()
    del recording
    assert cuda.log == ["host waits for event"]


def test_a_capture_that_fails():
    cuda = FakeCuda()
    graphs = CudaGraphs("device", cuda)
    cuda.fails = True
    with pytest.raises(
        NotRecordableError, match=r"^RuntimeError: operation not permitted .* capturing$"
    ):
        graphs.record(doubled, torch.zeros(1), keep=None)
    with pytest.raises(ZeroDivisionError):  # what the work raises is not the capture's fault
        graphs.record(lambda pixels: 1 / 0, torch.zeros(1), keep=None)
    assert graphs.can_record()
    cuda.capturing = True
    assert not graphs.can_record()


def cuda_net(kind, cuda):
    net = SmallNet() if kind == "small" else create_model(kind, 4, seed=0)
    return net.to(cuda)


@pytest.mark.parametrize("kind", ["small", "deeplab_mobilenetv2_aspp", "deeplab_resnet101_aspp"])
@pytest.mark.parametrize("crf", [None, CRF])
def test_a_graph_computes_what_predict_does(cuda, kind, crf):
    net = cuda_net(kind, cuda)
    predictor = Predictor(net, (33, 41), crf=crf)
    for i in range(3):
        image = random_image(33, 41, seed=i)
        assert equal(predictor(image), predict(net, image, crf=crf))
    assert predictor.recorded == [(1, 33, 41)]
    first = predictor(random_image(33, 41)).scores.clone()
    kept = predictor(random_image(33, 41))
    predictor(random_image(33, 41, seed=1))
    assert torch.equal(kept.scores, first)  # results are copies
    with torch.no_grad():
        net.classifiers()[0].weight.mul_(2)
    assert equal(predictor(random_image(33, 41)), predict(net, random_image(33, 41), crf=crf))


def test_graphs_on_streams_and_threads(cuda):
    net = cuda_net("deeplab_mobilenetv2_aspp", cuda)
    predictor = Predictor(net, crf=CRF, keep=2)
    images = [random_image(33, 33 + 8 * (i % 3), seed=i) for i in range(12)]
    expected = [predict(net, image, crf=CRF).scores.cpu() for image in images]
    found: dict[int, torch.Tensor] = {}

    def work(first):
        with torch.cuda.stream(torch.cuda.Stream()):
            for i in range(first, len(images), 3):
                found[i] = predictor(images[i]).scores.cpu()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], expected[i]) for i in range(len(images)))


def test_a_replay_does_not_wait(cuda):
    predictor = Predictor(cuda_net("deeplab_mobilenetv2_aspp", cuda), (33, 41), crf=CRF)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        predictor(random_image(33, 41))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_net_that_waits_runs_as_it_is(cuda):
    class Waiting(SmallNet):
        def score_map(self, x):
            return super().score_map(x) * float(x.abs().max() > 0)

    net = Waiting().to(cuda)
    predictor = Predictor(net)
    with pytest.warns(RuntimeWarning, match="cannot be recorded as a CUDA graph"):
        predictor(random_image())
    assert equal(predictor(random_image()), predict(net, random_image()))
    assert predictor.recorded == []
    assert recorder_of(torch.device("cuda")) is recorder_of(torch.device("cuda", 0))
