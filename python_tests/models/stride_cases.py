"""What the tests of `set_output_stride` share: nets, and the comparison with the original."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from deeplab_native import set_output_stride


def scores(model, x, *more):
    with torch.no_grad():
        return model.eval()(x, *more)


def check_denser(model, own, asked, size=(65, 81), x=None):
    """The net at `asked`, sampled every (own / asked)-th pixel, is the net at `own`."""
    inputs = None if x is None else (x,)
    x = torch.randn(2, 3, *size) if x is None else x
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    expected = scores(model, x)
    assert set_output_stride(model, asked, inputs=inputs) is model
    dense = scores(model, x)
    k = own // asked
    if k > 1 and expected.shape[-1] > 1:
        assert dense.shape[-1] > expected.shape[-1]
    sampled = dense[:, :, ::k, ::k]
    atol = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(sampled, expected, rtol=0, atol=atol)
    assert dense.isfinite().all()
    state = model.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[key], weights[key]) for key in weights)
    return dense


class Block(nn.Module):
    """A strided 3 x 3 convolution beside a strided 1 x 1 one, as ResNets begin their stages."""

    def __init__(self, channels, out, stride):
        super().__init__()
        # registered last and used first: the order of modules says nothing
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(channels, out, 1, stride)

    def forward(self, x):
        y = self.conv2(functional.relu(self.bn(self.conv1(x)), inplace=True))
        y += self.shortcut(x)
        return functional.relu(y, inplace=True)


def resnet():
    return nn.Sequential(
        nn.Conv2d(3, 4, 7, 2, padding=3),
        nn.MaxPool2d(3, 2, padding=1),
        Block(4, 6, 1),
        Block(6, 8, 2),
        Block(8, 8, 2),
        Block(8, 8, 2),
        nn.Conv2d(8, 5, 1),
    )


class FunctionalPools(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, padding=1)
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        return self.last(functional.max_pool2d(self.conv(x), 2))


STRIDED = (nn.Conv2d(3, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 3, 2, padding=1))
