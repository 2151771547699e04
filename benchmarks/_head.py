"""The ASPP head of ResNet-101 as benchmarks time it: 2048 channels, rates 6, 12, 18, 24."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce

import torch
import torch.nn.functional as F

from _timing import rotate
from deeplab_native import aspp, atrous_conv2d

CHANNELS = 2048
ROTATED = 8  # inputs that a benchmark on a GPU takes in turn, so that none is in its cache
RATES = (6, 12, 18, 24)


def sum_of_branches(convolution: Callable, rate_name: str, input, weights, biases) -> torch.Tensor:
    return reduce(
        torch.add,
        (
            convolution(input, w, b, padding=r, **{rate_name: r})
            for w, b, r in zip(weights, biases, RATES, strict=True)
        ),
    )


def fused(input, weights, biases) -> torch.Tensor:
    return aspp(input, weights, biases, RATES)


def run(function: Callable, leaves: list, backward: bool) -> None:
    with torch.set_grad_enabled(backward):
        out = function()
        if backward:
            torch.autograd.grad(out, leaves, torch.ones_like(out))


def head_functions(
    device: str, labels: int, batch: int, size: int, dtype: torch.dtype, backward: bool
) -> dict[str, Callable[[], object]]:
    """The ways to compute it; bench_aspp.py explains their names."""
    new = partial(torch.randn, dtype=dtype, device=device)
    biases = [new(labels).requires_grad_(backward) for _ in RATES]
    functions = {}
    count = 1 if device == "cpu" else ROTATED
    inputs = [new(batch, CHANNELS, size, size) for _ in range(count)]
    weights = [new(labels, CHANNELS, 3, 3) / 100 for _ in RATES]
    as_last = partial(torch.Tensor.contiguous, memory_format=torch.channels_last)
    last_inputs, last_weights = [as_last(t) for t in inputs], [as_last(t) for t in weights]
    conv = partial(sum_of_branches, F.conv2d, "dilation")
    branches = partial(sum_of_branches, atrous_conv2d, "rate")
    for name, function, own_inputs, own_weights in (
        ("conv", conv, inputs, weights),
        ("conv_cl", conv, last_inputs, last_weights),
        ("branches", branches, inputs, weights),
        ("fused", fused, inputs, weights),
        ("fused_cl", fused, last_inputs, weights),
    ):
        own_weights = [w.detach().requires_grad_(backward) for w in own_weights]
        calls = []
        for input in own_inputs:
            input = input.detach().requires_grad_(backward)
            call = partial(function, input, own_weights, biases)
            calls.append((call, [input, *own_weights, *biases], backward))
        functions[name] = rotate(run, calls)
    return functions


def head_ratios(timings: Mapping[str, Mapping[str, float]]) -> str:
    """The fused head against four `conv2d` of contiguous tensors, and of the better layout."""
    conv, last = timings["conv"]["median"], timings["conv_cl"]["median"]
    return ", ".join(
        f"{name} {conv / timings[name]['median']:.2f}x four conv2d,"
        f" {min(conv, last) / timings[name]['median']:.2f}x the better layout of them"
        for name in ("fused", "fused_cl")
    )
