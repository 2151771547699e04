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

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .._integers import pair
from ..layers import AtrousAvgPool2d, AtrousConv2d, AtrousMaxPool2d
from ._atrous_calls import KINDS, Call, Change, Pair, WithAtrousCalls, read_call
from ._grid_rules import ONE, RULES, Grid, Lost, Strides, both, grid_of_result, tensors, text


@dataclass(frozen=True)
class Site:
    """A layer: a module, or the call of this kind and number within a module's forward."""

    module: nn.Module
    call: tuple[str, int] | None = None


_Known = tuple[torch.Tensor, Grid | Lost, tuple[int, ...]]  # a tensor, where it lay, its shape

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


def layer_of(module: nn.Module) -> tuple[str, Pair, Pair] | None:
    """(kind, kernel size, stride) of a module that can be changed by its attributes."""
    if isinstance(module, (nn.Conv2d, AtrousConv2d)):
        return "conv", pair("", module.kernel_size, least=1), pair("", module.stride, least=1)
    if isinstance(module, nn.ConvTranspose2d):
        return "transposed", pair("", module.kernel_size, least=1), pair("", module.stride, least=1)
    if isinstance(module, _PADS):
        return "pad", (1, 1), (1, 1)
    kind = _POOLS.get(type(module).forward)  # a subclass may pad by itself
    if kind is None or getattr(module, "return_indices", False):
        return None
    pool: Any = module
    return kind, pair("", pool.kernel_size, least=1), pair("", pool.stride, least=1)


