"""The native module: addresses, sizes and thread counts in; the callers check the arguments.

One stub for each file of the bindings (csrc/bindings*.cpp); those of CUDA are there only where
`has_cuda`. What has no names for its arguments in C++ takes them by position.
"""
# ruff: noqa: N999

from collections.abc import Sequence

from ._C_aspp import *
from ._C_crf_cuda import *
from ._C_cuda import *
from ._C_gauss import *
from ._C_gauss_cuda import *
from ._C_joint import *
from ._C_types import Pair, Quad, Triple

__version__: str
has_cuda: bool
cuda_architectures: str  # as CMake writes them: "75-real, 80-real, 90"; empty without CUDA
cuda_version: str  # of the toolkit, whose runtime is within; empty without CUDA
pybind11_version: str

# ---- instruction set ----
def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str, /) -> None: ...
def release_memory() -> None: ...
def kept_memory() -> int: ...

# ---- atrous im2col ----
def atrous_im2col_cpu(
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
    num_threads: int,
    /,
) -> None: ...
def atrous_col2im_cpu(
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
    num_threads: int,
    /,
) -> None: ...

# ---- space to batch ----
def space_to_batch_cpu(
    map: int,
    blocks: int,
    size: Quad,
    rate: Pair,
    padding: Pair,
    block: Pair,
    element_size: int,
    channels_last: bool,
    num_threads: int,
    /,
) -> None: ...
def batch_to_space_cpu(
    blocks: int,
    map: int,
    size: Quad,
    rate: Pair,
    padding: Pair,
    block: Pair,
    element_size: int,
    channels_last: bool,
    num_threads: int,
    /,
) -> None: ...

# ---- permutohedral lattice ----
max_feature_dim: int

class Lattice:
    @property
    def num_vertices(self) -> int: ...
    @property
    def num_entries(self) -> int: ...

def build_image_lattice_cpu(
    image: int,
    dtype: str,
    strides: Sequence[int],
    size: Sequence[int],
    sigmas: Sequence[float],
    channel_sigmas: Sequence[float],
    num_threads: int,
    bridged: bool = False,
) -> Lattice: ...
def check_image_features_cpu(
    image: int,
    dtype: str,
    strides: Sequence[int],
    size: Sequence[int],
    sigmas: Sequence[float],
    channel_sigmas: Sequence[float],
    num_threads: int,
    bridged: bool = False,
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
    bridged: bool = False,
) -> Lattice: ...
def check_features_cpu(
    features: int,
    n: int,
    d: int,
    point_stride: int,
    dim_stride: int,
    num_threads: int,
    like_pydensecrf: bool,
    bridged: bool = False,
) -> None: ...
def permutohedral_filter_cpu_float(
    lattice: Lattice, values: int, out: int, num_channels: int, transposed: bool, /
) -> None: ...
def permutohedral_filter_cpu_double(
    lattice: Lattice, values: int, out: int, num_channels: int, transposed: bool, /
) -> None: ...

_Features = tuple[int, int, int, int, int]  # address, points, dimensions and their strides

def lattice_gradient_cpu_float(
    lattice: Lattice,
    x: int,
    g: int,
    back: int,
    num_channels: int,
    transposed: bool,
    weights: int,
    /,
) -> None: ...
def lattice_gradient_cpu_double(
    lattice: Lattice,
    x: int,
    g: int,
    back: int,
    num_channels: int,
    transposed: bool,
    weights: int,
    /,
) -> None: ...
def features_gradient_cpu_float(
    lattice: Lattice, features: _Features, weights: int, out: int, /
) -> None: ...
def features_gradient_cpu_double(
    lattice: Lattice, features: _Features, weights: int, out: int, /
) -> None: ...

# ---- labels of large images (csrc/bindings_joint.cpp) ----
class JointMessage:
    def __init__(
        self,
        image: int,
        dtype: str,
        strides: Triple,
        size: Pair,
        sigmas: tuple[float, float],
        sigma_colour: Sequence[float],
        cells: int,
        q: int,
        num_cells: int,
        num_labels: int,
        pixels_in_each: float,
        normalization: int,
        num_threads: int,
        /,
    ) -> None: ...
    @property
    def num_vertices(self) -> int: ...
    def label(
        self,
        scores: int,
        first: int,
        count: int,
        all_labels: int,
        labels: Sequence[int],
        weight: float,
        out: int,
        num_threads: int,
        /,
    ) -> None: ...
    def add(
        self,
        scores: int,
        first: int,
        count: int,
        labels: Sequence[int],
        weight: float,
        num_threads: int,
        /,
    ) -> None: ...

# ---- mean field ----
def pairwise_features_cpu(
    image: int,
    dtype: str,
    strides: Sequence[int],
    size: Sequence[int],
    sigmas: Sequence[float],
    channel_sigmas: Sequence[float],
    features: int,
    num_threads: int,
    /,
) -> None: ...
def all_finite_cpu_float(values: int, count: int, num_threads: int, /) -> bool: ...
def all_finite_cpu_double(values: int, count: int, num_threads: int, /) -> bool: ...

class _MeanField:
    @property
    def num_kernels(self) -> int: ...
    def __init__(
        self, num_points: int, num_labels: int, num_threads: int, width: int = 0
    ) -> None: ...
    def add_kernel(
        self,
        lattice: Lattice,
        kind: int,
        compatibility: Sequence[float],
        normalization: int,
        /,
    ) -> None: ...
    def set_unary(self, unary: int, /) -> None: ...
    def inference(self, q: int, iterations: int, /) -> None: ...
    def start(self, q: int, /) -> None: ...
    def step(self, q: int, next: int, /) -> None: ...
    def kl_divergence(self, q: int, /) -> float: ...
    def filter(self, kernel: int, values: int, out: int, transposed: bool, /) -> None: ...
    def filter_gradient(
        self, kernel: int, x: int, g: int, back: int, weights: int, scales: int, /
    ) -> None: ...
    def features_gradient(
        self, kernel: int, features: _Features, weights: int, scales: int, out: int, /
    ) -> None: ...
    def num_entries(self, kernel: int, /) -> int: ...
    def num_places(self, kernel: int, /) -> int: ...
    def num_vertices(self, kernel: int, /) -> int: ...

class MeanFieldFloat(_MeanField): ...
class MeanFieldDouble(_MeanField): ...
