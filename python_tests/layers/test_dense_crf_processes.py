"""The layer `DenseCRF` in two processes (DistributedDataParallel over gloo)."""

from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn
from torch.nn.functional import nll_loss
from torch.nn.parallel import DistributedDataParallel

from python_tests.layers.crf_cases import ALL, LABELS, inputs, layer


class Net(nn.Module):
    """A convolution whose scores go through the CRF."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(LABELS, LABELS, 3, padding=1)
        self.crf = layer("matrix", trainable=ALL["matrix"])

    def forward(self, x, image):
        return self.crf(self.conv(x), image)


def gradients(net, own):
    scores, image, labels = (t[own] for t in inputs())
    nll_loss(net(scores, image), labels, ignore_index=255).backward()
    return {n.removeprefix("module."): p.grad for n, p in net.named_parameters()}


def of_one_process(rank, store, out):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found = gradients(DistributedDataParallel(Net()), slice(rank, rank + 1))
    torch.save(found, f"{out}/{rank}")
    distributed.destroy_process_group()


def test_gradients_are_those_of_the_whole_batch(tmp_path: Path):
    """Both images have as many labelled pixels, so the mean of means is the mean."""
    store = (tmp_path / "store").as_uri()
    multiprocessing.spawn(of_one_process, (store, str(tmp_path)), nprocs=2)
    expected = gradients(Net(), slice(None))
    for rank in range(2):
        found = torch.load(tmp_path / str(rank), weights_only=True)
        assert set(found) == set(expected)
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], atol=1e-7, rtol=1e-4)
            assert gradient.abs().max() > 0, name
