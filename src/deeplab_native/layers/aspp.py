"""Atrous spatial pyramid pooling (DeepLab v2, section 3.2, Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import nn

from .._native import convolutions_use_tf32, has_kernels, products_use_tf32
from ..ops._aspp_offsets import MAX_TAPS
from ..ops._conv_checks import computing_dtype
from ..ops.aspp import aspp
from ..ops.atrous_im2col import FLOATS
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
        algorithm: "auto" computes all branches as one product where that was measured to be
            faster, see `aspp`, unless a branch has a hook or another algorithm was set on it. The
            others are those of `AtrousConv2d`, branch by branch.
        device, dtype: of the parameters.

    Shapes:
        input (B, C, h, w) -> (B, N, h, w).

    Raises:
        TypeError, ValueError: `rates` is no sequence, or empty; or as `AtrousConv2d`.
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
        if not isinstance(rates, Sequence) or isinstance(rates, str):
            raise TypeError(f"rates: expected a sequence of rates, got {rates!r}")
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
        self._size = len(rates)
        self.reset_parameters()

    @property
    def rates(self) -> tuple[int | tuple[int, int], ...]:
        """The rate of each branch as it is now: one integer, or two where they differ."""
        rates = (branch.rate for branch in self.branches())
        return tuple(rate[0] if rate[0] == rate[1] else rate for rate in rates)

    def branches(self) -> list[AtrousConv2d]:
        """The convolutions in the order of `rates`."""
        modules: Mapping[str, Any] = self._modules  # getattr of a module takes five times as long
        return [modules[f"c{i}"] for i in range(self._size)]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws the weights from N(0, 0.01) and sets the biases to 0."""
        for branch in self.branches():
            if branch.weight.is_meta:
                continue  # nothing to draw, and torch would import its compiler for it (1.5 s)
            nn.init.normal_(branch.weight, std=0.01, generator=generator)
            if branch.bias is not None:
                nn.init.zeros_(branch.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The sum of the branches: (B, C, h, w) -> (B, N, h, w), in the input's dtype."""
        branches = self.branches()
        if _are_plain(branches) and _is_faster_fused(input, branches):
            weights, biases = ([getattr(b, p) for b in branches] for p in ("weight", "bias"))
            return aspp(input, weights, biases, [branch.rate for branch in branches])
        scores: torch.Tensor = reduce(torch.add, (branch(input) for branch in branches))
        return scores


def _are_plain(branches: Sequence[nn.Module]) -> bool:
    """Whether the branches are as they were made: what a hook or another module does must show."""
    for branch in branches:
        if type(branch) is not AtrousConv2d or branch.algorithm != "auto":
            return False
        (kh, kw), (ph, pw), (rh, rw) = branch.kernel_size, branch.padding, branch.rate
        if kh % 2 == 0 or kw % 2 == 0 or branch.stride != (1, 1):
            return False
        if 2 * ph != rh * (kh - 1) or 2 * pw != rw * (kw - 1):
            return False
        if (
            branch._forward_hooks
            or branch._forward_pre_hooks
            or branch._backward_hooks
            or branch._backward_pre_hooks
        ):
            return False
    return True


def _is_faster_fused(input: torch.Tensor, branches: Sequence[AtrousConv2d]) -> bool:
    """Whether `aspp` takes the branches, and takes less time than one convolution after another.

    Measured with 1 and 2 threads on AVX-512 cores (torch 2.13, one map, rates 6, 12, 18, 24;
    benchmarks/results/aspp.json and NOTES.md), against four `conv2d` of a contiguous input.
    Inference in float32, as many times as fast with 2 threads: 21 filters of 2048 channels 1.2 to
    1.9 from 13 x 13 to 49 x 49, 2.2 at 65 x 65; of 1024 channels 1.07, of 512 0.91 at 41 x 41; 60
    filters of 2048 channels 0.92 at 41 x 41, 1.35 at 65 x 65. With 1 thread all of these gain more.
    Forward and backward, against the better layout: 2.1 at 41 x 41, 1.8 at 65 x 65. Other dtypes
    than float32 and float64 take a product of whole matrices, which was measured in float32: 1.3
    at 65 x 65, 0.67 to 0.94 below. On an H200, by graph replay, one product
    and one pass were 2.7 to 12 times as fast as four convolutions and three sums; contiguous maps
    of 2 bytes, 0.96 to 2.2 times, are transposed since. Float32 only where torch multiplies
    matrices as it convolves, so that the precision stays the same.
    """
    if not isinstance(input, torch.Tensor):  # which the branches name
        return False
    taps = 0
    for branch in branches:
        taps += branch.kernel_size[0] * branch.kernel_size[1]
    if input.ndim != 4 or input.dtype not in FLOATS or taps > MAX_TAPS or not has_kernels(input):
        return False
    trains = torch.is_grad_enabled() and (
        input.requires_grad or any(branch.weight.requires_grad for branch in branches)
    )
    if input.device.type == "cuda":
        return input.dtype != torch.float32 or convolutions_use_tf32() == products_use_tf32()
    filters, pixels = branches[0].out_channels, input.shape[2] * input.shape[3]
    if trains:
        return filters <= 64
    large = pixels >= 64 * 64
    if computing_dtype(input) not in (torch.float32, torch.float64):
        return filters <= 32 and large
    return input.shape[1] >= 1024 and filters <= (64 if large else 32)
