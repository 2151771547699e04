"""A pairwise kernel of the CRF as a matrix from some pixels of an image to all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from .._native import on_cuda
from ._lattice_cuda import CudaFilter, CudaLattice, check_size, images_at_once
from ._mean_field_checks import NORMALIZATIONS
from .pairwise_features import KERNEL_NAMES
from .permutohedral import build_lattice, filter_with

# values (b, N, C), contiguous, and whether transposed; gives the filtered ones
_Filter = Callable[[torch.Tensor, bool], torch.Tensor]

_CHUNK_VALUES = 2**24  # filtered at once: labels are done in chunks, to bound the memory


class SampledKernel:
    """n_i k(f_i, f_j) n_j for each pixel i and sampled pixel j of b images."""

    def __init__(
        self, filter_: _Filter, like: torch.Tensor, samples: torch.Tensor, normalization: int
    ) -> None:
        """like: (b, L, N), of the values' dtype; samples (n,): pixels, each at most once."""
        self._filter, self._samples = filter_, samples
        self._scale_in = self._scale_out = None  # at all pixels, (b, N)
        if normalization == NORMALIZATIONS["none"]:
            return
        ones = self._at_samples(like.new_ones((like.shape[0], 1, len(samples))), like.shape[2])
        mass = self._filter(ones, False)[..., 0].double() + 1e-20  # where nothing is near
        if normalization == NORMALIZATIONS["symmetric"]:
            mass = mass.sqrt()
        scale = mass.reciprocal().to(like.dtype)
        self._scale_in = None if normalization == NORMALIZATIONS["after"] else scale
        self._scale_out = None if normalization == NORMALIZATIONS["before"] else scale

    def add_messages(self, x: torch.Tensor, q: torch.Tensor, weight: torch.Tensor) -> None:
        """x (b, L, N) += weight * this matrix times q (b, L, n)."""
        q = self._scaled(q, self._scale_in, sampled=True)
        step = _chunk(x)
        for own, values in zip(x.split(step, dim=1), q.split(step, dim=1), strict=True):
            rows = self._filter(self._at_samples(values, x.shape[2]), False)
            own += weight * self._scaled(rows.mT, self._scale_out)

    def transposed(self, g: torch.Tensor) -> torch.Tensor:
        """The transposed matrix times g (b, L, N): (b, L, n)."""
        parts = []
        for own in g.split(_chunk(g), dim=1):
            rows = self._scaled(own, self._scale_out).mT.contiguous()
            parts.append(self._filter(rows, True).index_select(1, self._samples).mT)
        return self._scaled(torch.cat(parts, dim=1), self._scale_in, sampled=True)

    def _at_samples(self, values: torch.Tensor, points: int) -> torch.Tensor:
        """(b, C, n) to (b, N, C), 0 at other pixels."""
        rows = values.new_zeros((values.shape[0], points, values.shape[1]))
        return rows.index_copy_(1, self._samples, values.mT)

    def _scaled(self, values: torch.Tensor, scale, *, sampled: bool = False) -> torch.Tensor:
        if scale is None:
            return values
        return values * (scale.index_select(1, self._samples) if sampled else scale)[:, None]


def _chunk(x: torch.Tensor) -> int:
    """Labels at once of (b, L, N)."""
    return max(1, _CHUNK_VALUES // max(1, x.shape[0] * x.shape[2]))


def sampled_kernels(
    unary: torch.Tensor, features: list[torch.Tensor], samples: torch.Tensor, normalization: int
) -> Iterator[tuple[slice, Iterator[SampledKernel]]]:
    """The kernels of a batch (B, L, H, W) in groups of images, each built when it is asked for.

    Features (N, d) are of all images. As many images at once as fit the memory of a CUDA device;
    on the CPU one.
    """
    flat = unary.detach().flatten(2)
    batch, labels, points = flat.shape
    group, new_filter = 1, _cpu_filter
    if on_cuda(unary):
        for f, (name, _) in zip(features, KERNEL_NAMES, strict=True):
            check_size(name, points, f.shape[-1])
        dimensions = [f.shape[-1] for f in features]
        group = images_at_once(unary, points, dimensions, labels, max(1, batch))
        new_filter = _cuda_filter
    shared: dict[int, _Filter] = {}

    def kernels(images: slice) -> Iterator[SampledKernel]:
        for m, f in enumerate(features):
            if f.ndim == 2 and m not in shared:
                shared[m] = new_filter(f)
            own = shared[m] if f.ndim == 2 else new_filter(f[images])
            yield SampledKernel(own, flat[images], samples, normalization)

    for first in range(0, batch, group):
        images = slice(first, min(first + group, batch))
        yield images, kernels(images)


def _cpu_filter(features: torch.Tensor) -> _Filter:
    """Features (N, d) or (1, N, d)."""
    lattice = build_lattice(features.view(features.shape[-2:]))
    return lambda values, transposed: filter_with(
        lattice, values, torch.empty_like(values), transposed
    )


def _cuda_filter(features: torch.Tensor) -> _Filter:
    """Features (N, d), for any number of images, or (b, N, d)."""
    lattice = CudaLattice(features)

    def apply(values: torch.Tensor, transposed: bool) -> torch.Tensor:
        replicas = values.shape[0] if features.ndim == 2 else 1
        weights = lattice.weights(values.dtype)
        filter_ = CudaFilter(lattice, replicas, values.shape[2], *weights)
        return filter_(values, torch.empty_like(values), transposed=transposed)

    return apply
