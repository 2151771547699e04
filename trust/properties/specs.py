"""Tensors and arrays as short descriptions, so that a failing example can be read and typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Strides = tuple[int, ...]

FAMILIES = ("plain", "zeros", "small", "huge", "infinite", "nan", "mixed")
"""Of values: usual ones, zeros, denormals, near the largest number, some +-inf, some NaN, all."""

LAYOUTS = (
    "contiguous",
    "permuted",
    "channels_last",
    "sliced",
    "expanded",
    "offset",
)
"""Of tensors in memory; "expanded" has strides of 0."""

ARRAY_LAYOUTS = ("C", "F", "sliced", "reversed", "broadcast", "misaligned", "offset")
"""Of arrays; "misaligned" starts at an odd address, which torch's own operators cannot read."""


def _values(shape: tuple[int, ...], dtype: str, family: str, seed: int) -> np.ndarray:
    """float64 values; those that the dtype cannot hold become infinite, as users' would."""
    random = np.random.default_rng(seed)
    values = np.asarray(random.normal(0, 1, shape))
    largest = {"float16": 65504.0, "float64": 1.7e308}.get(dtype, 3.38e38)
    least = {"float16": 6e-8, "float64": 5e-324}.get(dtype, 1e-45)
    extremes = {
        "zeros": [0.0, -0.0],
        "small": [least, -least * 3, 0.0, 1.0],
        "huge": [largest, -largest, 1.0],
        "infinite": [np.inf, -np.inf, 1.0],
        "nan": [np.nan, 1.0],
        "mixed": [np.nan, np.inf, -np.inf, largest, least, 0.0, -0.0, 1.0],
    }
    if family == "zeros":
        return np.zeros(shape)
    if family in extremes:
        chosen = random.choice(extremes[family], shape)
        values = np.where(random.random(shape) < 0.3, chosen, values)
    return values


@dataclass(frozen=True)
class Tensor:
    """A torch tensor.

    Attributes:
        low, high: integers lie in between; floats of the family "plain" are scaled to it where it
            is given.
        kind: "plain", "grad" (a leaf that requires a gradient), "inference", "negated" (a view of
            which torch has yet to change the signs).
        device: "cpu" or "meta".
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "contiguous"
    family: str = "plain"
    seed: int = 0
    kind: str = "plain"
    low: float | None = None
    high: float | None = None
    device: str = "cpu"

    def make(self) -> torch.Tensor:
        if self.kind == "inference":
            with torch.inference_mode():
                return self._made()
        return self._made()

    def _made(self) -> torch.Tensor:
        tensor = _laid_out(self._contiguous(), self.layout)
        if self.device == "meta":
            tensor = tensor.to("meta")
        if self.kind == "grad" and (tensor.is_floating_point() or tensor.is_complex()):
            tensor.requires_grad_()
        return tensor

    def _contiguous(self) -> torch.Tensor:
        dtype = getattr(torch, self.dtype)
        if dtype.is_complex:
            parts = [_values(self.shape, "float32", self.family, self.seed + i) for i in (0, 1)]
            with np.errstate(invalid="ignore", over="ignore"):
                return torch.from_numpy(np.asarray(parts[0] + 1j * parts[1])).to(dtype)
        if not dtype.is_floating_point:
            random = np.random.default_rng(self.seed)
            low, high = int(self.low or 0), int(2 if self.high is None else self.high)
            drawn = torch.from_numpy(np.asarray(random.integers(low, high + 1, self.shape)))
            return drawn.to(dtype)
        values = torch.from_numpy(_values(self.shape, self.dtype, self.family, self.seed))
        if self.low is not None and self.high is not None and self.family == "plain":
            middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
            values = (middle + values * half / 2).clamp(self.low, self.high)
        values = values.to(dtype)
        return torch._neg_view(-values) if self.kind == "negated" else values


def _laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values (but for "expanded"), elsewhere in memory."""
    if layout == "permuted":
        order = list(reversed(range(tensor.ndim)))
        return tensor.permute(order).contiguous().permute(order)
    if layout == "channels_last" and tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "sliced" and tensor.ndim:
        wide = tensor.new_full([2 * n + 1 for n in tensor.shape], 7)
        part = wide[tuple(slice(1, 2 * n + 1, 2) for n in tensor.shape)]
        return part.copy_(tensor)
    if layout == "expanded" and tensor.ndim:
        return tensor[:1].expand(tensor.shape) if tensor.shape[0] else tensor
    if layout == "offset":
        wide = tensor.new_full((tensor.numel() + 3,), 7)
        return wide[3:].view(tensor.shape).copy_(tensor)
    return tensor


