"""The losses of weak supervision in two processes (DistributedDataParallel over gloo)."""

from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from deeplab_native import ConstrainToBoundaryLoss, CRFParams, DenseCRFLoss
from python_tests.ops.lattice_matrix import LABELS, picture


def gradients(wrap, own):
    torch.manual_seed(5)
    net = wrap(nn.Conv2d(3, LABELS, 3, padding=1))
    image = picture()[0][own]
    scores = net(image.float() / 128 - 1)
    losses = DenseCRFLoss(1.0, 40.0, 6.0, 1.0), ConstrainToBoundaryLoss(CRFParams(4, 6, 40, 2, 1))
    (losses[0](image, scores.softmax(1)) + losses[1](image, scores)).backward()
    return [p.grad for p in net.parameters()]


def of_one_process(rank, store, out):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.save(gradients(DistributedDataParallel, slice(rank, rank + 1)), f"{out}/{rank}")
    distributed.destroy_process_group()


def test_gradients_are_those_of_the_whole_batch(tmp_path: Path):
    """Both losses are means over the images."""
    store = (tmp_path / "store").as_uri()
    multiprocessing.spawn(of_one_process, (store, str(tmp_path)), nprocs=2)
    expected = gradients(lambda net: net, slice(None))
    for rank in range(2):
        found = torch.load(tmp_path / str(rank), weights_only=True)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        assert all(gradient.abs().max() > 0 for gradient in found)
