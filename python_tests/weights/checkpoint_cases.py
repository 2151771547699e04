"""Checkpoints of other projects as the tests write them: values under everybody's names, and
caffemodels in the wire format."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import torch
from torch.nn import functional as F

# Layers of ResNet-101 by (stage, block, branch); branches as deeplab-pytorch names them
BLOCKS = {2: (3, 64), 3: (4, 128), 4: (23, 256), 5: (3, 512)}
RATES = {2: 1, 3: 1, 4: 2, 5: 4}
BRANCHES = {"shortcut": "branch1", "reduce": "2a", "conv3x3": "2b", "increase": "2c"}


def resnet101_layers():
    """(stage, block, branch, in, out, kernel size) of every convolution but the first."""
    channels = 64
    for stage, (blocks, width) in BLOCKS.items():
        for block in range(1, blocks + 1):
            if block == 1:
                yield stage, block, "shortcut", channels, 4 * width, 1
            yield stage, block, "reduce", channels, width, 1
            yield stage, block, "conv3x3", width, width, 3
            yield stage, block, "increase", width, 4 * width, 1
            channels = 4 * width


def resnet101_values(num_classes: int, seed: int = 0) -> dict:
    """Random weights in a range that 33 blocks keep: "stem" or (stage, block, branch) -> conv,
    gamma, beta, mean, var; ("aspp", i) -> weight, bias."""
    g = torch.Generator().manual_seed(seed)

    def conv_bn(c_in, c_out, k, gain=1.0):
        weight = torch.randn(c_out, c_in, k, k, generator=g) * (2 / (c_in * k * k)) ** 0.5
        gamma, var = torch.rand(2, c_out, generator=g) + 0.5
        beta, mean = torch.randn(2, c_out, generator=g) * 0.1
        return weight, gamma * gain, beta, mean, var

    values: dict = {"stem": conv_bn(3, 64, 7)}
    for stage, block, branch, c_in, c_out, k in resnet101_layers():
        gain = 0.2 if branch == "increase" else 1.0
        values[stage, block, branch] = conv_bn(c_in, c_out, k, gain)
    for i in range(4):
        weight = torch.randn(num_classes, 2048, 3, 3, generator=g) * 0.01
        values["aspp", i] = (weight, torch.randn(num_classes, generator=g))
    return values


def constants(values: dict) -> dict:
    """Another constant for every tensor; they take no room in a file of `torch.save`."""
    numbers = iter(range(1, 1000))
    return {
        layer: tuple(torch.tensor([float(next(numbers))]).expand(t.shape) for t in tensors)
        for layer, tensors in values.items()
    }


def named(values: dict, conv_bn, aspp: str, *, tracked: bool = True) -> dict[str, torch.Tensor]:
    """A state dict. conv_bn(layer) -> names of convolution and batch normalisation."""
    state = {}
    for layer, tensors in values.items():
        if layer[0] == "aspp":
            for p, tensor in zip(("weight", "bias"), tensors, strict=True):
                state[f"{aspp.format(layer[1])}.{p}"] = tensor
            continue
        conv, bn = conv_bn(layer)
        state[f"{conv}.weight"] = tensors[0]
        statistics = ("weight", "bias", "running_mean", "running_var")
        for p, tensor in zip(statistics, tensors[1:], strict=True):
            state[f"{bn}.{p}"] = tensor
        if tracked:
            state[f"{bn}.num_batches_tracked"] = torch.tensor(20000)
    return state


def deeplab_pytorch_names(layer) -> tuple[str, str]:
    if layer == "stem":
        return "layer1.conv1.conv", "layer1.conv1.bn"
    stage, block, branch = layer
    front = f"layer{stage}.block{block}.{branch}"
    return f"{front}.conv", f"{front}.bn"


def torchvision_names(layer) -> tuple[str, str]:
    if layer == "stem":
        return "conv1", "bn1"
    stage, block, branch = layer
    front = f"layer{stage - 1}.{block - 1}"
    if branch == "shortcut":
        return f"{front}.downsample.0", f"{front}.downsample.1"
    number = ("reduce", "conv3x3", "increase").index(branch) + 1
    return f"{front}.conv{number}", f"{front}.bn{number}"


def caffe_name(layer) -> str:
    """res4b5_branch2a and the like, without "res"; of blocks that have numbers in stages 3, 4."""
    stage, block, branch = layer
    letter = "abc"[block - 1] if stage in (2, 5) else "a" if block == 1 else f"b{block - 1}"
    return f"{stage}{letter}_{'branch1' if branch == 'shortcut' else 'branch' + BRANCHES[branch]}"


def resnet101_forward(values: dict, x: torch.Tensor, *, stride_in_1x1: bool) -> torch.Tensor:
    """Scores (B, L, h, w) of DeepLab v2 on ResNet-101, with torch's functions only."""

    def conv_bn(x, layer, stride=1, rate=1):
        weight, gamma, beta, mean, var = values[layer]
        padding = rate * (weight.shape[-1] // 2)
        y = F.conv2d(x, weight, stride=stride, padding=padding, dilation=rate)
        return F.batch_norm(y, mean, var, gamma, beta, eps=1e-5)

    x = F.max_pool2d(conv_bn(x, "stem", 2).relu(), 3, 2, padding=1, ceil_mode=True)
    for stage, (blocks, _) in BLOCKS.items():
        for block in range(1, blocks + 1):
            stride = 2 if (stage, block) == (3, 1) else 1
            first, second = (stride, 1) if stride_in_1x1 else (1, stride)
            y = conv_bn(x, (stage, block, "reduce"), first).relu()
            y = conv_bn(y, (stage, block, "conv3x3"), second, RATES[stage]).relu()
            y = conv_bn(y, (stage, block, "increase"))
            x = (y + (conv_bn(x, (stage, block, "shortcut"), stride) if block == 1 else x)).relu()
    return sum(
        F.conv2d(x, *values["aspp", i], padding=rate, dilation=rate)
        for i, rate in enumerate((6, 12, 18, 24))
    )


# The wire format of caffemodels


def varint(value: int) -> bytes:
    groups = []
    while True:
        groups.append(value & 0x7F)
        value >>= 7
        if not value:
            return bytes(g | 0x80 for g in groups[:-1]) + bytes(groups[-1:])


def message(number: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def blob(
    array: np.ndarray, *, legacy: bool = False, double: bool = False, packed: bool = True
) -> bytes:
    """BlobProto. legacy: num, channels, height, width instead of a shape; double: double_data."""
    field, code, kind = (8, "<f8", 1) if double else (5, "<f4", 5)
    values = np.ascontiguousarray(array, code)
    if packed:
        data = message(field, values.tobytes())
    else:
        tag = varint(field << 3 | kind)
        data = b"".join(tag + value.tobytes() for value in values.ravel())
    if legacy:
        dims = (1,) * (4 - array.ndim) + array.shape
        return b"".join(number(i, n) for i, n in enumerate(dims, start=1)) + data
    dims = array.shape
    if packed:
        return message(7, message(1, b"".join(map(varint, dims)))) + data
    return message(7, b"".join(number(1, n) for n in dims)) + data


def layer(name: str, kind: str, arrays: Iterable[np.ndarray], **style: bool) -> bytes:
    """A layer of today's format, with fields that a reader steps over."""
    content = message(1, name) + message(2, kind) + message(3, "data") + message(4, name)
    content += message(6, b"\x0d" + struct.pack("<f", 1.0)) + number(10, 1)
    return message(100, content + b"".join(message(7, blob(a, **style)) for a in arrays))


def v1_layer(name: str, kind: int, arrays: Iterable[np.ndarray], **style: bool) -> bytes:
    content = message(2, "data") + message(3, name) + message(4, name) + number(5, kind)
    style.setdefault("legacy", True)
    return message(2, content + b"".join(message(6, blob(a, **style)) for a in arrays))
