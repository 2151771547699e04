"""DeepLab v2 on ResNet-101.

"DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs", https://arxiv.org/abs/1606.00915, sections 3.1, 3.2 and 4.1.2; ResNet-101 is that
of https://arxiv.org/abs/1512.03385 in its authors' Caffe form.

What differs from ResNet-101, as in the authors' net definition: res4 and res5 have stride 1, and
every one of their 3 x 3 convolutions has rate 2 and 4 (torchvision's `replace_stride_with_dilation`
leaves the first of each stage at the rate before); batch normalisation is frozen; the classifier
is a convolution on res5c.
What differs from torchvision's ResNet-101: the stride of res3 is in its first 1 x 1 convolution,
there in the 3 x 3 one (`stride_in_1x1=False`), and pool1 rounds up. Weights load either way without
a complaint and give other features, so the switch is saved with them.
The paper's multi-scale input is `scales=(1.0, 0.75, 0.5)` of `create_model`, for this and any net.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from ..layers import ASPP, AtrousConv2d, FrozenBatchNorm2d
from ..layers.folded import FoldedConv
from .base import DeepLab

# name, bottlenecks, channels inside them, stride of the first, rate of all
_STAGES = (
    ("res2", 3, 64, 1, 1),
    ("res3", 4, 128, 2, 1),
    ("res4", 23, 256, 1, 2),
    ("res5", 3, 512, 1, 4),
)
_EXPANSION = 4


class ConvBN(nn.Module):
    """Convolution without bias, then frozen batch normalisation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, rate: int = 1
    ) -> None:
        super().__init__()
        self.conv = AtrousConv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding="same",
            rate=rate,
            bias=False,
        )
        self.bn = FrozenBatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride), rounded up."""
        y: torch.Tensor = self.bn(self.conv(x))
        return y

    def folded(
        self, dtype: torch.dtype | None, memory_format: torch.memory_format
    ) -> FoldedConv | None:
        """Both layers as one, for inference; None where somebody put others in their place."""
        if type(self.conv) is not AtrousConv2d or type(self.bn) is not FrozenBatchNorm2d:
            return None
        return FoldedConv(self.conv, self.bn, dtype, memory_format)


class Bottleneck(nn.Module):
    """relu(branch1(x) + branch2c(relu(branch2b(relu(branch2a(x)))))), in Caffe's names.

    `branch1` is a projection in the first block of a stage and the identity in the others.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int,
        rate: int,
        project: bool,
        stride_in_1x1: bool,
    ) -> None:
        super().__init__()
        out_channels = _EXPANSION * width
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.branch1 = ConvBN(in_channels, out_channels, 1, stride) if project else nn.Identity()
        self.branch2a = ConvBN(in_channels, width, 1, first)
        self.branch2b = ConvBN(width, width, 3, second, rate)
        self.branch2c = ConvBN(width, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, 4 width, H / stride, W / stride), rounded up."""
        y = nn.functional.relu(self.branch2a(x), inplace=True)
        y = nn.functional.relu(self.branch2b(y), inplace=True)
        return nn.functional.relu(self.branch2c(y) + self.branch1(x), inplace=True)

    def folded(
        self, dtype: torch.dtype | None, memory_format: torch.memory_format
    ) -> FoldedBottleneck | None:
        """For inference; None where somebody put other layers in the place of its own."""
        first: nn.Module | None = self.branch1
        branches = []
        for branch in (self.branch2a, self.branch2b, self.branch2c):
            made = branch.folded(dtype, memory_format) if type(branch) is ConvBN else None
            if made is None:
                return None
            branches.append(made)
        if type(first) is ConvBN:
            first = first.folded(dtype, memory_format)
        elif type(first) is not nn.Identity:
            return None
        return None if first is None else FoldedBottleneck(first, *branches)


class FoldedBottleneck(nn.Module):
    """A `Bottleneck` for inference: batch normalisation folded, ReLU and sum in the same pass."""

    def __init__(self, branch1: nn.Module, *branch2: FoldedConv) -> None:
        super().__init__()
        self.branch1 = branch1
        self.branch2a, self.branch2b, self.branch2c = branch2
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, 4 width, H / stride, W / stride), rounded up."""
        y = self.branch2b(self.branch2a(x, relu=True), relu=True)
        result: torch.Tensor = self.branch2c(y, self.branch1(x), relu=True)
        return result


