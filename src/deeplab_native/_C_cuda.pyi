"""The part of _C in csrc/bindings_cuda.cpp, only where has_cuda: addresses of device memory."""
# ruff: noqa: N999

from collections.abc import Sequence

from ._C_types import Pair, Quad, Triple

# ---- atrous im2col ----
def atrous_im2col_cuda(
    map: int,
    columns: int,
    size: Quad,
    map_stride: Quad,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    window: Quad,
    element_size: int,
    stream: int,
    /,
) -> None: ...
def atrous_col2im_cuda(
    columns: int,
    map: int,
    size: Quad,
    map_stride: Quad,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    window: Quad,
    dtype: str,
    stream: int,
    /,
) -> None: ...

# ---- direct atrous convolution ----
def atrous_direct_cuda(
    map: int,
    weight: int,
    bias: int,
    out: int,
    partial: int,
    size: Quad,
    map_stride: Quad,
    out_size: Quad,
    out_stride: Quad,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    dtype: str,
    plan: Pair,
    stream: int,
    /,
) -> None: ...
def atrous_direct_map_gradient_cuda(
    grad: int,
    weight: int,
    grad_map: int,
    partial: int,
    size: Quad,
    map_stride: Quad,
    out_size: Quad,
    out_stride: Quad,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    dtype: str,
    plan: Pair,
    stream: int,
    /,
) -> None: ...
def atrous_direct_weight_gradient_cuda(
    map: int,
    grad: int,
    grad_weight: int,
    partial: int,
    size: Quad,
    map_stride: Quad,
    out_size: Quad,
    out_stride: Quad,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    dtype: str,
    plan: Pair,
    stream: int,
    /,
) -> None: ...

# ---- the same by ldmatrix and cp.async, and maps in the layout that it takes ----
def atrous_pipelined_first_tile_cuda(stream: int, /) -> int: ...
def atrous_pipelined_cuda(
    map: int,
    weight: int,
    bias: int,
    out: int,
    partial: int,
    size: Quad,
    map_stride: Quad,
    out_size: Quad,
    out_stride: Quad,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    dtype: str,
    plan: Pair,
    stream: int,
    /,
) -> None: ...
def channels_last_cuda(
    map: int,
    out: int,
    size: Triple,
    map_stride: Triple,
    padded: int,
    element_size: int,
    stream: int,
    /,
) -> None: ...

# ---- space to batch ----
def space_to_batch_cuda(
    map: int,
    blocks: int,
    size: Quad,
    rate: Pair,
    padding: Pair,
    block: Pair,
    element_size: int,
    channels_last: bool,
    stream: int,
    /,
) -> None: ...
def batch_to_space_cuda(
    blocks: int,
    map: int,
    size: Quad,
    rate: Pair,
    padding: Pair,
    block: Pair,
    element_size: int,
    channels_last: bool,
    stream: int,
    /,
) -> None: ...

# ---- aspp, upsample_unary ----
def aspp_gather_cuda(
    y: int,
    bias: int,
    out: int,
    size: Quad,
    padded: int,
    offsets: Sequence[Pair],
    channels_last: bool,
    map_channels_last: bool,
    dtype: str,
    stream: int,
    /,
) -> None: ...
def aspp_spread_cuda(
    map: int,
    y: int,
    size: Quad,
    padded: int,
    offsets: Sequence[Pair],
    channels_last: bool,
    dtype: str,
    stream: int,
    /,
) -> None: ...
def aspp_transpose_cuda(
    source: int, target: int, size: Triple, dtype: str, stream: int, /
) -> None: ...

# branches, and filter taps, that aspp_pack_cuda takes at once
def most_packed_cuda() -> tuple[int, int]: ...
def aspp_pack_cuda(
    weights: Sequence[tuple[int, Sequence[int]]],  # address, index of the taps
    biases: Sequence[int],
    packed: int,
    bias: int,
    size: Quad,
    dtype: str,
    packed_dtype: str,
    stream: int,
    /,
) -> None: ...
def aspp_unpack_cuda(
    packed: int, weight: int, size: Pair, index: Sequence[int], dtype: str, stream: int, /
) -> None: ...
def upsample_unary_cuda(
    scores: int,
    energies: int,
    size: Quad,
    stride: Quad,
    grid: Pair,
    out: Pair,
    dtype: str,
    stream: int,
    /,
) -> None: ...
def upsample_unary_backward_cuda(
    energies: int,
    grad: int,
    grad_sum: int,
    rows: int,
    grad_scores: int,
    size: Quad,
    grid: Pair,
    out: Pair,
    dtype: str,
    stream: int,
    /,
) -> None: ...

# ---- after a convolution ----
def conv_epilogue_cuda(
    map: int,
    bias: int,
    residual: int,
    size: tuple[int, int, int],
    channels_last: bool,
    low: float,
    high: float,
    dtype: str,
    stream: int,
    /,
) -> None: ...