@dataclass(frozen=True)
class Array:
    """A NumPy array; `byteorder` ">" is big-endian, `writeable` False read-only memory."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "C"
    family: str = "plain"
    seed: int = 0
    low: float | None = None
    high: float | None = None
    byteorder: str = "="
    writeable: bool = True

    def make(self) -> np.ndarray:
        array = _array_laid_out(self._contiguous(), self.layout)
        if array.flags.writeable and not self.writeable:
            array.flags.writeable = False
        return array

    def _contiguous(self) -> np.ndarray:
        if self.dtype in ("object", "str"):
            values = np.zeros(self.shape, np.int64).astype(self.dtype)
            return values
        dtype = np.dtype(self.dtype)
        random = np.random.default_rng(self.seed)
        if dtype.kind in "iub":
            low, high = int(self.low or 0), int(2 if self.high is None else self.high)
            values = np.asarray(random.integers(low, high + 1, self.shape)).astype(dtype)
        else:
            values = _values(self.shape, self.dtype, self.family, self.seed)
            if self.low is not None and self.high is not None and self.family == "plain":
                middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
                values = np.clip(middle + values * half / 2, self.low, self.high)
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                values = values.astype(dtype)
        return np.asarray(values).astype(dtype.newbyteorder(self.byteorder))


def _array_laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "sliced":
        wide = np.ones([2 * n + 1 for n in array.shape], array.dtype)
        part = wide[tuple(slice(1, 2 * n + 1, 2) for n in array.shape)]
        part[...] = array
        return part
    if layout == "reversed":
        back = (slice(None, None, -1),) * array.ndim
        return array[back].copy()[back]
    if layout == "broadcast" and array.ndim and array.shape[0]:
        return np.broadcast_to(array[:1], array.shape)
    if layout == "misaligned" and not array.dtype.hasobject:
        buffer = np.zeros(array.nbytes + 1, np.uint8)
        part = buffer[1:].view(array.dtype).reshape(array.shape)
        part[...] = array
        return part
    if layout == "offset":
        wide = np.ones(array.size + 3, array.dtype)
        part = wide[3:].reshape(array.shape)
        part[...] = array
        return part
    return array


@dataclass(frozen=True)
class Same:
    """The very tensor or array of another argument, or a view of its memory in this shape."""

    name: str
    shape: tuple[int, ...] | None = None


def made(arguments: dict[str, Any]) -> dict[str, Any]:
    """What an op is called with, of descriptions."""
    done: dict[str, Any] = {}
    for name, value in arguments.items():
        if not isinstance(value, Same):
            done[name] = _made(value)
    for name, value in arguments.items():
        if isinstance(value, Same):
            other = done[value.name]
            done[name] = other if value.shape is None else _viewed(other, value.shape)
    return {name: done[name] for name in arguments}


def _made(value: Any) -> Any:
    if isinstance(value, (Tensor, Array)):
        return value.make()
    if isinstance(value, (list, tuple)):
        items = [_made(one) for one in value]
        if isinstance(value, list):
            return items
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def _viewed(other: Any, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    if isinstance(other, np.ndarray):
        return other.reshape(-1)[:count].reshape(shape)
    return other.detach().reshape(-1)[:count].view(shape)