class GridTrace(TorchFunctionMode):
    """Follows one forward pass; afterwards `changes` says what is to be done at which site.

    Attributes:
        changes: of every site that was met; some of them change nothing.
        calls: of sites that are calls, what they were.
        counts: of modules with calls, how many of each kind were in each run of their forward.
        problems: why the stride cannot be had, in order; empty where it can.
        stride: the largest stride of a layer's output, (vertical, horizontal).
        layers: how many convolutions, pools and pads were met on maps of known stride.
    """

    def __init__(self, model: nn.Module, target: int) -> None:
        super().__init__()
        self.target = target
        self.names = {module: name for name, module in model.named_modules()}
        self.changes: dict[Site, Change] = {}
        self.calls: dict[Site, Call] = {}
        self.counts: dict[nn.Module, list[dict[str, int]]] = {}
        self.problems: list[str] = []
        self.stride: Strides = ONE
        self.layers = 0
        self._met: dict[Site, Strides] = {}
        self._states: dict[int, tuple[torch.Tensor, Grid | Lost]] = {}  # keeps the tensors alive
        self._stack: list[nn.Module] = []
        self._within_layer = 0

    # ----- what the caller and the hooks tell

    def begin(self, inputs: tuple[Any, ...]) -> None:
        for tensor in tensors(inputs):
            if tensor.ndim == 4:
                self._states[id(tensor)] = tensor, Grid(ONE, (2, 3))

    def grid(self, tensor: object) -> Grid | None:
        state = self._state(tensor)
        return state if isinstance(state, Grid) else None

    def enter(self, module: nn.Module) -> None:
        self._stack.append(module)
        if isinstance(module, WithAtrousCalls):
            self.problem("was changed by another call of set_output_stride, on a part of the net")
        self.counts.setdefault(module, []).append(dict.fromkeys(set(KINDS.values()), 0))
        self._within_layer += layer_of(module) is not None

    def leave(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object
    ) -> None:
        layer = layer_of(module)
        self._within_layer -= layer is not None
        if layer is not None and not self._within_layer:
            kind, kernel, stride = layer
            input = next(tensors((args, kwargs)), None)
            if input is not None and isinstance(output, torch.Tensor):
                self._layer(Site(module), kind, kernel, stride, input, output)
        self._stack.pop()

    # ----- functions

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        kind = KINDS.get(func)
        number = 0
        if kind is not None and self._stack:
            number = self.counts[self._stack[-1]][-1][kind]
            for module in self._stack:
                self.counts[module][-1][kind] += 1
        before = [(t, self._state(t), tuple(t.shape)) for t in tensors((args, kwargs))]
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
        rule = RULES.get(func)
        for result in tensors(output):
            state = rule(self, args, kwargs, result) if rule else None
            if state is None:
                state = self._same_map(func, known, result)
            self._states[id(result)] = result, state
        return output

    def _same_map(
        self, func: Callable[..., Any], known: list[_Known], result: torch.Tensor
    ) -> Grid | Lost:
        """Functions that leave every pixel in its place: the result has a map's size."""
        found = (grid_of_result(state, shape, result) for _, state, shape in known)
        grids = [grid for grid in found if grid is not None]
        name = getattr(func, "__name__", str(func))
        if len({grid.stride for grid in grids}) > 1:
            strides = " and ".join(sorted({text(grid.stride) for grid in grids}))
            if any(self.rate(grid) != ONE for grid in grids):
                self.problem(f"{name} joins maps of the strides {strides}")
            return Lost(f"{name} joins maps of the strides {strides}")
        if grids:
            return grids[0]
        dense = [state for _, state, _ in known if isinstance(state, Grid)]
        if any(self.rate(grid) != ONE for grid in dense):
            self.problem(
                f"{name} makes something else of a map that would become denser (its result has "
                f"the shape {tuple(result.shape)}); give the part of the net before it"
            )
        why = next((state.why for _, state, _ in known if isinstance(state, Lost)), None)
        return Lost(why or f"{name} in {self.where()}")

    # ----- layers

    def rate(self, grid: Grid) -> Strides:
        """How many times denser the map will be."""
        return both(max(Fraction(1), s / self.target) for s in grid.stride)

    def _layer(
        self,
        site: Site,
        kind: str,
        kernel: Pair,
        stride: Pair,
        input: torch.Tensor,
        output: torch.Tensor,
    ) -> None:
        state = self._state(input)
        if state is None:
            if isinstance(input, torch.Tensor) and input.ndim == 4:
                self.problem("works on a tensor whose way from the input was not seen", site)
            return
        if isinstance(state, Lost):
            self._states[id(output)] = output, state
            if max(*kernel, *stride) > 1 or kind == "pad":  # what a single tap does not care for
                self.problem(f"works on a map of a stride unknown since {state.why}", site)
            return
        if input.ndim != 4 or state.dims != (2, 3):
            self.problem("works on something else than (B, C, H, W)", site)
            return
        if kind == "transposed":
            if self.rate(state) != ONE:
                self.problem("is a transposed convolution of a map that would be denser", site)
            after = both(s / step for s, step in zip(state.stride, stride, strict=True))
        else:
            after = both(s * step for s, step in zip(state.stride, stride, strict=True))
            # a single tap without stride and padding is the same at every rate, shared or not
            same_size = output.shape[-2:] == input.shape[-2:]
            if kind == "pad" or (*kernel, *stride) != (1, 1, 1, 1) or not same_size:
                self._change(site, state, after, stride)
        self.layers += 1
        self.stride = both(max(s, a) for s, a in zip(self.stride, after, strict=True))
        self._states[id(output)] = output, Grid(after, state.dims)

    def _change(self, site: Site, grid: Grid, after: Strides, stride: Pair) -> None:
        rates = self.rate(grid)
        limit = Fraction(self.target)
        kept = [min(a, limit) / min(s, limit) for s, a in zip(grid.stride, after, strict=True)]
        undone = [step / k for step, k in zip(stride, kept, strict=True)]
        if any(number.denominator != 1 for number in (*rates, *kept, *undone)):
            self.problem(
                f"takes the stride from {text(grid.stride)} to {text(after)}: {self.target} "
                "cannot be reached",
                site,
            )
            return
        change = Change(*(both(map(int, numbers)) for numbers in (rates, kept, undone)))
        if self.changes.setdefault(site, change) != change:
            strides = f"{text(self._met[site])} and {text(grid.stride)}"
            self.problem(f"is used at the strides {strides}: it would need two rates", site)
        self._met.setdefault(site, grid.stride)

    # ----- helpers

    def _state(self, tensor: object) -> Grid | Lost | None:
        found = self._states.get(id(tensor))
        return None if found is None else found[1]

    def where(self, site: Site | None = None) -> str:
        module = site.module if site else self._stack[-1] if self._stack else None
        if module is None:
            return "the model"
        name = self.names.get(module) or "the model"
        call = f", {site.call[0]} called in forward" if site and site.call else ""
        return f"{name} ({type(module).__name__}{call})"

    def problem(self, what: str, site: Site | None = None) -> None:
        self.problems.append(f"{self.where(site)} {what}")
