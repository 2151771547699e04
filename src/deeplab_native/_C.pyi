"""The native module: addresses, sizes and thread counts in; the callers check the arguments."""
# ruff: noqa: N999

from collections.abc import Sequence

__version__: str
has_cuda: bool
cuda_architectures: str  # as CMake writes them: "75-real, 80-real, 90"; empty without CUDA

_Pair = tuple[int, int]
_Triple = tuple[int, int, int]
_Quad = tuple[int, int, int, int]

# ---- instruction set ----
def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def release_memory() -> None: ...
def kept_memory() -> int: ...

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

# these two only where has_cuda
def atrous_im2col_cuda(
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
    stream: int,
) -> None: ...
def atrous_col2im_cuda(
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
    stream: int,
) -> None: ...

# ---- direct atrous convolution; only where has_cuda ----
def atrous_direct_cuda(
    map: int,
    weight: int,
    bias: int,
    out: int,
    partial: int,
    size: _Quad,
    map_stride: _Quad,
    out_size: _Quad,
    out_stride: _Quad,
    kernel: _Pair,
    stride: _Pair,
    padding: _Pair,
    rate: _Pair,
    dtype: str,
    plan: _Pair,
    stream: int,
) -> None: ...
def atrous_direct_map_gradient_cuda(
    grad: int,
    weight: int,
    grad_map: int,
    partial: int,
    size: _Quad,
    map_stride: _Quad,
    out_size: _Quad,
    out_stride: _Quad,
    kernel: _Pair,
    stride: _Pair,
    padding: _Pair,
    rate: _Pair,
    dtype: str,
    plan: _Pair,
    stream: int,
) -> None: ...
def atrous_direct_weight_gradient_cuda(
    map: int,
    grad: int,
    grad_weight: int,
    partial: int,
    size: _Quad,
    map_stride: _Quad,
    out_size: _Quad,
    out_stride: _Quad,
    kernel: _Pair,
    stride: _Pair,
    padding: _Pair,
    rate: _Pair,
    dtype: str,
    plan: _Pair,
    stream: int,
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

# ---- aspp, upsample_unary ----
def aspp_gather_cpu(
    y: int,
    bias: int,
    out: int,
    size: _Quad,
    padded: int,
    offsets: list[_Pair],
    channels_last: bool,
    dtype: str,
    num_threads: int,
) -> None: ...
def aspp_spread_cpu(
    map: int,
    y: int,
    size: _Quad,
    padded: int,
    offsets: list[_Pair],
    channels_last: bool,
    dtype: str,
    num_threads: int,
) -> None: ...
def aspp_pack_cpu(
    weight: int,
    packed: int,
    size: _Pair,
    index: list[int],
    add: list[bool],
    dtype: str,
    num_threads: int,
) -> None: ...
def aspp_unpack_cpu(
    packed: int, weight: int, size: _Pair, index: list[int], dtype: str, num_threads: int
) -> None: ...
def aspp_forward_cpu(
    input: int,
    branches: list[tuple[int, _Triple, list[int]]],
    bias: int,
    out: int,
    size: _Quad,
    channels_last: bool,
    filters: int,
    images: int,
    offsets: list[_Pair],
    dtype: str,
    num_threads: int,
) -> None: ...
def upsample_unary_cpu(
    scores: int,
    energies: int,
    size: _Quad,
    stride: _Quad,
    grid: _Pair,
    out: _Pair,
    dtype: str,
    num_threads: int,
) -> None: ...
def upsample_unary_backward_cpu(
    energies: int,
    grad: int,
    grad_sum: int,
    rows: int,
    grad_scores: int,
    size: _Quad,
    grid: _Pair,
    out: _Pair,
    dtype: str,
    num_threads: int,
) -> None: ...

# these only where has_cuda
def aspp_gather_cuda(
    y: int,
    bias: int,
    out: int,
    size: _Quad,
    padded: int,
    offsets: list[_Pair],
    channels_last: bool,
    dtype: str,
    stream: int,
) -> None: ...
def aspp_spread_cuda(
    map: int,
    y: int,
    size: _Quad,
    padded: int,
    offsets: list[_Pair],
    channels_last: bool,
    dtype: str,
    stream: int,
) -> None: ...
def aspp_pack_cuda(
    weight: int,
    packed: int,
    size: _Pair,
    index: list[int],
    add: list[bool],
    dtype: str,
    stream: int,
) -> None: ...
def aspp_unpack_cuda(
    packed: int, weight: int, size: _Pair, index: list[int], dtype: str, stream: int
) -> None: ...
def upsample_unary_cuda(
    scores: int,
    energies: int,
    size: _Quad,
    stride: _Quad,
    grid: _Pair,
    out: _Pair,
    dtype: str,
    stream: int,
) -> None: ...
def upsample_unary_backward_cuda(
    energies: int,
    grad: int,
    grad_sum: int,
    rows: int,
    grad_scores: int,
    size: _Quad,
    grid: _Pair,
    out: _Pair,
    dtype: str,
    stream: int,
) -> None: ...

# ---- permutohedral lattice ----
max_feature_dim: int

class Lattice:
    num_vertices: int

def build_image_lattice_cpu(
    image: int,
    dtype: str,
    strides: tuple[int, ...],
    height: int,
    width: int,
    sigma_x: float,
    sigma_y: float,
    sigma_colour: Sequence[float],
    num_threads: int,
) -> Lattice: ...
def check_image_features_cpu(
    image: int,
    dtype: str,
    strides: tuple[int, ...],
    height: int,
    width: int,
    sigma_x: float,
    sigma_y: float,
    sigma_colour: Sequence[float],
    num_threads: int,
) -> None: ...
def build_lattice_cpu(
    features: int,
    n: int,
    d: int,
    point_stride: int,
    dim_stride: int,
    num_threads: int,
    like_pydensecrf: bool,
    width: int = 0,
) -> Lattice: ...
def check_features_cpu(
    features: int,
    n: int,
    d: int,
    point_stride: int,
    dim_stride: int,
    num_threads: int,
    like_pydensecrf: bool,
) -> None: ...
def permutohedral_filter_cpu_float(
    lattice: Lattice, values: int, out: int, num_channels: int, transposed: bool
) -> None: ...
def permutohedral_filter_cpu_double(
    lattice: Lattice, values: int, out: int, num_channels: int, transposed: bool
) -> None: ...

# ---- mean field ----
def pairwise_features_cpu(
    image: int,
    dtype: str,
    strides: tuple[int, int, int],
    height: int,
    width: int,
    sigma_x: float,
    sigma_y: float,
    sigma_colour: list[float],
    features: int,
    num_threads: int,
) -> None: ...
def all_finite_cpu_float(values: int, count: int, num_threads: int) -> bool: ...
def all_finite_cpu_double(values: int, count: int, num_threads: int) -> bool: ...

class MeanFieldFloat:
    num_kernels: int
    def __init__(
        self, num_points: int, num_labels: int, num_threads: int, width: int = 0
    ) -> None: ...
    def add_kernel(
        self, lattice: Lattice, kind: int, compatibility: list[float], normalization: int
    ) -> None: ...
    def set_unary(self, unary: int) -> None: ...
    def inference(self, q: int, iterations: int) -> None: ...
    def start(self, q: int) -> None: ...
    def step(self, q: int, next: int) -> None: ...
    def kl_divergence(self, q: int) -> float: ...
    def filter(self, kernel: int, values: int, out: int, transposed: bool) -> None: ...
    def num_vertices(self, kernel: int) -> int: ...

class MeanFieldDouble(MeanFieldFloat): ...

# ---- lattice and mean field on CUDA; only where has_cuda ----
_LatticeSize = tuple[int, int, int, bool]  # images, points, d, like_pydensecrf
# size, replicas, addresses of the lattice, its two arrays of weights and the filter's memory
_Filter = tuple[_LatticeSize, int, int, int, int, int]
_Batch = tuple[int, int, int]  # batch, labels, points

def lattice_bytes_cuda(size: _LatticeSize) -> int: ...
def lattice_scratch_bytes_cuda(size: _LatticeSize) -> int: ...
def lattice_entries_cuda(size: _LatticeSize) -> int: ...
def vertex_begin_cuda(size: _LatticeSize, lattice: int) -> int: ...
def build_lattice_cuda(
    size: _LatticeSize,
    features: int,
    strides: tuple[int, int, int],
    lattice: int,
    scratch: int,
    stream: int,
) -> None: ...
def fold_weights_cuda(
    dtype: str,
    size: _LatticeSize,
    lattice: int,
    scale_in: int,
    scale_out: int,
    splat_weights: int,
    slice_weights: int,
    stream: int,
) -> None: ...
def filter_bytes_cuda(dtype: str, filter: _Filter, channels: int) -> int: ...
def permutohedral_filter_cuda(
    dtype: str,
    filter: _Filter,
    values: int,
    out: int,
    channels: int,
    transposed: bool,
    stream: int,
) -> None: ...
def mean_field_width_cuda(labels: int) -> int: ...
def labels_to_rows_cuda(
    dtype: str, size: _Batch, values: int, rows: int, factor: float, padding: float, stream: int
) -> None: ...
def rows_to_labels_cuda(dtype: str, size: _Batch, rows: int, values: int, stream: int) -> None: ...
def mean_field_cuda(
    dtype: str,
    size: _Batch,
    kernels: list[tuple[_Filter, int, int]],  # with kind and address of the compatibility
    negative_unary: int,
    q: int,
    scratch: int,
    updates: int,
    q_is_given: bool,
    softmax: bool,
    stream: int,
) -> None: ...
def pairwise_features_cuda(
    image: int,
    dtype: str,
    strides: _Quad,
    batch: int,
    height: int,
    width: int,
    sigma_x: float,
    sigma_y: float,
    sigma_colour: list[float],
    features: int,
    stream: int,
) -> None: ...
