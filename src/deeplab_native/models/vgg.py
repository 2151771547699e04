"""DeepLab v2 on VGG-16.

"DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs", https://arxiv.org/abs/1606.00915, sections 3.1, 3.2 and 4.1.1; VGG-16 is that of
https://arxiv.org/abs/1409.1556.

What differs from VGG-16, as in the authors' net definitions: pools are 3 x 3 with padding 1; the
last two have stride 1, so block 5 has rate 2 and the score map stride 8; fc6, fc7 and fc8 are
convolutions, fc6 atrous. It has 4096 filters of 7 x 7 or 4 x 4 taps, or 1024 of 3 x 3 (Table 1).
What differs from the authors' files: their 4 x 4 net at rate 4 has 2 x 2 pools before pool5, and
none is known for 7 x 7 and for 4 x 4 at rate 8. Here all have the trunk of LargeFOV and ASPP; only
LargeFOV has the average pool before fc6. Even input sizes follow Caffe, whose pools round up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..layers import AtrousConv2d
from .heads import FullyConnectedHead

# channels, number of 3 x 3 convolutions, their rate, stride of the pool after them
_BLOCKS = ((64, 2, 1, 2), (128, 2, 1, 2), (256, 3, 1, 2), (512, 3, 1, 1), (512, 3, 2, 1))


class DeepLabVGG16(FullyConnectedHead):
    """VGG-16 with one head fc6-fc7-fc8 or several summed (ASPP).

    Layers are named as in Caffe: `conv1_1` ... `conv5_3`, with `pool1` ... `pool5` after the
    blocks, then `fc6`, `fc7`, `fc8`, or with several rates `fc6_1`, `fc7_1`, `fc8_1`, `fc6_2`, ...

    Args:
        num_classes: L.
        name: name in the registry.
        kernel_size: of fc6: 7, 4 or 3 in the paper; the padding keeps the map's size.
        rates: rate of fc6, one a branch: (12,) is LargeFOV, (6, 12, 18, 24) ASPP-L and
            (2, 4, 8, 12) ASPP-S.
        filters: of fc6 and fc7: 1024 in the paper where fc6 is 3 x 3, else 4096.
        pool5a: average pool 3 x 3 before fc6; LargeFOV has it, the others have not.

    Shapes:
        input (B, 3, H, W) -> scores (B, L, h, w) with h = ceil((H - 1) / 8) + 1.

    Raises:
        TypeError, ValueError: as `AtrousConv2d`, for fc6.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        name: str,
        kernel_size: int,
        rates: Sequence[int],
        filters: int = 1024,
        pool5a: bool = False,
    ) -> None:
        super().__init__(name, num_classes)
        channels = 3
        for block, (width, convolutions, rate, stride) in enumerate(_BLOCKS, start=1):
            for i in range(1, convolutions + 1):
                conv: nn.Module
                if rate == 1:
                    conv = nn.Conv2d(channels, width, 3, padding=1)
                else:
                    conv = AtrousConv2d(channels, width, 3, padding="same", rate=rate)
                self.add_module(f"conv{block}_{i}", conv)
                channels = width
            self.add_module(f"pool{block}", nn.MaxPool2d(3, stride, padding=1, ceil_mode=True))
        self.add_head(
            channels, filters=filters, kernel_size=kernel_size, rates=rates, pool5a=pool5a
        )

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Input (B, 3, H, W) -> pool5 (B, 512, h, w)."""
        for block, (_, convolutions, _, _) in enumerate(_BLOCKS, start=1):
            for i in range(1, convolutions + 1):
                x = nn.functional.relu(getattr(self, f"conv{block}_{i}")(x), inplace=True)
            x = getattr(self, f"pool{block}")(x)
        return x
