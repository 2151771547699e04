"""On which grid of input pixels each tensor of a net lies, found by following one forward pass.

Every tensor that comes from the net's input carries its stride: input pixels a pixel, in the
original net. Layers multiply it. With the output stride limited to `target`, a map of stride S
lies at min(S, target) instead, so that S alone says how far apart a layer's taps must be: there is
no order of modules to guess, branches and shared layers come out right, and two uses of one layer
that need different rates are found.

Followed are the calls of torch's functions (`TorchFunctionMode`), above autograd and on the
code's own tensors: what is computed by Python in between makes no difference, and a function
keeps its shape where the operators below take it to pieces. (A symbolic trace would ask for code
without decisions, and hooks alone see neither functions nor what is added to what.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .._native import pair
from ..layers import AtrousAvgPool2d, AtrousConv2d, AtrousMaxPool2d
from ._atrous_calls import KINDS, Call, Change, Pair, WithAtrousCalls, read_call

Strides = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Grid:
    """Stride of a map in the original net, (vertical, horizontal), and which dimensions they are."""

    stride: Strides
    dims: Pair


@dataclass(frozen=True)
class Lost:
    """Of a tensor that comes from the input and is no map any more, or one of unknown stride."""

    why: str


@dataclass(frozen=True)
class Site:
    """A layer: a module, or the call of this kind and number within a module's forward."""

    module: nn.Module
    call: tuple[str, int] | None = None


_POOLS = {
    cls.forward: kind
    for cls, kind in (
        (nn.MaxPool2d, "max_pool"),
        (AtrousMaxPool2d, "max_pool"),
        (nn.AvgPool2d, "avg_pool"),
        (AtrousAvgPool2d, "avg_pool"),
    )
}
_PADS = (nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d)
_PERMUTE = (torch.permute, torch.Tensor.permute)
_TRANSPOSE = (torch.transpose, torch.Tensor.transpose)


def layer_of(module: nn.Module) -> tuple[str, Pair, Pair] | None:
    """(kind, kernel size, stride) of a module that `set_output_stride` changes by its attributes."""
    if isinstance(module, (nn.Conv2d, AtrousConv2d)):
        return "conv", pair("", module.kernel_size, least=1), pair("", module.stride, least=1)
    if isinstance(module, nn.ConvTranspose2d):
        return "transposed", pair("", module.kernel_size, least=1), pair("", module.stride, least=1)
    if isinstance(module, _PADS):
        return "pad", (1, 1), (1, 1)
    kind = _POOLS.get(type(module).forward)  # a subclass may pad by itself
    if kind is None or getattr(module, "return_indices", False):
        return None
    return kind, pair("", module.kernel_size, least=1), pair("", module.stride, least=1)


