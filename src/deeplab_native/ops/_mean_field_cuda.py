"""Mean field inference on a CUDA device: a group of images at once and without waiting."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from .. import _C, _variants
from .._native import call_cuda
from ._kept_filters import kept_parts
from ._lattice_cuda import (
    AS_GIVEN,
    CudaFilter,
    FilterParts,
    NativeFilter,
    PixelOrder,
    can_be_half,
    check_size,
    dtype_name,
    half_scale,
    images_at_once,
    tiles_of,
)
from .pairwise_features import Features, PixelFeatures

_AFTER, _SYMMETRIC = 2, 3  # Normalization of mean_field.h
_MOST_KERNELS = 8  # that one launch works on: kMaxFilters of lattice.cuh


class CudaMeanField:
    """Mean field of a batch (B, L, N), the methods of `CpuMeanField`.

    half: updates store the lattices' rows as float16, where they `can_be_half`; `filter` does not.
    """

    def __init__(
        self,
        unary: torch.Tensor,
        features: Features,
        compatibilities: Sequence[torch.Tensor],
        normalizations: Sequence[int],
        *,
        half: bool = False,
        width: int = 0,
        bridged: bool = False,
    ) -> None:
        self._half = half and can_be_half(unary.dtype, [f.shape[-1] for f in features])
        self._bridged = bridged
        self.unary = unary.detach().contiguous()
        self._dtype = dtype_name(unary.dtype)
        self.width = _C.mean_field_width_cuda(unary.shape[1])
        widths = {f.width for f in features if isinstance(f, PixelFeatures)} or {width}
        width = widths.pop() if len(widths) == 1 else 0
        self._order = tiles_of(width) if width else AS_GIVEN
        self.kernels = [
            self._kernel(f, c, n)
            for f, c, n in zip(features, compatibilities, normalizations, strict=True)
        ]
        has_matrix = any(c.ndim == 2 for c in compatibilities)
        self._needs_scratch = has_matrix or len(features) > _MOST_KERNELS
        self._can_leave_labels_out = (
            unary.dtype == torch.float32
            and 0 < len(features) <= _MOST_KERNELS
            and not has_matrix
            and all(n in (_AFTER, _SYMMETRIC) for n in normalizations)
        )
        self._negative_unary = self.to_rows(self.unary, -1.0, -math.inf)

    def _kernel(
        self,
        features: torch.Tensor | PixelFeatures,
        compatibility: torch.Tensor,
        normalization: int,
    ) -> _Kernel:
        how = self.unary, self.width, self._order
        half, bridged = self._half, self._bridged
        return _Kernel(features, compatibility, normalization, *how, half=half, bridged=bridged)

    def set_kernel(
        self,
        m: int,
        features: torch.Tensor | PixelFeatures,
        compatibility: torch.Tensor,
        normalization: int,
    ) -> None:
        """In place of kernel m, with a compatibility of the same shape; the others stay."""
        self.kernels[m] = self._kernel(features, compatibility, normalization)
        self._can_leave_labels_out &= normalization in (_AFTER, _SYMMETRIC)

    def set_compatibility(self, m: int, compatibility: torch.Tensor) -> None:
        """Of kernel m, of the same shape; its lattice and normalisation stay."""
        self.kernels[m].set_compatibility(compatibility)

    def inference(self, iterations: int, out: torch.Tensor) -> torch.Tensor:
        if (
            iterations > 0
            and self._can_leave_labels_out
            and _variants.chosen("crf_labels") == "hot"
        ):
            size = _C.hot_labels_bytes_cuda(self.unary.shape, iterations)
            if size > 0:
                return self._run_hot(size, iterations, out)
        return self.to_planes(self.run(self.new_rows(), iterations, given=False), out)

    def step(self, q: torch.Tensor) -> torch.Tensor:
        return self._updated(q, softmax=True)

    def filter(self, kernel: int, x: torch.Tensor, *, transposed: bool) -> torch.Tensor:
        """K_m x, or its transpose, normalised."""
        rows = self.to_rows(x, 1.0, 0.0)
        out = torch.empty_like(rows)
        self.kernels[kernel].filter(transposed)(rows, out, transposed=transposed)
        return self.to_planes(out, torch.empty_like(self.unary))

    def kl_divergence(self, q: torch.Tensor) -> torch.Tensor:
        """(B,) float64, up to the constant log Z."""
        x = self._updated(q, softmax=False)
        q, x = q.double(), x.double()
        # of a label that is excluded, 0 times infinity
        return torch.where(q == 0, 0, q * (q.clamp_min(1e-20).log() - x)).sum((1, 2))

    def num_vertices(self) -> list[list[int]]:
        """Vertices of every kernel's lattice, for each image; waits for the device."""
        batch = self.unary.shape[0]
        counts = [kernel.lattice.num_vertices() for kernel in self.kernels]
        return [[c[b % len(c)] for c in counts] for b in range(batch)]

    def _updated(self, q: torch.Tensor, *, softmax: bool) -> torch.Tensor:
        rows = self.run(self.to_rows(q, 1.0, 0.0), 1, given=True, softmax=softmax)
        return self.to_planes(rows, torch.empty_like(self.unary))

    def run(
        self, rows: torch.Tensor, updates: int, *, given: bool, softmax: bool = True
    ) -> torch.Tensor:
        """So many updates, in place, of the marginals in the rows if they are given."""
        scratch = self.new_rows(2) if self._needs_scratch else rows.new_empty(0)
        kernels = [kernel.with_memory() for kernel in self.kernels]
        call_cuda(
            "mean_field_cuda",
            self.unary,
            self._dtype,
            self.unary.shape,
            [native for native, _ in kernels],
            self._negative_unary.data_ptr(),
            rows.data_ptr(),
            scratch.data_ptr(),
            updates,
            given,
            softmax,
        )
        return rows

    def _run_hot(self, memory_bytes: int, updates: int, out: torch.Tensor) -> torch.Tensor:
        """`inference` on the labels that matter: csrc/cuda/hot_labels.cuh."""
        rows = self.new_rows()
        memory = torch.empty(memory_bytes, dtype=torch.uint8, device=rows.device)
        kernels = [kernel.with_memory() for kernel in self.kernels]
        call_cuda(
            "hot_mean_field_cuda",
            self.unary,
            self.unary.shape,
            [native for native, _ in kernels],
            self._negative_unary.data_ptr(),
            rows.data_ptr(),
            memory.data_ptr(),
            updates,
        )
        where = self._order, rows.data_ptr(), out.data_ptr(), memory.data_ptr()
        call_cuda("hot_rows_to_labels_cuda", out, self.unary.shape, *where, updates)
        return out

    def new_rows(self, count: int = 1) -> torch.Tensor:
        batch, _, points = self.unary.shape
        return self.unary.new_empty((count * batch, points, self.width))

    def to_rows(self, values: torch.Tensor, factor: float, padding: float) -> torch.Tensor:
        values, rows = values.contiguous(), self.new_rows()
        how = self._order, values.data_ptr(), rows.data_ptr(), factor, padding
        call_cuda("labels_to_rows_cuda", values, self._dtype, values.shape, *how)
        return rows

    def to_planes(self, rows: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        how = self._order, rows.data_ptr(), out.data_ptr()
        call_cuda("rows_to_labels_cuda", out, self._dtype, out.shape, *how)
        return out


class _Kernel:
    """One pairwise kernel with its normalisation folded into the weights of its filter."""

    def __init__(
        self,
        features: torch.Tensor | PixelFeatures,
        compatibility: torch.Tensor,
        normalization: int,
        unary: torch.Tensor,
        width: int,
        order: PixelOrder,
        *,
        half: bool,
        bridged: bool,
    ) -> None:
        self._replicas = unary.shape[0] if features.ndim == 2 else 1
        self._dtype, self._width = unary.dtype, width
        self.parts = _filter_parts(features, normalization, unary, order, bridged=bridged)
        self.lattice = self.parts.lattice
        self._filter = self._in_updates = self._new_filter(*self.parts.weights)
        if half:
            scale = half_scale(self.lattice.size, normalization)
            self._in_updates = self._new_filter(*self.parts.weights, scale)
        self.set_compatibility(compatibility)

    def set_compatibility(self, compatibility: torch.Tensor) -> None:
        c = compatibility.detach()
        self._compatibility = (0.5 * (c + c.T) if c.ndim == 2 else c).contiguous()

    def _new_filter(
        self, splat: torch.Tensor, slice_: torch.Tensor, half_scale: float = 0.0
    ) -> CudaFilter:
        return CudaFilter(self.lattice, self._replicas, self._width, splat, slice_, half_scale)

    def filter(self, transposed: bool) -> CudaFilter:
        """The transpose of a filter swaps its scales."""
        scale_in, scale_out = self.parts.scales
        if not transposed or scale_in is scale_out:
            return self._filter
        return self._new_filter(*self.lattice.weights(self._dtype, scale_out, scale_in))

    def with_memory(self) -> tuple[tuple[NativeFilter, int, int], torch.Tensor]:
        """The kernel as native code takes it, and the memory that must live until it is called."""
        native, memory = self._in_updates.with_memory()
        kind = self._compatibility.ndim  # CompatibilityKind of mean_field.h
        return (native, kind, self._compatibility.data_ptr()), memory


def _filter_parts(
    features: torch.Tensor | PixelFeatures,
    normalization: int,
    unary: torch.Tensor,
    order: PixelOrder,
    *,
    bridged: bool,
) -> FilterParts:
    """Of a kernel of values like the unary; those of positions alone may be kept ones."""
    how = normalization, unary.dtype, order, bridged
    if isinstance(features, torch.Tensor):
        return FilterParts.of(features, *how)
    if features.positions is None:
        return FilterParts.of(features.tensor(), *how)
    key = (*features.positions, *how, _variants.chosen("crf_vertices"))
    return kept_parts(key, unary, lambda: FilterParts.of(features.tensor(), *how))


def cuda_mean_fields(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    names: Sequence[tuple[str, str]],
    *,
    half: bool = False,
    width: int = 0,
    bridged: bool = False,
) -> Iterator[tuple[slice, CudaMeanField]]:
    """The mean field of as many images of a batch (B, L, N) as fit the memory at once.

    width: as of `mean_fields`.
    """
    batch, labels, points = unary.shape
    for f, (name, _) in zip(features, names, strict=True):
        check_size(name, points, f.shape[-1], bridged=bridged)
    channels = _C.mean_field_width_cuda(labels)
    dimensions = [f.shape[-1] for f in features]
    half = half and can_be_half(unary.dtype, dimensions)
    kinds = {"half": half, "bridged": bridged}
    group = images_at_once(unary, points, dimensions, channels, max(1, batch), **kinds)
    for first in range(0, batch, group):
        images = slice(first, min(first + group, batch))
        own = [f if f.ndim == 2 else f[images] for f in features]
        how = compatibilities, normalizations
        one = unary[images]
        yield images, CudaMeanField(one, own, *how, half=half, width=width, bridged=bridged)
