"""What the gradient of the mean field needs of one image's, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ._mean_field_cpu import CpuMeanField
from ._mean_field_terms import of_compatibility, pairwise


class CpuGradient:
    """Marginals and their gradients are (1, L, N); features those that need a gradient, (N, d)."""

    labels = 1  # the dimension

    def __init__(
        self,
        field: CpuMeanField,
        compatibilities: Sequence[torch.Tensor],
        features: Mapping[int, torch.Tensor],
    ) -> None:
        self._field, self._compatibilities = field, [c.detach() for c in compatibilities]
        self.num_kernels = len(compatibilities)
        self._features = {m: f if f.ndim == 2 else f[0] for m, f in features.items()}
        self._sums = {m: field.no_gradient(m) for m in features}

    def rows(self, planes: torch.Tensor) -> torch.Tensor:
        return planes

    def planes(self, rows: torch.Tensor) -> torch.Tensor:
        return rows

    def first(self) -> torch.Tensor:
        return self._field.inference(0, torch.empty_like(self._field.unary))

    def step(self, q: torch.Tensor) -> torch.Tensor:
        return self._field.step(q)

    def pairwise(self, m: int, x: torch.Tensor) -> torch.Tensor:
        return pairwise(self._compatibilities[m], x)

    def filtered(self, m: int, q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """K_m^T g; beside it, sums what the features have of <g, P_m K_m q>."""
        if m not in self._features:
            return self._field.filter(m, g, transposed=True)
        # a number multiplies the sums in the end
        x = q if self._compatibilities[m].ndim == 0 else self.pairwise(m, q)
        return self._field.filter_gradient(m, x, g, *self._sums[m])

    def of_compatibility(self, m: int, h: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return of_compatibility(self._compatibilities[m].ndim, h, q)

    def of_features(self, m: int) -> torch.Tensor:
        """(N, d), in the dtype of the energies."""
        out = self._field.features_gradient(m, self._features[m], *self._sums[m])
        c = self._compatibilities[m]
        return out * c if c.ndim == 0 else out
