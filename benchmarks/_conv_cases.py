"""The layers of DeepLab v2 and their inputs, as bench_conv.py times them."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from functools import partial

import torch

ROTATED_BYTES = 128 * 2**20  # of maps: more than the caches of any GPU hold


@dataclass(frozen=True)
class Layer:
    """A 3 x 3 convolution, stride 1, as much padding as rate."""

    name: str
    channels: int
    filters: int
    rate: int


@dataclass(frozen=True)
class Case:
    """A layer on one kind of input."""

    layer: Layer
    size: int
    batch: int
    dtype: str  # tfloat32: float32 tensors, multiplied with 10 bits of mantissa
    layout: str
    device: str = "cuda"

    def tensors(self, requires_grad: bool) -> list[tuple[torch.Tensor, ...]]:
        """(input, weight, bias): one weight and bias, as many inputs as a benchmark rotates."""
        dtype = getattr(torch, self.dtype.replace("tfloat", "float"))
        new = partial(torch.randn, dtype=dtype, device=self.device)
        shape = self.batch, self.layer.channels, self.size, self.size
        count = 1
        if self.device != "cpu":
            count = max(2, -(-ROTATED_BYTES // (torch.Size(shape).numel() * dtype.itemsize)))
        layout = torch.channels_last if self.layout == "channels_last" else torch.contiguous_format
        inputs = [new(shape).contiguous(memory_format=layout) for _ in range(count)]
        weight = new(self.layer.filters, self.layer.channels, 3, 3).mul_(0.01)
        leaves = [weight.contiguous(memory_format=layout), new(self.layer.filters)]
        for tensor in (*inputs, *leaves):
            tensor.requires_grad_(requires_grad)
        return [(input, *leaves) for input in inputs]


LAYERS = [
    Layer("VGG LargeFOV fc6", 512, 1024, 12),
    *(Layer(f"VGG ASPP-S fc6 r={r}", 512, 1024, r) for r in (2, 4, 8, 12)),
    *(Layer(f"VGG ASPP-L fc6 r={r}", 512, 1024, r) for r in (6, 12, 18, 24)),
    *(Layer(f"ResNet ASPP r={r}", 2048, 21, r) for r in (6, 12, 18, 24)),
    Layer("ResNet res4", 256, 256, 2),
    Layer("ResNet res5", 512, 512, 4),
]
QUICK_LAYERS = ("VGG LargeFOV fc6", "ResNet ASPP r=12", "ResNet res4")


def cases(args: argparse.Namespace) -> list[Case]:
    layers = [layer for layer in LAYERS if args.layers in layer.name]
    if args.quick:
        layers = [layer for layer in layers if layer.name in QUICK_LAYERS]
    if args.device == "cuda":  # layers of two nets may be the same
        layers = list({(x.channels, x.filters, x.rate): x for x in reversed(layers)}.values())[::-1]
    found = [
        Case(layer, size, batch, dtype, layout, args.device)
        for size, dtype, layout, batch, layer in itertools.product(
            args.size, args.dtype, args.layout, args.batch, layers
        )
        if not (dtype == "tfloat32" and args.device == "cpu")
    ]
    return found if args.device == "cpu" else sorted(found, key=expected_last)


def expected_last(case: Case) -> bool:
    """Whether cuDNN is expected to be fastest; else on an H200 a native algorithm was, in bf16."""
    layer = case.layer
    far = layer.filters >= 512 and layer.rate >= 12 and case.batch <= 2
    few = layer.filters < 64 and layer.rate <= 6 and case.batch >= 4
    return not (far or few)
