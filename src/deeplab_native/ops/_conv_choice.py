"""What `atrous_conv2d(algorithm="auto")` takes: on CUDA an algorithm, on the CPU a layout."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import _C
from .._autograd import transforms_active
from .._logging import logger
from .._native import convolutions_use_tf32, memory_format
from ._conv_checks import computing_dtype, same_bits_asked
from .atrous_im2col import Pair

_log = logger(__name__)

# The least rate from which a copy to channels_last pays on the CPU, of layers with many filters and
# of few filters in training. `benchmarks/bench_conv.py` says below its table what it should be.
MANY_FILTERS = 128
CHANNELS_LAST_FROM_RATE = {"many": 8, "few": 12}

# On CUDA: within less than this factor, in either direction, a size is like a measured one.
NEAR_SIZE, NEAR_CHANNELS, NEAR_RATE, NEAR_BATCH = 1.25, 1.25, 1.5, 1.5


class Problem(NamedTuple):
    """A square filter of odd width, stride 1, that keeps the size of the map: what was measured."""

    capability: Pair
    dtype: str  # torch's, or tfloat32
    layout: str
    trains: bool
    same_bits: bool  # asked of torch
    channels: int
    filters: int
    kernel: int
    rate: int
    height: int
    width: int
    batch: int


def measured_choice(problem: Problem) -> str | None:
    """The algorithm that the table has for a problem; None where it does not say.

    A measured row decides for itself. Between them, all rows that are near have to agree, so that
    nothing is guessed where the fastest algorithm changes; without any, nothing was measured.
    """
    near: set[str] = set()
    for capability, *kind, channels, filters, kernel, rate, size, batch, algorithm in _rows():
        if (*capability, *kind, kernel) != (*problem.capability, *problem[1:5], problem.kernel):
            continue
        measured = channels, filters, rate, size, size, batch
        asked = problem[5:7] + problem[8:]
        if asked == measured:
            return str(algorithm)
        bounds = (NEAR_CHANNELS,) * 2 + (NEAR_RATE,) + (NEAR_SIZE,) * 2 + (NEAR_BATCH,)
        pairs = zip(asked, measured, bounds, strict=True)
        if all(max(a, m) < most * min(a, m) for a, m, most in pairs):
            near.add(algorithm)
    return near.pop() if len(near) == 1 else None


def algorithm_on_cuda(
    input: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair, rate: Pair
) -> str:
    """The native algorithm that is faster than torch's convolution; else "auto".

    Of checked tensors. Compilers and exporters get torch's convolution, which they know.
    """
    if not input.is_cuda or is_graph():
        return "auto"
    if max(rate) == 1 or not _C.has_cuda or not torch.backends.cudnn.enabled:
        return "auto"  # what follows is about dilated convolutions, and about torch with cuDNN
    dtype = computing_dtype(input)
    channels_last = not input.is_contiguous() and memory_format(input) == torch.channels_last
    trains = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    kind = dtype, _as_tf32(dtype), channels_last, trains, same_bits_asked()
    try:
        return _decide(input.device.index, kind, input.shape, weight.shape, stride, padding, rate)
    except TypeError:  # of sizes that are symbols: they have no hash
        return "auto"


@lru_cache(maxsize=4096)
def _decide(
    device: int | None,
    kind: tuple[torch.dtype, bool, bool, bool, bool],
    shape: torch.Size,
    filters: torch.Size,
    stride: Pair,
    padding: Pair,
    rate: Pair,
) -> str:
    """Kept by all that it depends on: a small convolution takes no longer than the choice."""
    dtype, as_tf32, channels_last, trains, same_bits = kind
    kernel = filters[2], filters[3]
    if max(kernel) == 1 or not shape.numel():
        return "auto"
    if (stride, kernel[0], rate[0]) == ((1, 1), kernel[1], rate[1]):
        problem = Problem(
            _capability(device),
            "tfloat32" if as_tf32 else str(dtype).removeprefix("torch."),
            "channels_last" if channels_last else "contiguous",
            *(trains, same_bits),
            *(shape[1], filters[0], kernel[0], rate[0], shape[2], shape[3], shape[0]),
        )
        keeps_size = all(
            2 * p == r * (k - 1) for p, r, k in zip(padding, rate, kernel, strict=True)
        )
        choice = measured_choice(problem) if keeps_size else None
        if choice is not None:
            _log.debug("%s: %s, as it was measured", problem, choice)
            return choice
    if same_bits and not channels_last and dtype != torch.bfloat16:
        # Asked for the same bits, torch leaves cuDNN out of dilated convolutions of contiguous maps
        # and unfolds them, image by image (`use_cudnn` in aten/src/ATen/native/Convolution.cpp;
        # https://github.com/pytorch/pytorch/issues/28777 has it 10 to 80 times slower); not of
        # bfloat16, as measured with torch 2.11. Convolutions without dilation keep cuDNN.
        return "space_to_batch" if stride == (1, 1) else "direct"
    return "auto"


@lru_cache(maxsize=1)
def _rows() -> list[list[Any]]:
    """Of the table that `benchmarks/conv_table.py` makes; its columns are named in it."""
    text = Path(__file__).with_name("_conv_measured.json").read_text(encoding="utf-8")
    rows: list[list[Any]] = json.loads(text)["rows"]
    return rows


def _capability(device: int | None) -> Pair:
    return torch.cuda.get_device_capability(device)


def is_graph() -> bool:
    """Whether what is called becomes a graph, for compilers and exporters."""
    # the latter is what torch.jit.is_tracing() asks
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _as_tf32(dtype: torch.dtype) -> bool:
    return dtype == torch.float32 and convolutions_use_tf32()


def in_better_layout(input: torch.Tensor, weight: torch.Tensor, rate: int) -> torch.Tensor:
    """The input for torch's convolution: in channels_last where that is faster, on the CPU.

    rate: the larger one.
    """
    if input.is_cpu and _skips_taps(input, weight, rate):
        if transforms_active():  # torch.vmap knows no other layout by name
            return input.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return input.contiguous(memory_format=torch.channels_last)
    return input


def _skips_taps(input: torch.Tensor, weight: torch.Tensor, rate: int) -> bool:
    """Where oneDNN then skips the taps in the padding and otherwise does not.

    Measured with 2 threads on AVX-512 cores (torch 2.13, one 41 x 41 map, milliseconds as it is /
    with the copy to channels_last): 512 -> 1024 filters rate 4 68 / 72, rate 6 60 / 69, rate 8
    85 / 61, rate 12 91 / 56, rate 18 81 / 47, rate 24 80 / 34; 512 -> 128 rate 12 14 / 8, rate 24
    12 / 5. Up to 64 filters the contiguous kernel skips them too: 512 -> 64 rate 12 3.6 / 4.4; the
    21 classes of ASPP, 2048 -> 21, rate 12 8 / 32. Its backward pass does not: forward and backward
    together, 2048 -> 21, rate 6 30 / 47, rate 12 92 / 53, rate 18 91 / 43.
    """
    many = weight.shape[0] >= MANY_FILTERS
    if rate < CHANNELS_LAST_FROM_RATE["many" if many else "few"] or input.dtype != torch.float32:
        return False
    trains = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    return (many or trains) and max(weight.shape[2:]) > 1
