"""DeepLab v2 on VGG-16.

"DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs", https://arxiv.org/abs/1606.00915, sections 3.1 and 3.2; VGG-16 is that of
https://arxiv.org/abs/1409.1556.

What differs from VGG-16, as in the authors' net definitions: pools are 3 x 3 with padding 1; the
last two have stride 1, so block 5 has rate 2 and the score map stride 8; fc6, fc7 and fc8 are
convolutions, fc6 atrous and with 1024 filters of 3 x 3 taps.
What differs from the paper: of the variants with one head, only 3 x 3 at rate 12 is here; fc6 of
7 x 7 or 4 x 4 taps goes with 4096 filters. Even input sizes follow Caffe, whose pools round up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import nn

from ..layers import AtrousConv2d
from .base import DeepLab

# channels, number of 3 x 3 convolutions, their rate, stride of the pool after them
_BLOCKS = ((64, 2, 1, 2), (128, 2, 1, 2), (256, 3, 1, 2), (512, 3, 1, 1), (512, 3, 2, 1))
_FEATURES = 1024  # filters of fc6 and fc7 (section 4.1, "3 x 3, 12")


class DeepLabVGG16(DeepLab):
    """VGG-16 with one head fc6-fc7-fc8 (LargeFOV) or several summed (ASPP).

    Layers are named as in Caffe: `conv1_1` ... `conv5_3`, then `fc6`, `fc7`, `fc8`, or with
    several rates `fc6_1`, `fc7_1`, `fc8_1`, `fc6_2`, ...

    Args:
        num_classes: L.
        name: name in the registry.
        kernel_size: of fc6; 3 is the only one.
        rates: rate of fc6, one a branch: (12,) is LargeFOV, (6, 12, 18, 24) ASPP-L and
            (2, 4, 8, 12) ASPP-S.
        pool5a: average pool 3 x 3 before fc6; LargeFOV has it, ASPP has not.

    Shapes:
        input (B, 3, H, W) -> scores (B, L, h, w) with h = ceil((H - 1) / 8) + 1.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        name: str,
        kernel_size: int,
        rates: Sequence[int],
        pool5a: bool = False,
    ) -> None:
        super().__init__(name, num_classes)
        if kernel_size != 3:
            raise ValueError(
                f"kernel_size: expected 3, as fc6 has with {_FEATURES} filters (7 x 7 and 4 x 4 "
                f"go with 4096), got {kernel_size!r}"
            )
        channels = 3
        for block, (width, convolutions, rate, stride) in enumerate(_BLOCKS, start=1):
            for i in range(1, convolutions + 1):
                if rate == 1:
                    conv = nn.Conv2d(channels, width, 3, padding=1)
                else:
                    conv = AtrousConv2d(channels, width, 3, padding="same", rate=rate)
                self.add_module(f"conv{block}_{i}", conv)
                channels = width
            # modules, so that `set_output_stride` finds them also where `features` is called
            self.add_module(f"pool{block}", nn.MaxPool2d(3, stride, padding=1, ceil_mode=True))
        # Caffe divides by 9 at the border as well, hence with the padding counted
        self.pool5a = nn.AvgPool2d(3, stride=1, padding=1) if pool5a else None
        self._branches = [""] if len(rates) == 1 else [f"_{i + 1}" for i in range(len(rates))]
        for branch, rate in zip(self._branches, rates, strict=True):
            fc6 = AtrousConv2d(channels, _FEATURES, kernel_size, padding="same", rate=rate)
            self.add_module(f"fc6{branch}", fc6)
            self.add_module(f"fc7{branch}", nn.Conv2d(_FEATURES, _FEATURES, 1))
            self.add_module(f"fc8{branch}", nn.Conv2d(_FEATURES, self.num_classes, 1))
        self.dropout = nn.Dropout(0.5)

    def classifiers(self) -> list[AtrousConv2d | nn.Conv2d]:
        return [getattr(self, f"fc8{branch}") for branch in self._branches]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Input (B, 3, H, W) -> pool5 (B, 512, h, w)."""
        for block, (_, convolutions, _, _) in enumerate(_BLOCKS, start=1):
            for i in range(1, convolutions + 1):
                x = nn.functional.relu(getattr(self, f"conv{block}_{i}")(x), inplace=True)
            x = getattr(self, f"pool{block}")(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pool5 = self.features(x)
        if self.pool5a is not None:
            pool5 = self.pool5a(pool5)
        return reduce(torch.add, (self._scores(pool5, branch) for branch in self._branches))

    def _scores(self, pool5: torch.Tensor, branch: str) -> torch.Tensor:
        x = pool5
        for layer in ("fc6", "fc7"):
            x = self.dropout(nn.functional.relu(getattr(self, layer + branch)(x), inplace=True))
        return getattr(self, "fc8" + branch)(x)
