"""The nets from torch's functions and tables alone, on the state dicts of ours."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

# The head of each net: taps of fc6 (or fc1), filters of fc6 and fc7, rates, pool5a, from the
# authors' net definitions and the paper's Table 1
VGG_HEADS = {
    "7x7": (7, 4096, [4], False),
    "4x4": (4, 4096, [4], False),
    "4x4_r8": (4, 4096, [8], False),
    "largefov": (3, 1024, [12], True),
    "aspp_s": (3, 1024, [2, 4, 8, 12], False),
    "aspp_l": (3, 1024, [6, 12, 18, 24], False),
}
RESNET_HEADS = {"": (1, [1]), "_largefov": (3, [12]), "_aspp": (3, [6, 12, 18, 24])}

VGG_TRUNK = {  # channels of each convolution, rate, stride of the pool
    1: ([64, 64], 1, 2),
    2: ([128, 128], 1, 2),
    3: ([256, 256, 256], 1, 2),
    4: ([512, 512, 512], 1, 1),
    5: ([512, 512, 512], 2, 1),
}
RESNET_STAGES = {2: (3, 64, 1, 1), 3: (4, 128, 2, 1), 4: (23, 256, 1, 2), 5: (3, 512, 1, 4)}

# MobileNetV2: expansion, channels, stride in the original, stride and rate at output stride 8
MOBILENET_BLOCKS = [
    (1, 16, 1, 1, 1),
    *[(6, 24, 2, 2, 1), (6, 24, 1, 1, 1)],
    *[(6, 32, 2, 2, 1), (6, 32, 1, 1, 1), (6, 32, 1, 1, 1)],
    *[(6, 64, 2, 1, 1), (6, 64, 1, 1, 2), (6, 64, 1, 1, 2), (6, 64, 1, 1, 2)],
    *[(6, 96, 1, 1, 2), (6, 96, 1, 1, 2), (6, 96, 1, 1, 2)],
    *[(6, 160, 2, 1, 2), (6, 160, 1, 1, 4), (6, 160, 1, 1, 4)],
    (6, 320, 1, 1, 4),
]


def head_parameters(kind: str, channels: int, classes: int) -> int:
    """Weights and biases of fc6, fc7 and fc8 over `channels` features."""
    taps, filters, rates, _ = VGG_HEADS[kind]
    fc6 = taps * taps * channels * filters + filters
    return len(rates) * (fc6 + filters * filters + filters + filters * classes + classes)


def mobilenet_trunk_parameters() -> int:
    """Weights, and a bias a filter where batch normalisation was."""
    total, channels = 3 * 9 * 32 + 32, 32
    for expansion, width, *_ in MOBILENET_BLOCKS:
        inner = expansion * channels
        if expansion > 1:
            total += channels * inner + inner
        total += inner * 9 + inner + inner * width + width
        channels = width
    return total


def head(state: dict, x: torch.Tensor, kind: str) -> torch.Tensor:
    """VGG-16's head: every branch padded by hand so that the map keeps its size."""
    taps, _, rates, pool5a = VGG_HEADS[kind]
    if pool5a:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)
    total = torch.zeros(())
    for i, rate in enumerate(rates):
        branch = f"_{i + 1}" if len(rates) > 1 else ""
        w, b = (
            {k: state[f"{k}{branch}.{p}"] for k in ("fc6", "fc7", "fc8")}
            for p in ("weight", "bias")
        )
        before = rate * (taps - 1) // 2
        padded = F.pad(x, (before, rate * (taps - 1) - before) * 2)
        y = F.conv2d(padded, w["fc6"], b["fc6"], dilation=rate).relu()
        y = F.conv2d(y, w["fc7"], b["fc7"]).relu()
        total = total + F.conv2d(y, w["fc8"], b["fc8"])
    return total


def vgg_features(state: dict, x: torch.Tensor) -> torch.Tensor:
    for block, (channels, rate, stride) in VGG_TRUNK.items():
        for i, width in enumerate(channels, start=1):
            weight, bias = (state[f"conv{block}_{i}.{p}"] for p in ("weight", "bias"))
            assert weight.shape[0] == width
            x = F.conv2d(x, weight, bias, padding=rate, dilation=rate).relu()
        x = F.max_pool2d(x, 3, stride, padding=1, ceil_mode=True)
    return x