class DeepLabResNet101(DeepLab):
    """ResNet-101 with a convolution or ASPP as its classifier `fc1`.

    Layers are named as in Caffe: `conv1`, `res2` ... `res5` of `block1`, `block2`, ... (Caffe's
    res4a, res4b1, ... are block1, block2, ...) with `branch1`, `branch2a`, `branch2b`, `branch2c`,
    each a `conv` and a `bn`; `fc1`, or with several rates `fc1.c0`, `fc1.c1`, ...

    Args:
        num_classes: L.
        name: name in the registry.
        kernel_size: of the classifier.
        rates: of the classifier: several make it ASPP.
        stride_in_1x1: whether res3 strides in its first 1 x 1 convolution, as Caffe's weights
            expect it; False for weights of torchvision.

    Shapes:
        input (B, 3, H, W) -> scores (B, L, h, w); H = 8 m + 1 gives h = m + 1. Elsewhere pool1
        rounds up and the convolutions down, as in Caffe: 320 to 326 give 41, 327 gives 42.

    Raises:
        TypeError, ValueError: `stride_in_1x1` is no bool; or as `AtrousConv2d`, for `fc1`.
    """

    res2: nn.Sequential
    res3: nn.Sequential
    res4: nn.Sequential
    res5: nn.Sequential
    fc1: AtrousConv2d | ASPP

    def __init__(
        self,
        num_classes: int,
        *,
        name: str,
        kernel_size: int,
        rates: Sequence[int],
        stride_in_1x1: bool = True,
    ) -> None:
        if not isinstance(stride_in_1x1, bool):  # it is compared with that of weights files
            raise TypeError(f"stride_in_1x1: expected True or False, got {stride_in_1x1!r}")
        super().__init__(name, num_classes, options={"stride_in_1x1": stride_in_1x1})
        self.conv1 = ConvBN(3, 64, 7, stride=2)
        self.pool1 = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        channels = 64
        for stage, blocks, width, stride, rate in _STAGES:
            bottlenecks: OrderedDict[str, nn.Module] = OrderedDict()
            for i in range(blocks):
                bottlenecks[f"block{i + 1}"] = Bottleneck(
                    channels,
                    width,
                    stride=stride if i == 0 else 1,
                    rate=rate,
                    project=i == 0,
                    stride_in_1x1=stride_in_1x1,
                )
                channels = _EXPANSION * width
            self.add_module(stage, nn.Sequential(bottlenecks))
        if len(rates) == 1:
            self.fc1 = AtrousConv2d(
                channels, num_classes, kernel_size, padding="same", rate=rates[0]
            )
        else:
            self.fc1 = ASPP(channels, num_classes, rates, kernel_size)

    def classifiers(self) -> list[AtrousConv2d | nn.Conv2d]:
        """`fc1`, or its branches where it is ASPP."""
        return [*self.fc1.branches()] if isinstance(self.fc1, ASPP) else [self.fc1]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """As of `DeepLab`, with the last convolution of each bottleneck scaled by 33^-1/2."""
        super().reset_parameters(generator)
        # Frozen batch normalisation doesn't hold the sum of 33 branches in range: each would
        # double the variance of the features
        blocks = [block for stage, *_ in _STAGES for block in getattr(self, stage)]
        with torch.no_grad():
            for block in blocks:
                block.branch2c.conv.weight.mul_(len(blocks) ** -0.5)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Input (B, 3, H, W) -> res5c (B, 2048, h, w)."""
        x = nn.functional.relu(self.conv1(x), inplace=True)
        y: torch.Tensor = self.res5(self.res4(self.res3(self.res2(self.pool1(x)))))
        return y

    def score_map(self, x: torch.Tensor) -> torch.Tensor:
        """Input (B, 3, H, W) -> scores (B, L, h, w) of `fc1`."""
        scores: torch.Tensor = self.fc1(self.features(x))
        return scores
