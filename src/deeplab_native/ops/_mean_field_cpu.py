"""Mean field inference on the CPU, one image at a time."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence

import torch

from .. import _C
from .._memory import check_memory, least_bytes_of_crf, least_bytes_of_rows
from .._native import num_threads
from ._lattice_cpu import build_lattice, check_lattice
from .pairwise_features import Features, PixelFeatures

_Native = _C.MeanFieldFloat | _C.MeanFieldDouble
_NATIVE: dict[torch.dtype, type[_Native]]
_NATIVE = {torch.float32: _C.MeanFieldFloat, torch.float64: _C.MeanFieldDouble}
LARGEST_WEIGHT = 1e18
"""Of a kernel: products of two have to stay within float32."""

_ALL_FINITE = {torch.float32: _C.all_finite_cpu_float, torch.float64: _C.all_finite_cpu_double}


class CpuMeanField:
    """Mean field of one image; every tensor is (1, L, N), of the unary's dtype."""

    def __init__(
        self,
        unary: torch.Tensor,
        lattices: Sequence[_C.Lattice],
        compatibilities: Sequence[torch.Tensor],
        normalizations: Sequence[int],
        width: int = 0,
    ) -> None:
        self.unary, self._width = unary, width
        self._kernels = [
            # the dimensions of a compatibility are its CompatibilityKind of mean_field.h
            (lattice, c.ndim, c.detach().flatten().tolist(), n)
            for lattice, c, n in zip(lattices, compatibilities, normalizations, strict=True)
        ]
        self._threads, self._rebuilding = num_threads(), threading.Lock()
        self._process, self._built = os.getpid(), self._build()

    def _build(self) -> _Native:
        _, labels, points = self.unary.shape
        native = _NATIVE[self.unary.dtype](points, labels, self._threads, self._width)
        native.set_unary(self.unary.data_ptr())
        for kernel in self._kernels:
            native.add_kernel(*kernel)
        return native

    @property
    def _native(self) -> _Native:
        """This process's own: the copy that a fork makes may be locked, by a thread it has not."""
        if self._process != os.getpid():
            with self._rebuilding:
                if self._process != os.getpid():
                    self._built = self._build()
                    self._process = os.getpid()
        return self._built

    def set_kernel(
        self, m: int, lattice: _C.Lattice, compatibility: torch.Tensor, normalization: int
    ) -> None:
        """In place of kernel m; not while another thread computes. Normalises all anew."""
        c = compatibility.detach()
        self._kernels[m] = (lattice, c.ndim, c.flatten().tolist(), normalization)
        self._process, self._built = os.getpid(), self._build()

    def set_compatibility(self, m: int, compatibility: torch.Tensor) -> None:
        """Of kernel m, whose lattice stays; otherwise as `set_kernel`."""
        lattice, _, _, normalization = self._kernels[m]
        self.set_kernel(m, lattice, compatibility, normalization)

    def inference(self, iterations: int, out: torch.Tensor) -> torch.Tensor:
        """Q after so many iterations from the start, softmax(-U)."""
        self._native.inference(out.data_ptr(), iterations)
        return out

    def step(self, q: torch.Tensor) -> torch.Tensor:
        """One update of Q."""
        out = torch.empty_like(self.unary)
        self._native.step(q.contiguous().data_ptr(), out.data_ptr())
        return out

    def filter(self, kernel: int, x: torch.Tensor, *, transposed: bool) -> torch.Tensor:
        """K_m x, or its transpose, normalised."""
        x, out = x.contiguous(), torch.empty_like(self.unary)
        self._native.filter(kernel, x.data_ptr(), out.data_ptr(), transposed)
        return out

    def no_gradient(self, kernel: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Zeros that `filter_gradient` adds to: of the lattice's weights, and of its scales."""
        native = self._native
        sizes = native.num_entries(kernel), native.num_places(kernel)
        return self.unary.new_zeros(sizes[0]), self.unary.new_zeros(sizes[1])

    def filter_gradient(
        self,
        kernel: int,
        x: torch.Tensor,
        g: torch.Tensor,
        weights: torch.Tensor,
        scales: torch.Tensor,
    ) -> torch.Tensor:
        """K_m^T g; adds the gradients of <g, K_m x>."""
        x, g, out = x.contiguous(), g.contiguous(), torch.empty_like(self.unary)
        tensors = x, g, out, weights, scales
        self._native.filter_gradient(kernel, *(t.data_ptr() for t in tensors))
        return out

    def features_gradient(
        self, kernel: int, features: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor
    ) -> torch.Tensor:
        """(N, d) of features (N, d), from those sums, to which it adds the normalisation's."""
        used = features.detach().to(torch.float32)
        out = self.unary.new_empty(used.shape)
        where = used.data_ptr(), *used.shape, *used.stride()
        sums = weights.data_ptr(), scales.data_ptr()
        self._native.features_gradient(kernel, where, *sums, out.data_ptr())
        return out

    def kl_divergence(self, q: torch.Tensor) -> torch.Tensor:
        """(1,) float64, up to the constant log Z."""
        value = self._native.kl_divergence(q.contiguous().data_ptr())
        return torch.tensor([value], dtype=torch.float64, device="cpu")

    def num_vertices(self) -> list[list[int]]:
        """Vertices of every kernel's lattice."""
        return [[self._native.num_vertices(k) for k in range(self._native.num_kernels)]]


def all_finite(values: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite."""
    values = values.contiguous()
    return _ALL_FINITE[values.dtype](values.data_ptr(), values.numel(), num_threads())


def finite_energies(unary: torch.Tensor, name: str = "unary") -> torch.Tensor:
    """Energies (B, L, N), contiguous: themselves, or a copy with the largest number for +inf.

    exp of minus that number is 0, whatever is added to it, so that the label's marginal stays 0.
    Raises ValueError for NaN and -inf, and where no label is left.
    """
    if all_finite(unary):
        return unary
    for what, wrong in (("NaN", unary.isnan()), ("-inf", unary.isneginf())):
        if wrong.any():
            image, label, point = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"{name}: expected finite energies, or +inf for what a pixel cannot be, got {what} "
                f"(label {label} of pixel {point}{_of_image(image, unary)})"
            )
    impossible = unary.isposinf().all(1)
    if impossible.any():
        image, point = impossible.nonzero()[0].tolist()
        raise ValueError(
            f"{name}: expected finite energies for at least one label of each pixel, got +inf for "
            f"all labels of pixel {point}{_of_image(image, unary)} "
            "(clip probabilities before taking the logarithm)"
        )
    return unary.clamp_max(torch.finfo(unary.dtype).max)


def _of_image(image: int, batch: torch.Tensor) -> str:
    return f" of image {image}" if len(batch) > 1 else ""


def check_values(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    names: Sequence[tuple[str, str]],
    *,
    unary_name: str = "unary",
    first: int = 0,
    bridged: bool = False,
) -> torch.Tensor:
    """The unary as `finite_energies`; ValueError where a batch could not be worked with.

    unary (B, L, N), contiguous; features (N, d) or (B, N, d) tensors, or `PixelFeatures`, of the
    images from `first` on; the names are those of `mean_fields`.
    """
    for (_, name), c in zip(names, compatibilities, strict=True):
        numbers = c.detach().flatten().tolist()
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{name}: expected finite numbers, got {numbers}")
        if any(abs(number) > LARGEST_WEIGHT for number in numbers):
            raise ValueError(f"{name}: expected at most {LARGEST_WEIGHT:g}, got {numbers}")
    unary = finite_energies(unary, unary_name)
    for f, (name, _) in zip(features, names, strict=True):
        for b in range(first, unary.shape[0] if f.ndim == 3 else 1):
            if isinstance(f, PixelFeatures):
                f.check(b, name, bridged=bridged)
            else:
                own = f[b] if f.ndim == 3 else f
                check_lattice(own, name, like_pydensecrf=True, bridged=bridged)
    return unary


def _lattice(
    features: torch.Tensor | PixelFeatures, b: int, name: str, width: int, *, bridged: bool
) -> _C.Lattice:
    if isinstance(features, PixelFeatures):
        return features.lattice(b, name, bridged=bridged)
    own = features[b] if features.ndim == 3 else features
    return build_lattice(own, name, like_pydensecrf=True, width=width, bridged=bridged)


def cpu_mean_fields(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    names: Sequence[tuple[str, str]],
    *,
    width: int = 0,
    bridged: bool = False,
) -> Iterator[tuple[slice, CpuMeanField]]:
    """The mean field of each image of a batch (B, L, N), one at a time.

    All images are checked before the first is worked on. width: as of `mean_fields`.
    """
    # the first one's features are checked as its lattice is built
    unary = unary.detach().contiguous()
    unary = check_values(unary, features, compatibilities, names, first=1, bridged=bridged)
    named = [(f, name) for f, (name, _) in zip(features, names, strict=True)]
    batch, labels, points = unary.shape
    dims = [f.shape[-1] for f in features]
    size = least_bytes_of_crf(labels, points, dims, unary.element_size())
    check_memory(f"unary: a CRF of {labels} labels and {points} points", size)
    # tiles of pixels, where all kernels are of the same image
    widths = {f.width if isinstance(f, PixelFeatures) else width for f in features}
    width = widths.pop() if len(widths) == 1 else 0
    shared = [
        _lattice(f, 0, name, width, bridged=bridged) if f.ndim == 2 and batch else None
        for f, name in named
    ]
    for b in range(batch):
        lattices = [
            lattice or _lattice(f, b, name, width, bridged=bridged)
            for lattice, (f, name) in zip(shared, named, strict=True)
        ]
        for lattice, (_, name) in zip(lattices, named, strict=True):
            vertices = lattice.num_vertices
            what = f"{name}: a lattice of {vertices} vertices for {points} points"
            check_memory(what, least_bytes_of_rows(labels, vertices, unary.element_size()))
        image = slice(b, b + 1)
        yield image, CpuMeanField(unary[image], lattices, compatibilities, normalizations, width)
