"""Atrous spatial pyramid pooling (DeepLab v2, section 3.2, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import nn

from .atrous import AtrousConv2d


class ASPP(nn.Module):
    """Parallel atrous convolutions at several rates over one input, summed.

    This is the head of the authors' ResNet-101: each branch goes straight from the features to
    the classes, with a bias and without a ReLU. Branches are the submodules `c0`, `c1`, ..., as
    the authors' `fc1_<set>_c0` ... are named. Weights are drawn from N(0, 0.01), biases are 0, as
    in the authors' net definition.

    Args:
        in_channels: channels C of the features.
        out_channels: classes N.
        rates: rate of each branch; (6, 12, 18, 24) is the paper's ASPP-L.
        kernel_size: filter size of every branch; padding keeps the map's size.
        algorithm: as in `AtrousConv2d`.
        device, dtype: of the parameters.

    Shapes:
        input (B, C, h, w) -> (B, N, h, w).

    Raises:
        ValueError: `rates` is empty; or as `AtrousConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int] = (6, 12, 18, 24),
        kernel_size: int = 3,
        algorithm: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not rates:
            raise ValueError("rates: expected at least one rate, got none")
        for i, rate in enumerate(rates):
            branch = AtrousConv2d(
                in_channels,
                out_channels,
                kernel_size,
                padding="same",
                rate=rate,
                algorithm=algorithm,
                device=device,
                dtype=dtype,
            )
            self.add_module(f"c{i}", branch)
        self.rates = tuple(rates)
        self.reset_parameters()

    def branches(self) -> list[AtrousConv2d]:
        """The convolutions in the order of `rates`."""
        return [getattr(self, f"c{i}") for i in range(len(self.rates))]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws the weights from N(0, 0.01) and sets the biases to 0."""
        for branch in self.branches():
            if branch.weight.is_meta:
                continue  # nothing to draw, and torch would import its compiler for it (1.5 s)
            nn.init.normal_(branch.weight, std=0.01, generator=generator)
            nn.init.zeros_(branch.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return reduce(torch.add, (branch(input) for branch in self.branches()))
