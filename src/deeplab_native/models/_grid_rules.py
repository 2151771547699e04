"""How functions that are no layers change a map's grid.

The layers are in `_grid`, which is built on this: a rule knows of the trace only `Trace`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, TypeVar

import torch
from torch.nn import functional

from ._atrous_calls import Pair

Strides = tuple[Fraction, Fraction]
ONE: Strides = (Fraction(1), Fraction(1))

_T = TypeVar("_T")


@dataclass(frozen=True)
class Grid:
    """Stride of a map in the original net, (vertical, horizontal), and their dimensions."""

    stride: Strides
    dims: Pair


@dataclass(frozen=True)
class Lost:
    """Of a tensor that comes from the input and is no map any more, or one of unknown stride."""

    why: str


class Trace(Protocol):
    """What a rule asks of the trace of a forward pass, and tells it.

    Attributes:
        target: the output stride that is wanted, in pixels of the input.
        stride: the largest stride so far, (vertical, horizontal).
    """

    target: int
    stride: Strides

    def grid(self, tensor: object) -> Grid | None:
        """Where the tensor lies; None of one that is no map, or no tensor."""

    def rate(self, grid: Grid) -> Strides:
        """How many times denser the map will be."""

    def problem(self, what: str) -> None:
        """The stride cannot be had, and why."""

    def where(self) -> str:
        """The module that is running, for a message."""


def both(values: Iterable[_T]) -> tuple[_T, _T]:
    """The vertical and the horizontal one of two values."""
    vertical, horizontal = values
    return vertical, horizontal


def grid_of_result(state: Grid | Lost, shape: tuple[int, ...], result: torch.Tensor) -> Grid | None:
    """The map's grid, where the result has its height and width in the same place, or last."""
    if not isinstance(state, Grid):
        return None
    size = tuple(shape[d] for d in state.dims)
    if result.ndim == len(shape):
        dims = state.dims
    elif result.ndim > 2 and tuple(d - len(shape) for d in state.dims) == (-2, -1):
        dims = (result.ndim - 2, result.ndim - 1)
    else:
        return None
    return Grid(state.stride, dims) if tuple(result.shape[d] for d in dims) == size else None


def _permuted(
    trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any], result: torch.Tensor
) -> Grid | None:
    grid = trace.grid(args[0])
    if grid is None or kwargs:
        return None
    order = args[1] if len(args) == 2 and not isinstance(args[1], int) else args[1:]
    order = [d % result.ndim for d in order]
    return Grid(grid.stride, both(order.index(d) for d in grid.dims))


def _transposed(
    trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any], result: torch.Tensor
) -> Grid | None:
    grid = trace.grid(args[0])
    if grid is None or kwargs:
        return None
    one, other = (d % result.ndim for d in args[1:3])
    swap = {one: other, other: one}
    return Grid(grid.stride, both(swap.get(d, d) for d in grid.dims))


def _indexed(
    trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any], result: torch.Tensor
) -> Grid | None:
    """x[:, :, ::2, ::2] takes every second pixel: a stride that no argument can take out."""
    grid, index = trace.grid(args[0]), args[1]
    if grid is None or not isinstance(index, tuple) or len(index) != args[0].ndim:
        return None
    if not all(isinstance(i, slice) and i.start in (None, 0) for i in index):
        return None
    sides = [index[d] for d in grid.dims]
    if any(side.stop is not None for side in sides):
        return None
    steps = [side.step or 1 for side in sides]
    after = both(s * step for s, step in zip(grid.stride, steps, strict=True))
    if steps != [1, 1] and any(s > trace.target for s in after):
        trace.problem(f"takes one of {max(steps)} pixels by an index, which cannot be made denser")
    trace.stride = both(max(s, a) for s, a in zip(trace.stride, after, strict=True))
    return Grid(after, grid.dims)


def _interpolated(
    trace: Trace, args: tuple[Any, ...], kwargs: dict[str, Any], result: torch.Tensor
) -> Grid | Lost | None:
    """To a given size, a denser map only becomes a better one; its grid is not followed on."""
    grid = trace.grid(args[0] if args else kwargs.get("input"))
    if grid is None:
        return None
    factor = kwargs.get("scale_factor", args[2] if len(args) > 2 else None)
    if factor is not None and trace.rate(grid) != ONE:
        trace.problem(
            "interpolates by a factor, and the denser map would become larger than the original; "
            "give the part of the net before it, or interpolate to a size"
        )
    if factor is None or trace.rate(grid) != ONE:
        return Lost(f"interpolate in {trace.where()}")
    factors = factor if isinstance(factor, (tuple, list)) else (factor, factor)
    if any(f <= 0 or not math.isfinite(f) for f in factors):
        return None
    stride = both(s / Fraction(f) for s, f in zip(grid.stride, factors, strict=True))
    return Grid(stride, grid.dims)


Rule = Callable[[Trace, tuple[Any, ...], dict[str, Any], torch.Tensor], Grid | Lost | None]
RULES: dict[Callable[..., Any], Rule] = {
    **dict.fromkeys((torch.permute, torch.Tensor.permute), _permuted),
    **dict.fromkeys((torch.transpose, torch.Tensor.transpose), _transposed),
    torch.Tensor.__getitem__: _indexed,
    functional.interpolate: _interpolated,
}


def tensors(value: object) -> Iterator[torch.Tensor]:
    """In order, those within lists, tuples and dicts too."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)


def text(stride: Strides) -> str:
    return str(stride[0]) if stride[0] == stride[1] else f"{stride[0]} x {stride[1]}"
