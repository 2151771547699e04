"""Nets made ready for inference: in evaluation mode, folded, in the precision that is wanted.

What is made of a net is kept as long as the net lives, and made again once the net has changed: its
modules, their settings, or its weights (see `Snapshot`). The net itself is not touched.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from .._fork import ForkSafeLock
from ._edits import EDITS
from ._evaluation import evaluating
from ._snapshot import Snapshot

PRECISIONS = ("auto", "model", "float32", "bfloat16", "float16")
_NARROW = (torch.bfloat16, torch.float16)

_kept: weakref.WeakKeyDictionary[nn.Module, dict[str, Ready]] = weakref.WeakKeyDictionary()
_lock = ForkSafeLock()


class Ready:
    """A net for inference, on one device and in one precision.

    Attributes:
        device: of the first parameter; the CPU where there is none.
        dtype, memory_format: that its input should have.
    """

    def __init__(self, net: nn.Module, precision: str) -> None:
        self._snapshot = Snapshot(net)
        self._weights = self._snapshot.weights()
        parameter = next(net.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        own = torch.float32 if parameter is None else parameter.dtype
        self.device = device
        is_ours = self._snapshot.is_ours and self._weights is not None
        wanted = _dtype(precision, own, device, is_ours)
        self.dtype = wanted if is_ours else own
        self.memory_format = _layout(device, self.dtype)
        self._autocast = None if is_ours or wanted == own else wanted
        self._copy: nn.Module | None = None
        if is_ours:
            # tensors of the net itself where they are as they should be already
            shared = wanted == own and (device.type == "cpu" or own not in _NARROW)
            self._copy = _copy(net, None if shared else wanted, self.memory_format, {})
        self._home = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._made = None if self._home is None else self._home.record_event()
        self._streams = {self._home}

    def fits(self, net: nn.Module) -> bool:
        """Whether the net is as it was."""
        return self._snapshot.fits(net) and self._weights == self._snapshot.weights()

    def __call__(self, net: nn.Module, input: torch.Tensor) -> torch.Tensor:
        """What `net`, of which this was made, gives in evaluation mode; under `inference_mode`."""
        scores: torch.Tensor
        if self._copy is not None:
            if input.device.type == "cuda":
                self._use_on(torch.cuda.current_stream(input.device))
            scores = self._copy(input)
            return scores
        autocast: AbstractContextManager[Any] = nullcontext()
        if self._autocast is not None:
            autocast = torch.autocast(input.device.type, dtype=self._autocast)
        with self._evaluating(net), autocast:
            scores = net(input)
        return scores

    def _use_on(self, stream: torch.cuda.Stream) -> None:
        """The stream waits until the copy is there, and the copy's memory waits for the stream."""
        if stream in self._streams or self._copy is None or self._made is None:
            return
        stream.wait_event(self._made)
        for tensor in (*self._copy.parameters(), *self._copy.buffers()):
            tensor.record_stream(stream)
        self._streams.add(stream)

    @contextmanager
    def _evaluating(self, net: nn.Module) -> Iterator[None]:
        """As `evaluating`, by the list of the modules where nobody's own `eval` does more."""
        if self._snapshot.has_own_modes:
            with evaluating(net):
                yield
            return
        training = [m for m in self._snapshot.modules(net) if m.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


def ready(net: nn.Module, precision: str) -> Ready:
    """The net for inference on the device it is on, made anew where it has changed.

    `precision` is one of `PRECISIONS`. A net on CUDA is made ready on the current stream, without
    a wait for it.
    """
    with _lock:
        kept = _kept.setdefault(net, {})
        found = kept.get(precision)
    if found is None or not found.fits(net):
        with torch.inference_mode(False), torch.no_grad():
            found = Ready(net, precision)
        with _lock:
            kept[precision] = found
    return found


def forget(net: nn.Module) -> None:
    """What was made of the net is made again at its next use."""
    with _lock:
        _kept.pop(net, None)


def check_precision(precision: str) -> str:
    """Raises ValueError unless it is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}; got {precision!r}")
    return precision


def _dtype(precision: str, own: torch.dtype, device: torch.device, is_ours: bool) -> torch.dtype:
    """`own` is that of the net's parameters."""
    if precision == "auto":
        fast = is_ours and own == torch.float32 and _multiplies_bfloat16(device)
        return torch.bfloat16 if fast else own
    if precision == "model":
        return own
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has tensor cores for it, which came with compute capability 8.0."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _layout(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """channels_last where it is faster: on the CPU for every net, on CUDA for tensor cores.

    CPU, 375 x 500 with two threads: VGG-16 12 to 16 %, ResNet-101 3 to 6 %, MobileNetV2 17 %, and
    twice as fast at stride 16.
    """
    narrow = device.type == "cuda" and dtype in _NARROW
    return torch.channels_last if device.type == "cpu" or narrow else torch.preserve_format


def _copy(
    module: nn.Module,
    dtype: torch.dtype | None,
    layout: torch.memory_format,
    made: dict[int, nn.Module],
) -> nn.Module:
    """The module and what it consists of, in evaluation mode; what folds is folded.

    Where `dtype` is None, weights that are not folded are the module's own tensors.
    """
    if id(module) in made:
        return made[id(module)]
    fold: Callable[..., nn.Module | None] | None = getattr(module, "folded", None)
    narrow = layout if dtype in _NARROW else torch.preserve_format
    copy = None if fold is None else fold(dtype, narrow)
    if copy is None:
        copy = object.__new__(type(module))
        own = dict(module.__dict__, training=False)
        own.pop(EDITS, None)  # it has the net itself, which a copy must not keep alive
        for kind in ("_parameters", "_buffers"):
            own[kind] = {
                name: None if tensor is None else _converted(tensor, dtype, layout)
                for name, tensor in module.__dict__[kind].items()
            }
        own["_modules"] = {
            name: None if child is None else _copy(child, dtype, layout, made)
            for name, child in module._modules.items()
        }
        copy.__dict__ = own
    made[id(module)] = copy
    return copy


def _converted(
    tensor: torch.Tensor, dtype: torch.dtype | None, layout: torch.memory_format
) -> torch.Tensor:
    if dtype is None or not tensor.is_floating_point():
        return tensor
    if tensor.ndim == 4:
        return tensor.detach().to(dtype, memory_format=layout)
    return tensor.detach().to(dtype)
