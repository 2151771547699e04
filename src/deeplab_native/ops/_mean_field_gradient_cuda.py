"""What the gradient of the mean field needs of a group of images, on a CUDA device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from ._lattice_gradient_cuda import LatticeGradient
from ._mean_field_cuda import CudaMeanField


class CudaGradient:
    """Marginals and their gradients are rows (B, N, width), in the order of the lattices' points.

    features: those that need a gradient, (N, d) or (B, N, d). Nothing waits for the device.
    """

    labels = 2  # the dimension

    def __init__(
        self,
        field: CudaMeanField,
        compatibilities: Sequence[torch.Tensor],
        features: Mapping[int, torch.Tensor],
    ) -> None:
        self._field, self._features = field, features
        self.num_kernels = len(compatibilities)
        self._shape = field.unary.shape
        self._missing = field.width - self._shape[1]  # what fills a row up
        self._padded = [self._filled_up(c.detach()) for c in compatibilities]
        dtype = field.unary.dtype
        self._sums = {m: LatticeGradient(field.kernels[m].parts, dtype) for m in features}

    def _filled_up(self, c: torch.Tensor) -> torch.Tensor:
        """As rows are multiplied with it, zeros for what fills them up."""
        if c.ndim == 0:
            return c
        factor = -c if c.ndim == 1 else -0.5 * (c + c.T)
        return F.pad(factor, (0, self._missing) * c.ndim)

    def rows(self, planes: torch.Tensor) -> torch.Tensor:
        return self._field.to_rows(planes, 1.0, 0.0)

    def planes(self, rows: torch.Tensor) -> torch.Tensor:
        return self._field.to_planes(rows, torch.empty_like(self._field.unary))

    def first(self) -> torch.Tensor:
        return self._field.run(self._field.new_rows(), 0, given=False)

    def step(self, q: torch.Tensor) -> torch.Tensor:
        return self._field.run(q.clone(), 1, given=True)

    def pairwise(self, m: int, x: torch.Tensor) -> torch.Tensor:
        c = self._padded[m]
        return x @ c if c.ndim == 2 else x * c

    def filtered(self, m: int, q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """K_m^T g; beside it, sums what the features have of <g, P_m K_m q>."""
        kernel, back = self._field.kernels[m], torch.empty_like(g)
        if m not in self._features:
            return kernel.filter(True)(g, back, transposed=True)
        # a number multiplies the sums in the end
        x = q if self._padded[m].ndim == 0 else self.pairwise(m, q)
        filters = kernel.filter(False), kernel.filter(True)
        self._sums[m].add(*filters, x, g, back, kernel.parts.scales)
        return back

    def of_compatibility(self, m: int, h: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        ndim, labels = self._padded[m].ndim, self._shape[1]
        if ndim == 0:
            return (h * q).sum()
        if ndim == 1:
            return -(h * q).sum((0, 1))[:labels]
        outer = (h.mT @ q).sum(0)[:labels, :labels]
        return -0.5 * (outer + outer.T)

    def of_features(self, m: int) -> torch.Tensor:
        """Like the features, in the dtype of the energies."""
        out = self._sums[m].of_features(self._features[m])
        c = self._padded[m]
        return out * c if c.ndim == 0 else out
