"""The head that the paper puts on VGG-16: fc6, fc7 and fc8 as convolutions, once or in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import nn

from ..layers import AtrousConv2d
from .base import DeepLab


class FullyConnectedHead(DeepLab):
    """A net whose score map is fc8(fc7(fc6(features))), or the sum over several of them (ASPP).

    VGG-16's fully connected layers, as convolutions (DeepLab v2, sections 3.1, 3.2 and Figure 7):
    fc6 is atrous and fc7, fc8 are 1 x 1; ReLU and dropout 0.5 come after fc6 and fc7. A subclass
    gives `features` and calls `add_head` once its trunk is there, so that the state dict has the
    layers in the order of the forward pass.
    """

    def add_head(
        self,
        channels: int,
        *,
        filters: int,
        kernel_size: int,
        rates: Sequence[int],
        pool5a: bool,
    ) -> None:
        """Adds `fc6`, `fc7`, `fc8`, or with several rates `fc6_1`, `fc7_1`, `fc8_1`, `fc6_2`, ...

        `pool5a`, too, is a module, or None.

        Args:
            channels: C of the features.
            filters: of fc6 and of fc7.
            kernel_size: of fc6, in both directions; the padding keeps the map's size.
            rates: of fc6, one a branch.
            pool5a: average pool 3 x 3 before fc6.
        """
        # Caffe divides by 9 at the border as well, hence with the padding counted
        pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=True)
        self.pool5a = pool if pool5a else None
        self._branches = [""] if len(rates) == 1 else [f"_{i + 1}" for i in range(len(rates))]
        for branch, rate in zip(self._branches, rates, strict=True):
            fc6 = AtrousConv2d(channels, filters, kernel_size, padding="same", rate=rate)
            self.add_module(f"fc6{branch}", fc6)
            self.add_module(f"fc7{branch}", nn.Conv2d(filters, filters, 1))
            self.add_module(f"fc8{branch}", nn.Conv2d(filters, self.num_classes, 1))
        self.dropout = nn.Dropout(0.5)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Input (B, 3, H, W) -> what the head sees, (B, C, h, w)."""
        raise NotImplementedError

    def classifiers(self) -> list[AtrousConv2d | nn.Conv2d]:
        """`fc8` of every branch."""
        return [getattr(self, f"fc8{branch}") for branch in self._branches]

    def score_map(self, x: torch.Tensor) -> torch.Tensor:
        """Input (B, 3, H, W) -> the sum of the branches' scores, (B, L, h, w)."""
        features = self.features(x)
        if self.pool5a is not None:
            features = self.pool5a(features)
        return reduce(torch.add, (self._scores(features, branch) for branch in self._branches))

    def _scores(self, x: torch.Tensor, branch: str) -> torch.Tensor:
        for layer in ("fc6", "fc7"):
            x = self.dropout(nn.functional.relu(getattr(self, layer + branch)(x), inplace=True))
        scores: torch.Tensor = getattr(self, "fc8" + branch)(x)
        return scores
