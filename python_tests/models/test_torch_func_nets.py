"""Nets and layers under `torch.func`: gradients of each sample, ensembles, Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vjp

from deeplab_native.layers import (
    ASPP,
    AtrousAvgPool2d,
    AtrousConv2d,
    AtrousMaxPool2d,
    FrozenBatchNorm2d,
)
from deeplab_native.models import Predictor, create_model, score_map_loss
from python_tests.models.small_net import SmallNet

pytestmark = pytest.mark.unsanitized  # kernels that other tests run, too


SAMPLES = 3
close = torch.testing.assert_close


class LikeResNet(nn.Module):
    """Its parts on a map of a few pixels: ASPP takes its fused op in training, on any device."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = AtrousConv2d(3, 6, 3, padding="same", rate=2, algorithm="im2col")
        self.bn = FrozenBatchNorm2d(6)
        self.pools = nn.Sequential(
            AtrousMaxPool2d(3, 1, 1, rate=2), AtrousAvgPool2d(3, 1, 1, rate=2)
        )
        self.head = ASPP(6, 4, rates=(1, 2))
        for tensor in (*self.bn.parameters(), *self.bn.buffers()):
            tensor.data.uniform_(0.5, 1.5)
        for branch in self.head.branches():
            nn.init.normal_(branch.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pools(self.bn(self.conv(x)).relu()))


def samples(device, size=(7, 9), channels=3) -> torch.Tensor:
    return torch.randn(SAMPLES, channels, *size, dtype=torch.float64, device=device)


def loss_of(net: nn.Module):
    def loss(parameters, buffers, image, target):
        scores = functional_call(net, (parameters, buffers), (image[None],))
        return nn.functional.cross_entropy(scores, target[None])

    return loss


def check_gradients_of_samples(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    trained = {n: p.detach() for n, p in net.named_parameters() if p.requires_grad}
    rest = {n: p.detach() for n, p in net.named_parameters() if not p.requires_grad}
    rest |= dict(net.named_buffers())
    per_sample = torch.vmap(grad(loss_of(net)), (None, None, 0, 0))
    found = per_sample(trained, rest, images, labels)
    assert set(found) == set(trained)
    for i in range(SAMPLES):
        net.zero_grad()
        nn.functional.cross_entropy(net(images[i : i + 1]), labels[i : i + 1]).backward()
        for name, parameter in net.named_parameters():
            if parameter.requires_grad:
                close(found[name][i], parameter.grad)


def test_gradients_of_samples(device):
    net = LikeResNet().double().to(device)
    labels = torch.randint(4, (SAMPLES, 7, 9), device=device)
    check_gradients_of_samples(net, samples(device), labels)


def test_gradients_of_samples_by_a_net():
    net = create_model("deeplab_mobilenetv2_aspp", 4, scales=[1.0]).double()
    images = samples("cpu", (9, 9))
    check_gradients_of_samples(net, images, torch.randint(4, (SAMPLES, 2, 2)))


def test_an_ensemble(device):
    """Samples of all parameters: convolutions are a loop, or torch's in groups."""
    nets = [LikeResNet().double().to(device) for _ in range(SAMPLES)]
    state, image = stack_module_state(nets), samples(device)[:1]

    def call(parameters, buffers, image):
        return functional_call(nets[0], (parameters, buffers), (image,))

    with torch.no_grad():
        found = torch.vmap(call, (0, 0, None))(*state, image)
        close(found, torch.stack([net(image) for net in nets]))


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # of torch's own jvp
def test_jacobians(device):
    net, image = LikeResNet().double().to(device), samples(device, (4, 3))[:1]
    net.requires_grad_(False)

    def some(x):
        return net(x)[0, :, 1, 1]

    close(jacrev(some)(image), torch.autograd.functional.jacobian(some, image))
    if device.type == "cpu":  # torch's batch normalisation has its forward mode
        along = torch.randn_like(image)
        _, tangent = jvp(some, (image,), (along,))
        (transposed,) = vjp(some, image)[1](torch.ones_like(tangent))
        close(tangent.sum(), (transposed * along).sum())


def test_a_loss_of_every_sample():
    """The loss of training takes score maps as they are within vmap."""
    scores, labels = samples("cpu", (4, 5), 3), torch.randint(3, (SAMPLES, 25, 33))

    def loss(scores, labels):
        return score_map_loss(scores[None], labels[None])

    found = torch.vmap(grad(loss))(scores, labels)
    close(found, torch.stack([grad(loss)(s, t) for s, t in zip(scores, labels, strict=True)]))


def test_a_predictor_is_no_function():
    predictor = Predictor(SmallNet().eval())
    images = torch.zeros(2, 1, 3, 9, 9, dtype=torch.uint8)
    with pytest.raises(
        RuntimeError, match=r"predict, Predictor: keeps state.*use the model itself"
    ):
        torch.vmap(lambda image: predictor(image).labels)(images)
