"""What bench_variants.py runs for each switch of `deeplab_native._variants`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from _cuda_timing import Inputs
from _head import RATES
from deeplab_native import aspp


@dataclass(frozen=True)
class Case:
    """A call on rotating inputs; results of two choices may differ by `tolerance` (absolute)."""

    name: str
    fn: Callable[..., torch.Tensor]
    inputs: Inputs
    tolerance: float = 0.0


def aspp_cases(
    device: torch.device, emulated: bool, dtype: torch.dtype, last: bool
) -> Iterator[Case]:
    """ResNet-101's head, in its sizes: maps of an odd number of pixels."""
    channels, labels = (16, 5) if emulated else (2048, 21)
    for batch, size in [(2, 7)] if emulated else itertools.product((1, 8), (41, 65)):
        new = partial(torch.randn, device=device)
        weights = [new(labels, channels, 3, 3).to(dtype) / 100 for _ in RATES]
        biases = [new(labels).to(dtype) for _ in RATES]
        layout = torch.channels_last if last else torch.contiguous_format
        maps = [new(batch, channels, size, size).to(dtype) for _ in range(1 if emulated else 8)]
        inputs = [(map.contiguous(memory_format=layout), weights, biases, RATES) for map in maps]
        kind = str(dtype).removeprefix("torch.") + (", channels_last" if last else "")
        name = f"head, {batch} x {size} x {size}, {kind}"
        yield Case(name, aspp, inputs, 1e-4 if dtype == torch.float32 else 0.0)


def aspp_float_cases(device: torch.device, emulated: bool) -> Iterator[Case]:
    for last in (False, True):
        yield from aspp_cases(device, emulated, torch.float32, last)


# Switch -> its cases on a device; small ones, of the same kind, where the kernels are emulated.
CASES: dict[str, Callable[[torch.device, bool], Iterator[Case]]] = {
    "aspp_float_taps": partial(aspp_cases, dtype=torch.float32, last=True),
    "aspp_float_rows": aspp_float_cases,
    "aspp_transpose": partial(aspp_cases, dtype=torch.bfloat16, last=False),
}