def resnet_features(state: dict, x: torch.Tensor, *, stride_in_1x1: bool) -> torch.Tensor:
    def conv_bn(y, key, **how):
        y = F.conv2d(y, state[f"{key}.conv.weight"], **how)
        mean, var, gamma, beta = (
            state[f"{key}.bn.{p}"][:, None, None]
            for p in ("running_mean", "running_var", "weight", "bias")
        )
        return gamma * (y - mean) / (var + 1e-5).sqrt() + beta

    x = conv_bn(x, "conv1", stride=2, padding=3).relu()
    x = F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True)
    for stage, (blocks, width, first, rate) in RESNET_STAGES.items():
        for i in range(1, blocks + 1):
            key, stride = f"res{stage}.block{i}", first if i == 1 else 1
            assert state[f"{key}.branch2b.conv.weight"].shape[0] == width
            at = (stride, 1) if stride_in_1x1 else (1, stride)
            y = conv_bn(x, f"{key}.branch2a", stride=at[0]).relu()
            y = conv_bn(y, f"{key}.branch2b", stride=at[1], padding=rate, dilation=rate).relu()
            y = conv_bn(y, f"{key}.branch2c")
            shortcut = conv_bn(x, f"{key}.branch1", stride=stride) if i == 1 else x
            x = (y + shortcut).relu()
    return x


def resnet_scores(state: dict, features: torch.Tensor, kind: str) -> torch.Tensor:
    taps, rates = RESNET_HEADS[kind]
    total = torch.zeros(())
    for i, rate in enumerate(rates):
        key = f"fc1.c{i}" if len(rates) > 1 else "fc1"
        weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
        padding = rate * (taps // 2)
        total = total + F.conv2d(features, weight, bias, padding=padding, dilation=rate)
    return total


def mobilenet_layers() -> list[tuple[str, tuple[int, ...]]]:
    """Name and weight shape of the trunk's convolutions, as the ImageNet archive has them."""
    layers, channels = [("conv", (32, 3, 3, 3))], 32
    for expansion, width, *_ in MOBILENET_BLOCKS:
        inner = expansion * channels
        layers += [("conv", (inner, channels, 1, 1))] * (expansion > 1)
        layers += [("dw", (inner, 1, 3, 3)), ("conv", (width, inner, 1, 1))]
        channels = width
    return [(f"{i:02d}_{kind}", shape) for i, (kind, shape) in enumerate(layers)]


def same(x: torch.Tensor, taps: int, stride: int, rate: int = 1) -> torch.Tensor:
    """TensorFlow's SAME: zeros for ceil(n / stride) outputs, an odd one at the end."""
    padding = []
    for n in reversed(x.shape[2:]):
        total = max((-(-n // stride) - 1) * stride + rate * (taps - 1) + 1 - n, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


def symmetric(x: torch.Tensor, taps: int, stride: int, rate: int = 1) -> torch.Tensor:
    """As many zeros on every side, whatever the size."""
    return F.pad(x, [rate * (taps // 2)] * 4)


def mobilenet_features(layers: list, x: torch.Tensor, *, dense: bool, pad=same) -> torch.Tensor:
    """The trunk from (weight, bias) in the order of the forward pass.

    As published at stride 32, or `dense`, at stride 8.
    """
    layers = iter(layers)

    def conv(y, stride=1, rate=1, groups=1):
        weight, bias = next(layers)
        y = pad(y, weight.shape[-1], stride, rate)
        return F.conv2d(y, weight, bias, stride, dilation=rate, groups=groups)

    x = conv(x, stride=2).clamp(0, 6)
    for expansion, width, stride, dense_stride, rate in MOBILENET_BLOCKS:
        y = conv(x).clamp(0, 6) if expansion > 1 else x
        stride, rate = (dense_stride, rate) if dense else (stride, 1)
        y = conv(conv(y, stride, rate, groups=y.shape[1]).clamp(0, 6))
        x = x + y if y.shape == x.shape else y
        assert x.shape[1] == width
    return x


def interpolate(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, *size), corners aligned: source = out (in - 1) / (out - 1)."""

    def matrix(n_in, n_out):
        weights = np.zeros((n_out, n_in), np.float32)
        for i in range(n_out):
            source = i * (n_in - 1) / max(n_out - 1, 1)
            low = min(int(source), n_in - 1)
            weights[i, low] += 1 - (source - low)
            weights[i, min(low + 1, n_in - 1)] += source - low
        return torch.from_numpy(weights)

    rows, columns = matrix(x.shape[2], size[0]), matrix(x.shape[3], size[1])
    return torch.einsum("yh,bchw,xw->bcyx", rows, x, columns)
