"""The native module: addresses, sizes and thread counts in; the callers check the arguments."""
# ruff: noqa: N999

__version__: str
has_cuda: bool

_Pair = tuple[int, int]
_Quad = tuple[int, int, int, int]

# ---- instruction set ----
def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...

# ---- atrous im2col ----
def atrous_im2col_cpu(
    map: int,
    columns: int,
    size: _Quad,
    map_stride: _Quad,
    kernel: _Pair,
    stride: _Pair,
    padding: _Pair,
    rate: _Pair,
    window: _Quad,
    element_size: int,
    num_threads: int,
) -> None: ...
def atrous_col2im_cpu(
    columns: int,
    map: int,
    size: _Quad,
    map_stride: _Quad,
    kernel: _Pair,
    stride: _Pair,
    padding: _Pair,
    rate: _Pair,
    window: _Quad,
    dtype: str,
    num_threads: int,
) -> None: ...

# ---- space to batch ----
def space_to_batch_cpu(
    map: int,
    blocks: int,
    size: _Quad,
    rate: _Pair,
    padding: _Pair,
    block: _Pair,
    element_size: int,
    channels_last: bool,
    num_threads: int,
) -> None: ...
def batch_to_space_cpu(
    blocks: int,
    map: int,
    size: _Quad,
    rate: _Pair,
    padding: _Pair,
    block: _Pair,
    element_size: int,
    channels_last: bool,
    num_threads: int,
) -> None: ...

# these two only where has_cuda
def space_to_batch_cuda(
    map: int,
    blocks: int,
    size: _Quad,
    rate: _Pair,
    padding: _Pair,
    block: _Pair,
    element_size: int,
    channels_last: bool,
    stream: int,
) -> None: ...
def batch_to_space_cuda(
    blocks: int,
    map: int,
    size: _Quad,
    rate: _Pair,
    padding: _Pair,
    block: _Pair,
    element_size: int,
    channels_last: bool,
    stream: int,
) -> None: ...
