"""Gradients with respect to the features of lattices on a CUDA device."""

from __future__ import annotations

import torch

from .. import _C
from .._native import call_cuda
from ._lattice_cuda import CudaFilter, FilterParts, dtype_name


class LatticeGradient:
    """Sums of what the weights of a lattice have of gradients: csrc/ops/lattice_gradient.h.

    Of every image, over the values that share it; and of the scales of its normalisation.
    """

    def __init__(self, parts: FilterParts, dtype: torch.dtype) -> None:
        self._parts, lattice = parts, parts.lattice
        entries = _C.lattice_entries_cuda(lattice.size)
        self._weights = lattice.memory.new_zeros(entries, dtype=dtype)
        self._scales = lattice.memory.new_zeros(lattice.points, dtype=dtype)

    def add(
        self,
        of_x: CudaFilter,
        of_g: CudaFilter,
        x: torch.Tensor,
        g: torch.Tensor,
        back: torch.Tensor | None,
        scales: tuple[torch.Tensor | None, torch.Tensor | None],
        *,
        transposed: bool = False,
    ) -> None:
        """Of <g, K x>, or of K^T if transposed; back: what becomes of g.

        x, g: (replicas, images, N, channels), contiguous, of one of the two filters each.
        """
        (x_native, _x_memory), (g_native, _g_memory) = of_x.with_memory(), of_g.with_memory()
        call_cuda(
            "lattice_gradient_cuda",
            x,
            dtype_name(x.dtype),
            x_native,
            g_native,
            x.data_ptr(),
            g.data_ptr(),
            0 if back is None else back.data_ptr(),
            [0 if scale is None else scale.data_ptr() for scale in scales],
            self._weights.data_ptr(),
            self._scales.data_ptr(),
            x.shape[-1],
            transposed,
        )

    def of_features(self, features: torch.Tensor) -> torch.Tensor:
        """Of those that the lattice was built of, like them, in the dtype of the sums."""
        lattice = self._parts.lattice
        scale_in, scale_out = self._parts.scales
        scale = scale_out if scale_in is None else scale_in
        if scale is not None:  # dL/dk, of the masses k = K 1
            symmetric = scale_in is scale_out
            factor = -0.5 * scale**3 if symmetric else -scale.square()
            of_mass = (factor * self._scales).view(-1, 1)
            plain = CudaFilter(lattice, 1, 1, *lattice.weights(of_mass.dtype))
            self.add(plain, plain, torch.ones_like(of_mass), of_mass, None, (None, None))
        used = features.detach().to(torch.float32)
        used = used if used.ndim == 3 else used[None]
        out = self._weights.new_empty(used.shape)
        call_cuda(
            "features_gradient_cuda",
            out,
            dtype_name(out.dtype),
            lattice.size,
            used.data_ptr(),
            used.stride(),
            lattice.memory.data_ptr(),
            self._weights.data_ptr(),
            out.data_ptr(),
        )
        return out.view(features.shape)
