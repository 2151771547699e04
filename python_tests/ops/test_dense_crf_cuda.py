"""dense_crf on CUDA, emulated or not: pydensecrf's results, graphs, determinism, no waiting."""

import warnings

import pytest
import torch

import deeplab_native as dn
from python_tests.ops.test_dense_crf import CASES, check_case

RANGES = [{}, {"image_range": (0, 200)}, {"image_range": [(0, 200), (1, 255), (0, 255)]}]


@pytest.mark.parametrize(("folder", "case"), CASES)
@pytest.mark.unsanitized
def test_same_results_as_pydensecrf(folder, case, cuda_device):
    check_case(folder, case, cuda_device)


@pytest.mark.parametrize("how", RANGES)
def test_a_cuda_graph_replays_on_other_data(photo, cuda, how):
    """Nothing waits for the device, lattices included, so the whole call can be captured."""
    unary, image, params = photo
    given = unary[:1].to(cuda), image[:1].to(cuda)
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):  # as torch asks for before a capture
        dn.dense_crf(*given, params, **how)
    torch.cuda.current_stream().wait_stream(warm)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        q = dn.dense_crf(*given, params, **how)
    for b in (1, 0):
        given[0].copy_(unary[b : b + 1])
        given[1].copy_(image[b : b + 1])
        graph.replay()
        own = unary[b : b + 1].to(cuda), image[b : b + 1].to(cuda)
        expected = dn.dense_crf(*own, params, **how)
        assert torch.equal(q, expected)


def test_same_bits_a_hundred_times_on_cuda(photo, cuda):
    unary, image, params = photo
    given = unary.to(cuda), image.to(cuda)
    first = dn.dense_crf(*given, params)
    for _ in range(100):
        assert torch.equal(dn.dense_crf(*given, params), first)


@pytest.mark.parametrize("how", [*RANGES, {"image_range": (0, 65535)}])
def test_no_waiting_for_the_device(photo, cuda, how):
    unary, image, params = photo
    sixteen_bits = how.get("image_range") == (0, 65535)
    given = unary.to(cuda), image.to(torch.uint16 if sixteen_bits else torch.float32).to(cuda)
    dn.dense_crf(*given, params, **how)
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        dn.dense_crf(*given, params, **how)
        dn.dense_crf(given[0][0], given[1][0], params, **how)
        dn.MeanField.from_image(*given, params, **how).inference(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