class GridTrace(TorchFunctionMode):
    """Follows one forward pass; afterwards `changes` says what is to be done at which site.

    Attributes:
        changes: of every site that was met; some of them change nothing.
        calls: of sites that are calls, what they were.
        counts: of modules with calls, how many of each kind were in each run of their forward.
        problems: why the stride cannot be had, in order; empty where it can.
        stride: the largest stride of a layer's output, (vertical, horizontal).
    """

    def __init__(self, model: nn.Module, target: int) -> None:
        super().__init__()
        self.target = target
        self.names = {module: name for name, module in model.named_modules()}
        self.changes: dict[Site, Change] = {}
        self.calls: dict[Site, Call] = {}
        self.counts: dict[nn.Module, list[dict[str, int]]] = {}
        self.problems: list[str] = []
        self.stride: Strides = (Fraction(1), Fraction(1))
        self._met: dict[Site, Strides] = {}
        self._states: dict[int, tuple[torch.Tensor, Grid | Lost]] = {}  # keeps the tensors alive
        self._stack: list[nn.Module] = []
        self._within_layer = 0

    # ----- what the caller and the hooks tell

    def begin(self, inputs: tuple[Any, ...]) -> None:
        for tensor in _tensors(inputs):
            if tensor.ndim == 4:
                self._states[id(tensor)] = tensor, Grid((Fraction(1), Fraction(1)), (2, 3))

    def grid(self, tensor: object) -> Grid | None:
        state = self._state(tensor)
        return state if isinstance(state, Grid) else None

    def enter(self, module: nn.Module) -> None:
        if isinstance(module, WithAtrousCalls):
            self._problem("was changed by another call of set_output_stride, on a part of the net")
        self._stack.append(module)
        self.counts.setdefault(module, []).append(dict.fromkeys(set(KINDS.values()), 0))
        self._within_layer += layer_of(module) is not None

    def leave(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: object) -> None:
        layer = layer_of(module)
        self._within_layer -= layer is not None
        if layer is not None and not self._within_layer:
            kind, kernel, stride = layer
            input = next(_tensors((args, kwargs)), None)
            if input is not None and isinstance(output, torch.Tensor):
                self._layer(Site(module), kind, kernel, stride, input, output)
        self._stack.pop()

    # ----- functions

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind = KINDS.get(func)
        number = 0
        if kind is not None and self._stack:
            number = self.counts[self._stack[-1]][-1][kind]
            for module in self._stack:
                self.counts[module][-1][kind] += 1
        before = [(t, self._state(t), tuple(t.shape)) for t in _tensors((args, kwargs))]
        output = func(*args, **kwargs)
        known = [(t, state, shape) for t, state, shape in before if state is not None]
        if self._within_layer or not known:
            return output
        if kind is not None and self._stack and isinstance(output, torch.Tensor):
            input, call = read_call(kind, args, kwargs)
            site = Site(self._stack[-1], (kind, number))
            self.calls[site] = call
            self._layer(site, kind, call.kernel, call.stride, input, output)
            return output
        rule = _RULES.get(func)
        for result in _tensors(output):
            state = rule(self, args, kwargs, result) if rule else None
            if state is None:
                state = self._same_map(func, known, result)
            self._states[id(result)] = result, state
        return output

    def _same_map(self, func: Callable, known: list, result: torch.Tensor) -> Grid | Lost:
        """Functions that leave every pixel in its place: the result has a map's height and width."""
        grids = []
        for _, state, shape in known:
            if not isinstance(state, Grid):
                continue
            size = tuple(shape[d] for d in state.dims)
            last = tuple(d - len(shape) for d in state.dims) == (-2, -1)
            for dims in (state.dims, (result.ndim - 2, result.ndim - 1)):
                same_place = result.ndim == len(shape) or (last and result.ndim > 2)
                if same_place and tuple(result.shape[d] for d in dims) == size:
                    grids.append(Grid(state.stride, dims))
                    break
        name = getattr(func, "__name__", str(func))
        if len({grid.stride for grid in grids}) > 1:
            strides = " and ".join(sorted({_text(grid.stride) for grid in grids}))
            if any(self.rate(grid) != (1, 1) for grid in grids):
                self._problem(f"{name} joins maps of the strides {strides}")
            return Lost(f"{name} joins maps of the strides {strides}")
        if grids:
            return grids[0]
        dense = [state for _, state, _ in known if isinstance(state, Grid)]
        if any(self.rate(grid) != (1, 1) for grid in dense):
            self._problem(
                f"{name} makes something else of a map that would become denser (its result has "
                f"the shape {tuple(result.shape)}); give the part of the net before it"
            )
        why = next((state.why for _, state, _ in known if isinstance(state, Lost)), None)
        return Lost(why or f"of {self._where()}, {name}")

    # ----- layers

    def rate(self, grid: Grid) -> Strides:
        """How many times denser the map will be."""
        return tuple(max(Fraction(1), s / self.target) for s in grid.stride)  # type: ignore

    def _layer(
        self, site: Site, kind: str, kernel: Pair, stride: Pair, input, output: torch.Tensor
    ) -> None:
        state = self._state(input)
        if state is None:
            if self._within_model_input(input):
                self._problem("works on a tensor whose way from the input was not seen", site)
            return
        if isinstance(state, Lost):
            self._states[id(output)] = output, state
            if max(*kernel, *stride) > 1 or kind == "pad":
                self._problem(f"works on a map whose stride is unknown, after that {state.why}", site)
            return
        if input.ndim != 4 or state.dims != (2, 3):
            self._problem("works on something else than (B, C, H, W)", site)
            return
        if kind == "transposed":
            if self.rate(state) != (1, 1):
                self._problem("is a transposed convolution of a map that would be denser", site)
            after = tuple(s / step for s, step in zip(state.stride, stride, strict=True))
        else:
            after = tuple(s * step for s, step in zip(state.stride, stride, strict=True))
            self._change(site, state, after, stride)
        self.stride = tuple(max(s, a) for s, a in zip(self.stride, after, strict=True))
        self._states[id(output)] = output, Grid(after, state.dims)

    def _change(self, site: Site, grid: Grid, after: Strides, stride: Pair) -> None:
        rates = self.rate(grid)
        limit = Fraction(self.target)
        kept = [
            min(a, limit) / min(s, limit) for s, a in zip(grid.stride, after, strict=True)
        ]
        undone = [step / k for step, k in zip(stride, kept, strict=True)]
        if any(number.denominator != 1 for number in (*rates, *kept, *undone)):
            self._problem(
                f"takes the stride from {_text(grid.stride)} to {_text(after)}: {self.target} "
                "cannot be reached",
                site,
            )
            return
        change = Change(*(tuple(map(int, numbers)) for numbers in (rates, kept, undone)))
        if self.changes.setdefault(site, change) != change:
            strides = f"{_text(self._met[site])} and {_text(grid.stride)}"
            self._problem(f"is used at the strides {strides}: it would need two rates", site)
        self._met.setdefault(site, grid.stride)

    # ----- helpers

    def _within_model_input(self, tensor: object) -> bool:
        return isinstance(tensor, torch.Tensor) and tensor.ndim == 4

    def _state(self, tensor: object) -> Grid | Lost | None:
        found = self._states.get(id(tensor))
        return None if found is None else found[1]

    def _where(self, site: Site | None = None) -> str:
        module = site.module if site else self._stack[-1] if self._stack else None
        if module is None:
            return "the model"
        name = self.names.get(module) or "the model"
        call = f", {site.call[0]} called in forward" if site and site.call else ""
        return f"{name} ({type(module).__name__}{call})"

    def _problem(self, what: str, site: Site | None = None) -> None:
        self.problems.append(f"{self._where(site)} {what}")


