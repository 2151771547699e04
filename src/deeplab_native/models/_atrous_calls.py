"""Calls of convolutions and pools within a module's `forward`, with other arguments.

A pool that is a module can be changed where it stands. One that is called as a function, as in
`x = F.max_pool2d(x, 3, 2)`, has no place but the code; a mode of torch function overrides, on
while that `forward` runs, changes the arguments of the calls by their number. `torch.compile` and
`torch.export` trace through it; only `F.pad` is not shown to modes under `torch.compile`, which
then ends in an error, as the count is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .._integers import pair
from ..layers.atrous_pool import atrous_avg_pool2d, atrous_max_pool2d

Pair = tuple[int, int]

# The functions that are counted. What this package calls instead makes as many calls of the same
# kind, so that the numbers within an outer module stay the same.
KINDS: dict[Callable[..., Any], str] = {
    torch.conv2d: "conv",
    functional.max_pool2d: "max_pool",
    torch.max_pool2d: "max_pool",
    functional.avg_pool2d: "avg_pool",
    functional.pad: "pad",
}


@dataclass(frozen=True)
class Call:
    """The numbers of one call: sides (vertical, horizontal), or the list of a `pad`."""

    kind: str
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    numbers: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Change:
    """What becomes of a layer: taps `rate` times as far apart, another stride.

    undone: original stride / stride.
    """

    rate: Pair = (1, 1)
    stride: Pair = (1, 1)
    undone: Pair = (1, 1)


def read_call(
    kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, Call]:
    """The tensor that the call works on, and its numbers."""
    return _READ[kind](*args, **kwargs)


def _read_conv(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[torch.Tensor, Call]:
    padding = padding if isinstance(padding, str) else pair("padding", padding, least=0)
    numbers = (padding, pair("dilation", dilation, least=1))
    kernel = (weight.shape[-2], weight.shape[-1])
    return input, Call("conv", kernel, pair("stride", stride, least=1), numbers)


def _read_max(
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[torch.Tensor, Call]:
    kernel = pair("kernel_size", kernel_size, least=1)
    stride = pair("stride", stride, least=1) if stride else kernel
    numbers = (pair("padding", padding, least=0), pair("dilation", dilation, least=1), ceil_mode)
    return input, Call("max_pool", kernel, stride, numbers)


def _read_avg(
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[torch.Tensor, Call]:
    kernel = pair("kernel_size", kernel_size, least=1)
    stride = pair("stride", stride, least=1) if stride else kernel
    numbers = (pair("padding", padding, least=0), ceil_mode, count_include_pad, divisor_override)
    return input, Call("avg_pool", kernel, stride, numbers)


def _read_pad(
    input: torch.Tensor, pad: Any, mode: str = "constant", value: float | None = None
) -> tuple[torch.Tensor, Call]:
    return input, Call("pad", numbers=(*pad, mode))


_READ: dict[str, Callable[..., tuple[torch.Tensor, Call]]]
_READ = {"conv": _read_conv, "max_pool": _read_max, "avg_pool": _read_avg, "pad": _read_pad}


def _conv(
    change: Change,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    if not isinstance(padding, str):
        padding = times(pair("padding", padding, least=0), change.rate)
    dilation = times(pair("dilation", dilation, least=1), change.rate)
    return torch.conv2d(input, weight, bias, change.stride, padding, dilation, groups)


def _max_pool(
    change: Change,
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    **kwargs: Any,
) -> torch.Tensor:
    return atrous_max_pool2d(
        input,
        kernel_size,
        change.stride,
        padding,
        dilation,
        ceil_mode=ceil_mode,
        rate=change.rate,
        undone_stride=change.undone,
    )


def _avg_pool(
    change: Change,
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> torch.Tensor:
    return atrous_avg_pool2d(
        input,
        kernel_size,
        change.stride,
        padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
        rate=change.rate,
        undone_stride=change.undone,
    )


def _pad(
    change: Change,
    input: torch.Tensor,
    pad: Any,
    mode: str = "constant",
    value: float | None = None,
) -> torch.Tensor:
    return functional.pad(input, padded_by(pad, change.rate), mode, value)


_CHANGED: dict[str, Callable[..., torch.Tensor]]
_CHANGED = {"conv": _conv, "max_pool": _max_pool, "avg_pool": _avg_pool, "pad": _pad}


def times(numbers: Pair, factors: Pair) -> Pair:
    return (numbers[0] * factors[0], numbers[1] * factors[1])


def padded_by(pad: Any, rate: Pair) -> tuple[int, ...]:
    """(left, right, top, bottom, ...) of `torch.nn.functional.pad`, `rate` times as wide."""
    factors = (rate[1], rate[1], rate[0], rate[0])
    return tuple(p * f for p, f in zip(pad, factors, strict=False)) + tuple(pad[4:])


class _AtrousCalls(TorchFunctionMode):
    """Counts the calls of each kind; those in `changes` are made with other arguments."""

    def __init__(
        self,
        name: str,
        changes: dict[tuple[str, int], tuple[Call, Change]],
        counts: dict[str, int],
    ) -> None:
        super().__init__()
        self.name, self.changes, self.counts = name, changes, counts

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        kind = KINDS.get(func)
        if kind is None:
            return func(*args, **kwargs)
        number = self.counts[kind]
        self.counts[kind] = number + 1
        if (kind, number) not in self.changes:
            return func(*args, **kwargs)
        call, change = self.changes[kind, number]
        if read_call(kind, args, kwargs)[1] != call:
            raise RuntimeError(
                f"{self.name}: call {number} of {kind} is another one than when "
                "set_output_stride looked at it; call it again on the model as it is now"
            )
        return _CHANGED[kind](change, *args, **kwargs)


class WithAtrousCalls:
    """Before a module's own class: runs its `forward` with the changes of `atrous_calls`."""

    atrous_calls: dict[tuple[str, int], tuple[Call, Change]]
    atrous_counts: dict[str, tuple[int, ...]]  # of each kind, in the calls of forward seen before

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        name = type(self).__name__
        counts = dict.fromkeys(_READ, 0)
        with _AtrousCalls(name, self.atrous_calls, counts):
            result = super().forward(*args, **kwargs)  # type: ignore[misc]
        for kind, seen in self.atrous_counts.items():
            if counts[kind] not in seen:
                raise RuntimeError(
                    f"{name}: {counts[kind]} calls of {kind} in forward, and {seen} when "
                    "set_output_stride looked at it: forward took another way, or is compiled, "
                    "where calls of pad are not seen (nn.ZeroPad2d is)"
                )
        return result

    def __reduce__(self) -> Any:
        # a class made at run time has no name to be pickled by
        return _remake, (type(self).__mro__[2],), self.__dict__


@cache
def with_atrous_calls(cls: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `cls` whose `forward` has atrous calls."""
    return type(f"Atrous{cls.__name__}", (WithAtrousCalls, cls), {"__module__": cls.__module__})


def _remake(cls: type[nn.Module]) -> nn.Module:
    made = with_atrous_calls(cls)  # type: ignore[arg-type]  # a class has a hash
    return made.__new__(made)
