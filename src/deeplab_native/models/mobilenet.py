"""DeepLab v2's heads on MobileNetV2, a small trunk for machines without a GPU.

The trunk is that of "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
https://arxiv.org/abs/1801.04381, Table 2, at width 1.0; the heads are those of VGG-16 in
https://arxiv.org/abs/1606.00915, section 3.2. This net is not in the DeepLab v2 paper.

What differs from MobileNetV2: the last two strides of 2 are 1 and the layers after them atrous, at
rate 2 and 4, so that the score map has stride 8 as in the paper's nets; or the last one alone is,
and the score map has stride 16, which costs a third. The trunk ends with the
last bottleneck (320 channels), before the 1 x 1 layer to 1280: so did its authors for segmentation
(section 6.3 there), because the wider map costs more (in fc6 four times as much) and scored about
the same. Batch normalisation is folded into the convolutions, which have a bias instead: frozen, as
DeepLab keeps it, it is nothing else.

Padding: public weights are trained with TensorFlow's SAME, whose zeros depend on the input. A layer
of stride 2 gets one on either side of an odd size, but only one at the end of an even size. Here it
is always one on either side. So sizes of 8 m + 1 (those that `predict` makes) are computed as SAME
does, and in every other size the score map's pixels still lie at 0, 8, 16, ... of the image, as in
the paper's nets; with SAME they would move by up to 7 pixels with the parity of the sizes.

`DeepLabMobileNetV2ASPP` has ResNet-101's head instead, convolutions straight from the features to
the classes: a tenth of the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .._integers import integer
from ..layers import ASPP, AtrousConv2d
from .base import DeepLab
from .heads import FullyConnectedHead
from .preprocessing import TENSORFLOW

# expansion, channels, blocks, stride of the first: Table 2
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM = 32


class InvertedResidual(nn.Module):
    """project(depthwise(expand(x))), plus x where shapes allow; `project` is linear.

    `expand` (1 x 1) is the identity at expansion 1; it and `depthwise` (3 x 3) end with ReLU6.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, expansion: int, stride: int, rate: int
    ) -> None:
        super().__init__()
        width = expansion * in_channels
        self.expand = nn.Conv2d(in_channels, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = nn.Conv2d(
            width, width, 3, stride, padding=rate, dilation=rate, groups=width
        )
        self.project = nn.Conv2d(width, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride), rounded up."""
        y: torch.Tensor = x
        if isinstance(self.expand, nn.Conv2d):
            y = _relu6(self.expand(y))
        y = _relu6(self.depthwise(y))
        y = self.project(y)
        return x + y if self.residual else y


class DeepLabMobileNetV2(FullyConnectedHead):
    """MobileNetV2 with one head fc6-fc7-fc8 or several summed (ASPP).

    Layers: `conv1`; `block1` ... `block17`, each with `expand` (not in block1), `depthwise` and
    `project`; then `fc6`, `fc7`, `fc8`, or with several rates `fc6_1`, `fc7_1`, `fc8_1`, ...

    Its input format is RGB in -1..1 (`TENSORFLOW`), that of the public ImageNet weights; ReLU6
    would cut most of what the authors' 0..255 make.

    Args:
        num_classes: L.
        name: name in the registry.
        kernel_size: of fc6; the padding keeps the map's size.
        rates: rate of fc6, one a branch, in pixels of a score map of stride 8.
        pool5a: average pool 3 x 3 before fc6.
        filters: of fc6 and fc7; an option of `create_model`.
        output_stride: 8 or 16; an option of `create_model`. At 16 the rates of fc6 are halved, and
            the field of view stays. `set_output_stride` makes 8 of 16 after training.

    Shapes:
        input (B, 3, H, W) -> scores (B, L, h, w) with h = floor((H - 1) / output_stride) + 1.

    Raises:
        TypeError, ValueError: as `AtrousConv2d`, for fc6; `filters` or `output_stride` is none of
            those above.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        name: str,
        kernel_size: int,
        rates: Sequence[int],
        pool5a: bool = False,
        filters: int = 1024,
        output_stride: int = 8,
    ) -> None:
        filters = integer("filters", filters, least=1)
        options = {"filters": filters, "output_stride": output_stride}
        super().__init__(name, num_classes, preprocessing=TENSORFLOW, options=options)
        self.add_head(
            self.add_trunk(output_stride),
            filters=filters,
            kernel_size=kernel_size,
            rates=_at_stride(output_stride, rates),
            pool5a=pool5a,
        )

    def add_trunk(self, output_stride: int) -> int:
        """Adds `conv1` and the blocks, atrous from where their stride would pass `output_stride`.

        Returns the channels of the last. Raises TypeError or ValueError for another stride.
        """
        if integer("output_stride", output_stride, least=1) not in (8, 16):
            raise ValueError(f"output_stride: expected 8 or 16, got {output_stride}")
        self.output_stride = output_stride
        self.conv1 = nn.Conv2d(3, _STEM, 3, stride=2, padding=1)
        channels, stride_so_far, rate = _STEM, 2, 1
        self._blocks: list[str] = []
        for expansion, width, blocks, first_stride in _STAGES:
            for stride in (first_stride,) + (1,) * (blocks - 1):
                dense = stride * stride_so_far > output_stride
                block = InvertedResidual(
                    channels, width, expansion=expansion, stride=1 if dense else stride, rate=rate
                )
                # from the next block on: a filter that no longer strides sees the same pixels
                if dense:
                    rate *= stride
                else:
                    stride_so_far *= stride
                self._blocks.append(f"block{len(self._blocks) + 1}")
                self.add_module(self._blocks[-1], block)
                channels = width
        return channels

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """As of `DeepLab`, with the gain of each `project` made for a layer without ReLU."""
        super().reset_parameters(generator)
        # He's factor of 2 makes up for a ReLU, which `project` has not; and nothing but the
        # weights holds the sum over the residual blocks in range
        blocks = [getattr(self, name) for name in self._blocks]
        residuals = sum(block.residual for block in blocks)
        with torch.no_grad():
            for block in blocks:
                gain = 1 / (2 * residuals) if block.residual else 1 / 2
                block.project.weight.mul_(gain**0.5)

    def trunk(self) -> list[nn.Conv2d]:
        """The convolutions before the head, in the order of the forward pass: 51 of them."""
        blocks = [getattr(self, name) for name in self._blocks]
        layers = (layer for block in blocks for layer in block.children())
        return [self.conv1, *(layer for layer in layers if isinstance(layer, nn.Conv2d))]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Input (B, 3, H, W) -> the last bottleneck (B, 320, h, w)."""
        x = _relu6(self.conv1(x))
        for name in self._blocks:
            x = getattr(self, name)(x)
        return x


class DeepLabMobileNetV2ASPP(DeepLabMobileNetV2):
    """MobileNetV2 with ASPP as the authors' ResNet-101 has it, as `fc1`: no fc6 and fc7.

    Args:
        num_classes: L.
        name: name in the registry.
        kernel_size: of the branches.
        rates: of the branches, in pixels of a score map of stride 8.
        output_stride: 8 or 16, as of `DeepLabMobileNetV2`.

    Shapes:
        input (B, 3, H, W) -> scores (B, L, h, w) with h = floor((H - 1) / output_stride) + 1.

    Raises:
        TypeError, ValueError: another `output_stride`; or as `ASPP`.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        name: str,
        kernel_size: int,
        rates: Sequence[int],
        output_stride: int = 8,
    ) -> None:
        options = {"output_stride": output_stride}
        # not those of the class above: it would add its own head
        DeepLab.__init__(self, name, num_classes, preprocessing=TENSORFLOW, options=options)
        channels = self.add_trunk(output_stride)
        self.fc1 = ASPP(channels, num_classes, _at_stride(output_stride, rates), kernel_size)

    def classifiers(self) -> list[AtrousConv2d | nn.Conv2d]:
        """The branches of `fc1`."""
        return list(self.fc1.branches())

    def score_map(self, x: torch.Tensor) -> torch.Tensor:
        """Input (B, 3, H, W) -> scores (B, L, h, w) of `fc1`."""
        scores: torch.Tensor = self.fc1(self.features(x))
        return scores


def _relu6(x: torch.Tensor) -> torch.Tensor:
    """In place where no gradient is wanted; else autograd would copy what it needs of it first."""
    return nn.functional.relu6(x, inplace=not torch.is_grad_enabled())


def _at_stride(output_stride: int, rates: Sequence[int]) -> list[int]:
    """Rates given for stride 8, for the same field of view; those of the paper are all even."""
    return [rate * 8 // output_stride for rate in rates]
