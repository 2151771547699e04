"""The permutohedral lattices of a batch on a CUDA device, in memory of torch's allocator.

Nothing here waits for the device: the number of vertices is known there alone, and memory is taken
for the most there could be, d + 1 for each point. For a dense CRF of L labels in float32 that is
about 90 L + 680 bytes a pixel: 0.5 GB for 375 x 500 and 21 labels, 5 GB for 1024 x 2048 and 19.
With rows in float16 36 L less; a bridged lattice takes three times as much, see `bridged_room`. A
lattice of d dimensions alone, with rows of L channels: about
8 (d + 1) (d + 5 + L) bytes a pixel, 16 KB for d = 32 and 21.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from .. import _C, _variants
from .._native import call_cuda
from ._bridged import bridged_room

MOST_ENTRIES = 2**30  # points times d + 1 that 32-bit numbers in the lattice reach
WORKSPACE_BYTES = 8 * 2**30  # of the images that are worked on at once, unless one alone needs more
_NONE, _BEFORE, _AFTER = 0, 1, 2  # Normalization of mean_field.h
_LARGEST_HALF = 65504.0
_MOST_HALF_DIMENSIONS = 16  # of a kernel whose rows float16 can hold


PixelOrder = tuple[int, int]  # of points: width of the image, side of the tiles
AS_GIVEN: PixelOrder = (0, 0)
# images, points, d, like_pydensecrf, order, 0 or bridged_room
LatticeSize = tuple[int, int, int, bool, PixelOrder, int]
# of the lattice, replicas, addresses: lattice, weights to splat and to slice with, memory;
# half_scale: 0, or rows are float16 times this
NativeFilter = tuple[LatticeSize, int, int, int, int, int, float]


class CudaLattice:
    """The lattices of features (N, d), or (B, N, d) for each image; any strides.

    Its points, and the values that are filtered, come in an order of pixels. An image whose
    features are not finite, or too large, gets NaN from every filter.
    """

    def __init__(
        self,
        features: torch.Tensor,
        *,
        like_pydensecrf: bool = False,
        order: PixelOrder = AS_GIVEN,
        bridged: bool = False,
    ) -> None:
        features = features.detach().to(torch.float32)
        if features.ndim == 2:
            features = features[None]
        images, points, d = features.shape
        room = bridged_room(d) if bridged else 0
        self.size = (images, points, d, like_pydensecrf, order, room)
        self.points = images * points
        self.memory = _bytes(_C.lattice_bytes_cuda(self.size), features)
        scratch = _bytes(_C.lattice_scratch_bytes_cuda(self.size), features)
        call_cuda(
            "build_lattice_cuda",
            features,
            self.size,
            features.data_ptr(),
            features.stride(),
            _variants.chosen("crf_vertices") == "near",
            self.memory.data_ptr(),
            scratch.data_ptr(),
        )

    def num_vertices(self) -> list[int]:
        """Of each image; waits for the device."""
        images = self.size[0]
        if self.points == 0:
            return [0] * images
        start = _C.vertex_begin_cuda(self.size, self.memory.data_ptr()) - self.memory.data_ptr()
        begin = self.memory[start : start + 4 * (images + 1)].view(torch.int32)
        return begin.diff().tolist()

    def weights(
        self,
        dtype: torch.dtype,
        scale_in: torch.Tensor | None = None,
        scale_out: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """To splat (a point with each) and to slice with; the scales are (points,) float32."""
        entries = _C.lattice_entries_cuda(self.size)
        splat, slice_ = (self.memory.new_empty(n * entries, dtype=dtype) for n in (2, 1))
        call_cuda(
            "fold_weights_cuda",
            self.memory,
            dtype_name(dtype),
            self.size,
            self.memory.data_ptr(),
            0 if scale_in is None else scale_in.data_ptr(),
            0 if scale_out is None else scale_out.data_ptr(),
            splat.data_ptr(),
            slice_.data_ptr(),
        )
        return splat, slice_

    def scale(self, *, root: bool) -> torch.Tensor:
        """1 / K 1, or its root, (points,) float32."""
        scale = self.memory.new_empty(self.points, dtype=torch.float32)
        rows = _bytes(_C.lattice_scale_bytes_cuda(self.size), self.memory)
        addresses = self.memory.data_ptr(), rows.data_ptr(), scale.data_ptr()
        call_cuda("lattice_scale_cuda", scale, self.size, *addresses, root)
        return scale


class CudaFilter:
    """A lattice with its weights, for `replicas` batches of values over its points.

    Memory for the values on the vertices is taken for each call, so that calls may overlap.
    """

    def __init__(
        self,
        lattice: CudaLattice,
        replicas: int,
        channels: int,
        splat: torch.Tensor,
        slice_: torch.Tensor,
        half_scale: float = 0.0,
    ) -> None:
        """half_scale: above 0 for rows in float16, which only mean fields of float32 have."""
        self._kept, self._half_scale = (lattice, splat, slice_), half_scale
        self._channels, self._dtype = channels, dtype_name(splat.dtype)
        addresses = lattice.memory.data_ptr(), splat.data_ptr(), slice_.data_ptr()
        self._arguments = lattice.size, replicas, *addresses
        without_memory = (*self._arguments, 0, half_scale)
        self._bytes = _C.filter_bytes_cuda(self._dtype, without_memory, channels)

    def with_memory(self) -> tuple[NativeFilter, torch.Tensor]:
        """The filter as native code takes it, and the memory that must live until it is called."""
        memory = _bytes(self._bytes, self._kept[1])
        return (*self._arguments, memory.data_ptr(), self._half_scale), memory

    def __call__(
        self, values: torch.Tensor | None, out: torch.Tensor, *, transposed: bool
    ) -> torch.Tensor:
        """(replicas, images, N, channels), contiguous; without values, of ones."""
        native, _memory = self.with_memory()
        call_cuda(
            "permutohedral_filter_cuda",
            out,
            self._dtype,
            native,
            0 if values is None else values.data_ptr(),
            out.data_ptr(),
            self._channels,
            transposed,
        )
        return out


class FilterParts(NamedTuple):
    """What of a pairwise kernel depends on its features and normalization alone."""

    lattice: CudaLattice
    scales: tuple[torch.Tensor | None, torch.Tensor | None]  # of what comes in, of what goes out
    weights: tuple[torch.Tensor, torch.Tensor]  # of CudaLattice.weights, with the scales

    @classmethod
    def of(
        cls,
        features: torch.Tensor,
        normalization: int,
        dtype: torch.dtype,
        order: PixelOrder,
        bridged: bool = False,
    ) -> FilterParts:
        """As pydensecrf has it, or bridged; features (N, d), or (B, N, d) for each image."""
        lattice = CudaLattice(features, like_pydensecrf=True, order=order, bridged=bridged)
        scales: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
        if normalization != _NONE:
            scale = lattice.scale(root=normalization not in (_BEFORE, _AFTER))
            scales = (
                None if normalization == _AFTER else scale,
                None if normalization == _BEFORE else scale,
            )
        return cls(lattice, scales, lattice.weights(dtype, *scales))

    def tensors(self) -> list[torch.Tensor]:
        """All of its memory."""
        scale = next((s for s in self.scales if s is not None), None)
        return [self.lattice.memory, *self.weights, *([] if scale is None else [scale])]


def tiles_of(width: int) -> PixelOrder:
    """The order of the pixels of an image."""
    tile = _variants.chosen("crf_tile")
    return AS_GIVEN if tile == "off" else (width, int(tile))


def check_size(name: str, points: int, d: int, *, bridged: bool = False) -> None:
    """Raises where one image alone has too many points."""
    room = bridged_room(d) if bridged else 1
    if (points + 31) // 32 * 32 * (d + 1) * room > MOST_ENTRIES:
        raise ValueError(
            f"{name}: more than 2^30 vertices for {points} points of {d} dimensions; "
            "filter them in parts"
        )


def can_be_half(dtype: torch.dtype, dimensions: list[int]) -> bool:
    """Whether rows may be stored as float16: all kernels' rows, or none.

    The bound of `half_scale` grows by 2^(d / 2), so that of many dimensions nothing would be left.
    """
    return dtype == torch.float32 and max(dimensions, default=0) <= _MOST_HALF_DIMENSIONS


def half_scale(size: LatticeSize, normalization: int) -> float:
    """A power of 2, at most 1, times which no sum of marginals on a vertex is beyond float16.

    With blurs B of entries up to 1 / alpha = 1 + 2^-d that add up to 2^(d + 1), and splat weights
    b / scale of b <= 1, a row is at most N / alpha without scales before it. Of the masses k
    that points have, b / k <= (d + 1) / alpha bounds those normalised before filtering. With 1 /
    sqrt(k) a vertex of mass m gets sqrt(n / alpha) of its n points (k >= alpha b m, sum of b <= m,
    Cauchy-Schwarz), and a row sqrt(2^(d + 1) (d + 1) N) / alpha after the blurs.
    """
    _, points, d, *_ = size
    inverse_alpha = 1 + 2.0**-d
    if normalization in (_NONE, _AFTER):
        largest = inverse_alpha * points
    elif normalization == _BEFORE:
        largest = inverse_alpha**2 * (d + 1) * points
    else:
        largest = inverse_alpha * math.sqrt(2.0 ** (d + 1) * (d + 1) * points)
    return 2.0 ** min(0, math.floor(math.log2(_LARGEST_HALF / max(1.0, largest))))


def images_at_once(
    like: torch.Tensor,
    points: int,
    dimensions: list[int],
    channels: int,
    batch: int,
    *,
    half: bool = False,
    bridged: bool = False,
) -> int:
    """How many images of a batch fit WORKSPACE_BYTES, one at least; `like` has their dtype."""
    dtype = like.dtype
    bytes_, most = 1 + 5 * points * channels * dtype.itemsize, batch
    for d in dimensions:
        room = bridged_room(d) if bridged else 0
        size = (1, points, d, True, AS_GIVEN, room)
        entries = _C.lattice_entries_cuda(size)
        own = (size, 1, 0, 0, 0, 0, float(half))
        bytes_ += _C.lattice_bytes_cuda(size) + 3 * entries * dtype.itemsize
        bytes_ += _C.filter_bytes_cuda(dtype_name(dtype), own, channels)
        bytes_ += _C.lattice_scratch_bytes_cuda(size)
        most = min(most, MOST_ENTRIES // max(1, entries * max(1, room)))
    return max(1, min(most, WORKSPACE_BYTES // bytes_))


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _bytes(count: int, like: torch.Tensor) -> torch.Tensor:
    return torch.empty(count, dtype=torch.uint8, device=like.device)
