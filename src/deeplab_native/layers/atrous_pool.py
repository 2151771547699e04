"""Pooling with holes: what a pool becomes when a stride before it, or its own, is taken out.

DeepLab v2, section 3.1: where a layer's stride is set to 1, every later filter is applied at the
rate of that stride, "convolution with holes", and gives the same responses on a finer grid. A
pool is such a filter. Everything here keeps one promise, at every input size: a map that holds
the original map at every `rate`-th pixel becomes one that holds the original result at every
`rate * undone_stride`-th pixel. So the padding grows with the rate, and where the original rounds
its size up (`ceil_mode`), the map gets the rows that hold the last pixel of the original.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .._integers import pair
from .._native import check_tensor

Pair = tuple[int, int]


def atrous_max_pool2d(
    input: torch.Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    *,
    ceil_mode: bool = False,
    rate: int | Pair = 1,
    undone_stride: int | Pair = 1,
) -> torch.Tensor:
    """`torch.nn.functional.max_pool2d` on a map `rate` times as fine.

    Args:
        input: (B, C, H, W) or (C, H, W), floating point.
        kernel_size, stride, padding, dilation, ceil_mode: as of `max_pool2d`; kernel size,
            padding and dilation are those of the original pool, stride what is left of it.
        rate: pixels of `input` that one pixel of the original pool's input was.
        undone_stride: what was taken out of the stride; only `ceil_mode` needs to know.

    Returns:
        (B, C, H', W') or (C, H', W'), whose every (rate * undone_stride)-th pixel is the original
        pool's result on every `rate`-th pixel of the input.

    Raises:
        TypeError, ValueError: a number is no integer, or too small; an input of another kind or
            shape, or smaller than the window.
    """
    axes = _axes(input, kernel_size, stride, padding, dilation, ceil_mode, rate, undone_stride)
    pads = [axis.padding for axis in axes]
    # torch itself pads both sides alike, and by half a kernel at most, whatever its dilation
    if any(a.padding[0] != a.padding[1] or 2 * a.padding[0] > a.kernel for a in axes):
        (top, bottom), (left, right) = pads
        input = torch.constant_pad_nd(input, (left, right, top, bottom), -torch.inf)
        pads = [(0, 0), (0, 0)]
    result = functional.max_pool2d(
        input,
        tuple(axis.kernel for axis in axes),
        tuple(axis.stride for axis in axes),
        tuple(before for before, _ in pads),
        tuple(axis.dilation for axis in axes),
    )
    if any(axis.size < axis.rate for axis in axes):
        # some of the rate x rate maps have no pixel at all; -inf would become NaN later
        result = result.masked_fill(result == -torch.inf, 0)
    return result


def atrous_avg_pool2d(
    input: torch.Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    rate: int | Pair = 1,
    undone_stride: int | Pair = 1,
) -> torch.Tensor:
    """`torch.nn.functional.avg_pool2d` on a map `rate` times as fine.

    The map is taken apart into rate x rate maps (section 3.1's second implementation), which are
    pooled as usual and put together again: torch's average pool has no dilation.

    Args:
        input: (B, C, H, W) or (C, H, W), floating point.
        kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override: as of
            `avg_pool2d`; all but stride are those of the original pool.
        rate, undone_stride: as of `atrous_max_pool2d`.

    Returns, Raises: as `atrous_max_pool2d`.
    """
    axes = _axes(input, kernel_size, stride, padding, 1, ceil_mode, rate, undone_stride)
    y, x = axes
    if divisor_override is not None and divisor_override < 1:
        raise ValueError(f"divisor_override: expected at least 1, got {divisor_override}")
    lead = input.shape[:-2]
    # as many rows and columns as make rate x rate maps of one size
    (top, bottom), (left, right) = (axis.padding for axis in axes)
    bottom += -(top + y.size + bottom) % y.rate
    right += -(left + x.size + right) % x.rate
    maps = torch.constant_pad_nd(input, (left, right, top, bottom), 0.0)
    height, width = maps.shape[-2] // y.rate, maps.shape[-1] // x.rate
    maps = maps.reshape(-1, height, y.rate, width, x.rate).permute(0, 2, 4, 1, 3)
    maps = maps.reshape(-1, 1, height, width)
    # without a divisor: exporters drop it
    means = functional.avg_pool2d(maps, (y.kernel, x.kernel), 1)
    height, width = means.shape[-2:]
    means = means.reshape(-1, y.rate, x.rate, height, width).permute(0, 3, 1, 4, 2)
    means = means.reshape(*lead, height * y.rate, width * x.rate)
    means = means[..., : y.steps : y.stride, : x.steps : x.stride]
    taps = y.kernel * x.kernel
    if divisor_override is not None:
        return means * (taps / divisor_override)
    if not ceil_mode and count_include_pad:
        return means
    rows = y.counts(count_include_pad, means.device)
    counts = rows[:, None] * x.counts(count_include_pad, means.device)
    return means * (taps / counts.clamp(min=1)).to(means.dtype)  # 0 only of a map without pixels


class _Axis:
    """One dimension of a pool.

    Attributes:
        size: of the input in pixels. kernel, stride: of the pool. rate: as above.
        dilation: pixels of the input between two taps; span: from the first tap to the last, both
            counted.
        padding: (before, after) in pixels of the input, the rows of `ceil_mode` among them.
        steps: positions of the window at stride 1.
    """

    def __init__(
        self,
        size: int,
        kernel: int,
        stride: int,
        padding: int,
        dilation: int,
        ceil_mode: bool,
        rate: int,
        undone_stride: int,
    ) -> None:
        self.size, self.kernel, self.stride, self.rate = size, kernel, stride, rate
        self.dilation = dilation * rate
        self.span = self.dilation * (kernel - 1) + 1
        self.least_padding = padding * rate
        after = self.least_padding
        if ceil_mode:
            whole = -(-size // rate)  # the original's input
            step = stride * undone_stride
            last = -(-(whole + 2 * padding - dilation * (kernel - 1) - 1) // step)
            if last * step >= whole + padding:  # a window only on the padding is left out
                last -= 1
            after = max(after, last * step * rate + self.span - size - self.least_padding)
        self.padding = (self.least_padding, after)
        self.steps = size + sum(self.padding) - self.span + 1

    def counts(self, include_padding: bool, device: torch.device) -> torch.Tensor:
        """Taps of each window (H',) int64 that lie on the map, or on the map and its padding."""
        first = torch.arange(0, self.steps, self.stride, device=device) - self.padding[0]
        taps = first[:, None] + self.dilation * torch.arange(self.kernel, device=device)
        border = self._last_counted if include_padding else self.size - 1
        lowest = -self.least_padding if include_padding else 0
        return ((taps >= lowest) & (taps <= border)).sum(1)

    @property
    def _last_counted(self) -> int:
        # of the original's size, rounded up, as its padding begins behind its last pixel
        return (-(-self.size // self.rate)) * self.rate - 1 + self.least_padding


def _axes(
    input: torch.Tensor,
    kernel: int | Pair,
    stride: int | Pair | None,
    padding: int | Pair,
    dilation: int | Pair,
    ceil_mode: bool,
    rate: int | Pair,
    undone_stride: int | Pair,
) -> list[_Axis]:
    check_tensor("input", input, ndim=(3, 4), layout="(B, C, H, W) or (C, H, W)")
    if not input.is_floating_point():
        raise TypeError(f"input: expected floating point, got {input.dtype}")
    if input.shape[-3] == 0:  # torch's pools refuse it, too, and do not say what
        raise ValueError(f"input: expected at least one channel, got {tuple(input.shape)}")
    kernel = pair("kernel_size", kernel, least=1)
    numbers = zip(
        input.shape[-2:],
        kernel,
        kernel if stride is None else pair("stride", stride, least=1),
        pair("padding", padding, least=0),
        pair("dilation", dilation, least=1),
        (ceil_mode, ceil_mode),
        pair("rate", rate, least=1),
        pair("undone_stride", undone_stride, least=1),
        strict=True,
    )
    axes = [_Axis(*of_axis) for of_axis in numbers]
    if any(axis.steps < 1 for axis in axes):
        raise ValueError(
            f"input: height and width {tuple(input.shape[-2:])} with padding {padding} are smaller "
            f"than kernel_size {kernel} at rate {rate}: no output pixel is left"
        )
    return axes


class AtrousMaxPool2d(nn.MaxPool2d):
    """`nn.MaxPool2d` on a map `rate` times as fine, see `atrous_max_pool2d`.

    `set_output_stride` turns pools into it; kernel size, padding and dilation stay those of the
    original pool.

    Shapes:
        input (B, C, H, W) or (C, H, W) -> the same with H', W'.
    """

    def __init__(
        self, *args: Any, rate: int | Pair = 1, undone_stride: int | Pair = 1, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rate = pair("rate", rate, least=1)
        self.undone_stride = pair("undone_stride", undone_stride, least=1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) or (C, H, W) -> the same with H', W', see `atrous_max_pool2d`."""
        return atrous_max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            rate=self.rate,
            undone_stride=self.undone_stride,
        )

    def extra_repr(self) -> str:
        """What `nn.MaxPool2d` shows, and the rate."""
        return f"{super().extra_repr()}, rate={self.rate}"


class AtrousAvgPool2d(nn.AvgPool2d):
    """`nn.AvgPool2d` on a map `rate` times as fine, see `atrous_avg_pool2d`.

    Shapes:
        input (B, C, H, W) or (C, H, W) -> the same with H', W'.
    """

    def __init__(
        self, *args: Any, rate: int | Pair = 1, undone_stride: int | Pair = 1, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.rate = pair("rate", rate, least=1)
        self.undone_stride = pair("undone_stride", undone_stride, least=1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) or (C, H, W) -> the same with H', W', see `atrous_avg_pool2d`."""
        return atrous_avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override,
            rate=self.rate,
            undone_stride=self.undone_stride,
        )

    def extra_repr(self) -> str:
        """What `nn.AvgPool2d` shows, and the rate."""
        return f"{super().extra_repr()}, rate={self.rate}"
