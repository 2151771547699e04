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
from deeplab_native.layers import AtrousConv2d
from deeplab_native.models import create_model
from deeplab_native.models._inference import Ready, ready


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


def net_epilogue(device: torch.device, emulated: bool) -> Iterator[Case]:
    """ResNet-101 as `predict` runs it; emulated, a few of its first layers."""
    net = create_model("deeplab_resnet101", seed=0).to(device)
    if emulated:
        net.res3, net.res4, net.res5 = (torch.nn.Identity() for _ in range(3))
        net.fc1 = AtrousConv2d(256, 21, 1, device=device)
    for batch in (1,) if emulated else (1, 8):
        side = 17 if emulated else 513
        made = ready(net, "auto")
        inputs = [
            (torch.randn(batch, 3, side, side, device=device).mul_(50),)
            for _ in range(1 if emulated else 3)
        ]

        def run(x: torch.Tensor, made: Ready = made) -> torch.Tensor:
            with torch.inference_mode():
                x = x.to(made.dtype, memory_format=made.memory_format)
                return made(net, x).float()

        with torch.inference_mode():
            scale = float(run(*inputs[0]).abs().max())
        # bfloat16: 8 bits, over a hundred layers
        yield Case(f"resnet101 {side} x{batch}", run, inputs, tolerance=0.1 * scale)


# Switch -> its cases on a device; small ones, of the same kind, where the kernels are emulated.
CASES: dict[str, Callable[[torch.device, bool], Iterator[Case]]] = {
    "aspp_float_taps": partial(aspp_cases, dtype=torch.float32, last=True),
    "aspp_float_rows": aspp_float_cases,
    "aspp_transpose": partial(aspp_cases, dtype=torch.bfloat16, last=False),
    "net_epilogue": net_epilogue,
}