def _permuted(trace: GridTrace, args: tuple, kwargs: dict, result: torch.Tensor) -> Grid | None:
    grid = trace.grid(args[0])
    if grid is None or kwargs:
        return None
    order = args[1] if len(args) == 2 and not isinstance(args[1], int) else args[1:]
    order = [d % result.ndim for d in order]
    return Grid(grid.stride, tuple(order.index(d) for d in grid.dims))  # type: ignore


def _transposed(trace: GridTrace, args: tuple, kwargs: dict, result: torch.Tensor) -> Grid | None:
    grid = trace.grid(args[0])
    if grid is None or kwargs:
        return None
    one, other = (d % result.ndim for d in args[1:3])
    swap = {one: other, other: one}
    return Grid(grid.stride, tuple(swap.get(d, d) for d in grid.dims))  # type: ignore


def _indexed(trace: GridTrace, args: tuple, kwargs: dict, result: torch.Tensor) -> Grid | None:
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
    after = tuple(s * step for s, step in zip(grid.stride, steps, strict=True))
    if steps != [1, 1] and any(s > trace.target for s in after):
        trace._problem(f"takes every {max(steps)}th pixel by an index; a convolution or pool could")
    trace.stride = tuple(max(s, a) for s, a in zip(trace.stride, after, strict=True))
    return Grid(after, grid.dims)


def _interpolated(
    trace: GridTrace, args: tuple, kwargs: dict, result: torch.Tensor
) -> Grid | Lost | None:
    """To a given size, a denser map only becomes a better one; its grid is not followed on."""
    grid = trace.grid(args[0] if args else kwargs.get("input"))
    if grid is None:
        return None
    factor = kwargs.get("scale_factor", args[2] if len(args) > 2 else None)
    if factor is not None and trace.rate(grid) != (1, 1):
        trace._problem(
            "interpolates by a factor, and the denser map would become larger than the original; "
            "give the part of the net before it, or interpolate to a size"
        )
    if factor is None or trace.rate(grid) != (1, 1):
        return Lost(f"of {trace._where()}, interpolate")
    both = factor if isinstance(factor, (tuple, list)) else (factor, factor)
    if any(f <= 0 or not math.isfinite(f) for f in both):
        return None
    stride = tuple(s / Fraction(f) for s, f in zip(grid.stride, both, strict=True))
    return Grid(stride, grid.dims)


_RULES: dict[Callable, Callable] = {
    **dict.fromkeys(_PERMUTE, _permuted),
    **dict.fromkeys(_TRANSPOSE, _transposed),
    torch.Tensor.__getitem__: _indexed,
    functional.interpolate: _interpolated,
}


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """In order, those within lists, tuples and dicts too."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _text(stride: Strides) -> str:
    return str(stride[0]) if stride[0] == stride[1] else f"{stride[0]} x {stride[1]}"
