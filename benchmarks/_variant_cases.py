"""What bench_variants.py runs for each switch of `deeplab_native._variants`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from _cuda_timing import Inputs


@dataclass(frozen=True)
class Case:
    """A call on rotating inputs; results of two choices may differ by `tolerance` (absolute)."""

    name: str
    fn: Callable[..., torch.Tensor]
    inputs: Inputs
    tolerance: float = 0.0


# Switch -> its cases on a device; small ones, of the same kind, where the kernels are emulated.
CASES: dict[str, Callable[[torch.device, bool], Iterator[Case]]] = {}
