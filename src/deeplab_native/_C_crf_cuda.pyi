"""The part of _C in csrc/bindings_crf_cuda.cpp, only where has_cuda: lattice and mean field."""
# ruff: noqa: N999

from collections.abc import Sequence

from ._C_types import Triple

_Order = tuple[int, int]  # of the points: width of the image, tile
# images, points, d, like_pydensecrf, order, bridged_room
_LatticeSize = tuple[int, int, int, bool, _Order, int]
# size, replicas, addresses: lattice, splat entries, slice weights, the filter's memory; half_scale
_Filter = tuple[_LatticeSize, int, int, int, int, int, float]
_Batch = Triple  # batch, labels, points

def lattice_bytes_cuda(size: _LatticeSize, /) -> int: ...
def lattice_scratch_bytes_cuda(size: _LatticeSize, /) -> int: ...
def lattice_entries_cuda(size: _LatticeSize, /) -> int: ...
def vertex_begin_cuda(size: _LatticeSize, lattice: int, /) -> int: ...
def build_lattice_cuda(
    size: _LatticeSize,
    features: int,
    strides: Triple,
    near: bool,
    lattice: int,
    scratch: int,
    stream: int,
    /,
) -> None: ...
def fold_weights_cuda(
    dtype: str,
    size: _LatticeSize,
    lattice: int,
    scale_in: int,
    scale_out: int,
    splat_entries: int,
    slice_weights: int,
    stream: int,
    /,
) -> None: ...
def lattice_scale_bytes_cuda(size: _LatticeSize, /) -> int: ...
def lattice_scale_cuda(
    size: _LatticeSize, lattice: int, rows: int, scale: int, root: bool, stream: int, /
) -> None: ...
def filter_bytes_cuda(dtype: str, filter: _Filter, channels: int, /) -> int: ...
def permutohedral_filter_cuda(
    dtype: str,
    filter: _Filter,
    values: int,
    out: int,
    channels: int,
    transposed: bool,
    stream: int,
    /,
) -> None: ...
def lattice_gradient_cuda(
    dtype: str,
    of_x: _Filter,
    of_g: _Filter,
    x: int,
    g: int,
    back: int,
    scales: tuple[int, int],  # of what comes in, of what goes out
    weights: int,
    of_scales: int,
    channels: int,
    transposed: bool,
    stream: int,
    /,
) -> None: ...
def features_gradient_cuda(
    dtype: str,
    size: _LatticeSize,
    features: int,
    strides: Triple,
    lattice: int,
    weights: int,
    out: int,
    stream: int,
    /,
) -> None: ...
def mean_field_width_cuda(labels: int, /) -> int: ...
def labels_to_rows_cuda(
    dtype: str,
    size: _Batch,
    order: _Order,
    values: int,
    rows: int,
    factor: float,
    padding: float,
    stream: int,
    /,
) -> None: ...
def rows_to_labels_cuda(
    dtype: str, size: _Batch, order: _Order, rows: int, values: int, stream: int, /
) -> None: ...
def mean_field_cuda(
    dtype: str,
    size: _Batch,
    kernels: Sequence[tuple[_Filter, int, int]],  # with kind and address of the compatibility
    negative_unary: int,
    q: int,
    scratch: int,
    updates: int,
    q_is_given: bool,
    softmax: bool,
    stream: int,
    /,
) -> None: ...
def hot_labels_bytes_cuda(size: _Batch, updates: int, /) -> int: ...
def hot_mean_field_cuda(
    size: _Batch,
    kernels: Sequence[tuple[_Filter, int, int]],
    negative_unary: int,
    q: int,
    memory: int,
    updates: int,
    stream: int,
    /,
) -> None: ...
def hot_rows_to_labels_cuda(
    size: _Batch,
    order: _Order,
    rows: int,
    values: int,
    memory: int,
    updates: int,
    stream: int,
    /,
) -> None: ...
def pairwise_features_cuda(
    image: int,
    dtype: str,
    strides: Sequence[int],
    batch: int,
    size: Sequence[int],
    sigmas: Sequence[float],
    channel_sigmas: Sequence[float],
    features: int,
    stream: int,
    /,
) -> None: ...
