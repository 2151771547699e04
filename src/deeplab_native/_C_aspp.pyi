"""The part of _C in csrc/bindings_aspp.cpp: the head of DeepLab on the CPU."""
# ruff: noqa: N999

from collections.abc import Sequence

from ._C_types import Pair, Quad, Triple

def aspp_gather_cpu(
    y: int,
    bias: int,
    out: int,
    size: Quad,
    padded: int,
    offsets: Sequence[Pair],
    channels_last: bool,
    dtype: str,
    num_threads: int,
    /,
) -> None: ...
def aspp_spread_cpu(
    map: int,
    y: int,
    size: Quad,
    padded: int,
    offsets: Sequence[Pair],
    channels_last: bool,
    dtype: str,
    num_threads: int,
    /,
) -> None: ...
def aspp_pack_cpu(
    weight: int,
    packed: int,
    size: Pair,
    index: Sequence[int],
    add: Sequence[bool],
    dtype: str,
    num_threads: int,
    /,
) -> None: ...
def aspp_unpack_cpu(
    packed: int, weight: int, size: Pair, index: Sequence[int], dtype: str, num_threads: int, /
) -> None: ...
def aspp_forward_cpu(
    input: int,
    # address of the weights, strides of filters, channels and taps, index of the taps
    branches: Sequence[tuple[int, Triple, Sequence[int]]],
    bias: int,
    out: int,
    size: Quad,
    channels_last: bool,
    filters: int,
    images: int,
    offsets: Sequence[Pair],
    dtype: str,
    num_threads: int,
    /,
) -> None: ...
def upsample_unary_cpu(
    scores: int,
    energies: int,
    size: Quad,
    stride: Quad,
    grid: Pair,
    out: Pair,
    dtype: str,
    num_threads: int,
    /,
) -> None: ...
def upsample_unary_backward_cpu(
    energies: int,
    grad: int,
    grad_sum: int,
    rows: int,
    grad_scores: int,
    size: Quad,
    grid: Pair,
    out: Pair,
    dtype: str,
    num_threads: int,
    /,
) -> None: ...
