"""Denser score maps from a trained net: strides out, holes in (DeepLab v2, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from .._integers import integer
from .._native import check_tensor
from ._edits import EDITS, Edit, apply, check_untouched, edits_for, revert
from ._evaluation import evaluating
from ._grid import GridTrace
from ._grid_rules import Grid
from .base import DeepLab

Model = TypeVar("Model", bound=nn.Module)

_SIZE = (97, 65)  # 32 m + 1: every stride up to 32 has pixels at both borders
# Of what is compared, relative to the largest value. A pixel that is taken from the wrong place is
# off by more than the rough one, which is for 2-byte types, and for GPUs, where float32 may be
# multiplied as tfloat32.
_TOLERANCE = {("cpu", torch.float32): 1e-3, ("cpu", torch.float64): 1e-8}
_ROUGH = 0.05


def set_output_stride(
    model: Model, output_stride: int, *, inputs: Sequence[torch.Tensor] | None = None
) -> Model:
    """Makes a convolutional net's maps at most `output_stride` input pixels apart, in place.

    The last layers that stride get stride 1 (or what is left of it), and every later convolution
    and pool becomes its atrous form: rate and padding grow by the stride that was taken out before
    it. The weights stay, and so do the answers: the denser map, sampled at every k-th pixel, is
    the original net's map. This is shown before the function returns: the net runs before and
    after the change on the same noise, and every module's output is compared.

    It works for every net whose maps come from convolutions, pools and what acts on single
    pixels, whatever order its modules stand in: residual branches, concatenations, several
    inputs, functions such as `F.max_pool2d` called in `forward` (by way of a subclass that stands
    in for the module's class). What does not stay the same on a denser grid is refused: global or
    adaptive pooling, flattening, transposed convolutions, normalisation over the map.
    With zeros around the maps, the usual padding, this holds at every input size. Reflected or
    replicated borders and TensorFlow's "SAME" rule depend on a map's size: for them it holds at
    heights and widths of a multiple of the original stride plus 1, and is shown at one such size.

    Call it again for another stride; the net's own brings back the original.

    Args:
        model: any module with maps (B, C, H, W). Its hooks run with it, in evaluation mode.
        output_stride: input pixels a pixel, at least 1: usually 32, 16, 8 or 4. 8 costs 16 times
            as much as 32 in the layers between.
        inputs: example inputs, maps of one resolution; None takes noise (1, 3, 97, 65).

    Returns:
        The model; a net of `create_model` has its `output_stride` set as well.

    Raises:
        TypeError: an argument has another type.
        ValueError: the net has not so large a stride, or cannot have this one; the module in the
            way is named. Or the net does not take the inputs. The model is left as it was.

    Source: DeepLab v2, section 3.1.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    target = integer("output_stride", output_stride, least=1)
    examples = _examples(model, inputs)
    before: list[Edit] = model.__dict__.get(EDITS, [])
    check_untouched(before)
    edits: list[Edit] = []
    with _one_scale(model), evaluating(model), torch.no_grad():
        revert(before)
        try:
            edits = _follow_and_compare(model, target, examples)
        except BaseException:
            apply(before)
            raise
    model.__dict__[EDITS] = edits
    return model


def _follow_and_compare(
    model: nn.Module, target: int, examples: tuple[torch.Tensor, ...]
) -> list[Edit]:
    trace = GridTrace(model, target)
    outputs = _Outputs(trace)
    inputs = _copies(examples)
    trace.begin(inputs)
    with _hooks(model, trace.enter, outputs.record):
        try:
            with trace:
                model(*inputs)
        except Exception as error:
            shapes = ", ".join(str(tuple(example.shape)) for example in examples)
            raise ValueError(
                f"model: expected one that takes inputs of shape {shapes} (give others as "
                f"`inputs`); it raised {type(error).__name__}: {error}"
            ) from error
    if trace.problems:
        raise ValueError(f"output_stride: {target} cannot be had: {trace.problems[0]}")
    if not trace.layers:
        raise ValueError("model: expected a net of convolutions or pools, found none on its input")
    if max(trace.stride) < target:
        raise ValueError(
            f"output_stride: the net's own stride is {max(trace.stride)}, and only a smaller one "
            f"can be made of it, got {target}"
        )
    edits = edits_for(trace)
    if not edits:
        return edits  # it is the net's own stride
    if isinstance(model, DeepLab):
        edits.append(Edit.of("the model", model, output_stride=target))
    apply(edits)
    try:
        with _hooks(model, lambda module: None, outputs.compare):
            model(*_copies(examples))
        if outputs.difference:
            raise ValueError(f"output_stride: {target} cannot be had: {outputs.difference}")
    except BaseException:
        revert(edits)
        raise
    return edits


def _copies(examples: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """A net may work on its input in place."""
    return tuple(example.clone() for example in examples)


class _Outputs:
    """Every module's output in the original net, and where the changed one first differs."""

    def __init__(self, trace: GridTrace) -> None:
        self.trace = trace
        self.expected: list[tuple[nn.Module, torch.Tensor, Grid] | None] = []
        self.difference = ""
        self._next = 0

    def record(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        self.trace.leave(module, args, kwargs, output)
        grid = self.trace.grid(output)
        # a copy: what comes next may work in place
        self.expected.append(None if grid is None else (module, output.clone(), grid))

    def compare(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        expected = self.expected[self._next] if self._next < len(self.expected) else None
        self._next += 1
        if expected is None or self.difference:
            return
        own_module, own, grid = expected
        if module is not own_module or not isinstance(output, torch.Tensor):
            self.difference = f"forward takes another way from {self._name(own_module)} on"
            return
        sampled = output
        for dim, rate in zip(grid.dims, self.trace.rate(grid), strict=True):
            pixels = torch.arange(0, output.shape[dim], int(rate), device=output.device)
            sampled = sampled.index_select(dim, pixels)
        if sampled.shape != own.shape:
            self.difference = (
                f"the output of {self._name(module)} has the size {tuple(sampled.shape)} at the "
                f"original pixels, and {tuple(own.shape)} before"
            )
        elif not own.is_meta and not _close(sampled, own):
            self.difference = (
                f"{self._name(module)} gives other values at the original pixels: it looks at the "
                "whole map, or pads by a rule that a rate cannot follow"
            )

    def _name(self, module: nn.Module) -> str:
        return f"{self.trace.names.get(module) or 'the model'} ({type(module).__name__})"


def _close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    if not expected.is_floating_point():
        return torch.equal(actual, expected)
    finite = expected[expected.isfinite()]
    largest = finite.abs().max().item() if finite.numel() else 0.0
    tolerance = _TOLERANCE.get((expected.device.type, expected.dtype), _ROUGH) * largest
    return torch.allclose(actual, expected, rtol=0, atol=tolerance, equal_nan=True)


def _examples(model: nn.Module, inputs: Sequence[torch.Tensor] | None) -> tuple[torch.Tensor, ...]:
    if inputs is not None:
        if not isinstance(inputs, (list, tuple)) or not inputs:
            raise TypeError(
                f"inputs: expected a list or tuple of tensors, got {type(inputs).__name__}"
            )
        for i, tensor in enumerate(inputs):
            check_tensor(f"inputs[{i}]", tensor)
        if len({tuple(tensor.shape[2:]) for tensor in inputs if tensor.ndim == 4}) != 1:
            shapes = [tuple(tensor.shape) for tensor in inputs]
            raise ValueError(
                f"inputs: expected maps (B, C, H, W) of one height and width, got {shapes}"
            )
        return tuple(inputs)
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    # a generator of its own: the caller's random state stays
    noise = torch.randn((1, 3, *_SIZE), generator=torch.Generator().manual_seed(0))
    return (noise.to(device=parameter.device, dtype=parameter.dtype),)


@contextmanager
def _hooks(
    model: nn.Module, enter: Callable[[nn.Module], None], leave: Callable[..., None]
) -> Iterator[None]:
    handles = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(lambda m, args: enter(m)))
            # the result of `leave` is dropped: a hook's would replace the output
            handles.append(module.register_forward_hook(_leaving(leave), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _leaving(leave: Callable[..., None]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        leave(module, args, kwargs, output)

    return hook


@contextmanager
def _one_scale(model: nn.Module) -> Iterator[None]:
    """Nets of several input scales run the same layers at each: one of them shows all."""
    nets = [m for m in model.modules() if isinstance(m, DeepLab) and hasattr(m, "scales")]
    scales = [net.scales for net in nets]
    try:
        for net in nets:
            net.scales = (1.0,)
        yield
    finally:
        for net, own in zip(nets, scales, strict=True):
            net.scales = own
