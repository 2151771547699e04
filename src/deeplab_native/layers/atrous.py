"""Atrous convolution as a layer (DeepLab v2, section 3.1, Equation 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .._integers import integer, pair
from ..ops._conv_checks import check_algorithm
from ..ops.atrous_conv import atrous_conv2d


class AtrousConv2d(nn.Module):
    """2-D atrous convolution: y[i] = sum_k x[i + rate * k] w[k] (DeepLab v2, Equation 1).

    Parameters, arguments and initialisation are those of `torch.nn.Conv2d`, with `rate` for
    `dilation`, so the state dicts of both are interchangeable. A k x k filter at rate r spans
    k + (k - 1)(r - 1) pixels of its input and keeps k * k weights.

    Args:
        in_channels: channels C of the input.
        out_channels: channels N of the output.
        kernel_size: filter size, one integer or (vertical, horizontal).
        stride: step of the output grid on the input, one integer or two.
        padding: zeros on each side, one integer or two, or "same": rate * (k - 1) // 2, which
            gives an output of ceil(H / stride) x ceil(W / stride).
        rate: distance between filter taps in input pixels, one integer or two; it may be set
            later, on the attribute of the same name, and gives the layer any field of view with
            the weights it has (section 3.1). Padding "same" follows it, a number stays.
        bias: whether to add a learned bias.
        algorithm: passed to `atrous_conv2d`, which lists the choices; it may be set later, on the
            attribute of the same name.
        device, dtype: of the parameters.

    Shapes:
        input (B, C, H, W) -> (B, N, H', W') with H' = (H + 2 padding - rate (k - 1) - 1) // stride
        + 1; `weight` (N, C, kh, kw); `bias` (N,) or None.

    Raises:
        TypeError, ValueError: an argument has a wrong type or value; "same" is asked for where
            rate * (k - 1) is odd, which no symmetric padding can give; the algorithm is unknown
            or lacks the stride.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        rate: int | Sequence[int] = 1,
        bias: bool = True,
        algorithm: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = integer("in_channels", in_channels, least=1)
        self.out_channels = integer("out_channels", out_channels, least=1)
        self.kernel_size = pair("kernel_size", kernel_size, least=1)
        self.stride = pair("stride", stride, least=1)
        self._rate = pair("rate", rate, least=1)
        self._same = isinstance(padding, str)
        self.padding = self._padding(padding, self._rate)
        check_algorithm(algorithm, self.stride)
        self.algorithm = algorithm
        self.weight = nn.Parameter(
            torch.empty(
                self.out_channels,
                self.in_channels,
                *self.kernel_size,
                device=device,
                dtype=dtype,
            )
        )
        if bias:
            self.bias = nn.Parameter(torch.empty(self.out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    @property
    def rate(self) -> tuple[int, int]:
        """Distance between filter taps in input pixels, (vertical, horizontal)."""
        return self._rate

    @rate.setter
    def rate(self, rate: int | Sequence[int]) -> None:
        new = pair("rate", rate, least=1)
        if self._same:
            self.padding = self._padding("same", new)  # it may raise: nothing is changed before
        self._rate = new

    def _padding(
        self, padding: int | Sequence[int] | str, rate: tuple[int, int]
    ) -> tuple[int, int]:
        if not isinstance(padding, str):
            return pair("padding", padding, least=0)
        if padding != "same":
            raise ValueError(
                f'padding: expected an integer, two of them or "same", got {padding!r}'
            )
        spans = [r * (k - 1) for r, k in zip(rate, self.kernel_size, strict=True)]
        if any(span % 2 for span in spans):
            raise ValueError(
                f'padding: "same" needs an even rate * (kernel_size - 1), got '
                f"kernel_size {self.kernel_size} and rate {rate}"
            )
        return (spans[0] // 2, spans[1] // 2)

    def reset_parameters(self) -> None:
        """Draws the parameters as `torch.nn.Conv2d` does: uniform in +-1/sqrt(C kh kw)."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) floating point -> (B, N, H', W'); raises what `atrous_conv2d` does."""
        return atrous_conv2d(
            input,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            rate=self.rate,
            algorithm=self.algorithm,
        )

    def extra_repr(self) -> str:
        """Channels, kernel size and rate, and of the rest what is not the default."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        if self.stride != (1, 1):
            parts.append(f"stride={self.stride}")
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding}")
        parts.append(f"rate={self.rate}")
        if self.bias is None:
            parts.append("bias=False")
        if self.algorithm != "auto":
            parts.append(f"algorithm={self.algorithm!r}")
        return ", ".join(parts)
