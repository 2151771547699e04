"""The CRF of the DeepLab paper at a fraction of the resolution, its result joint-upsampled.

All updates but the last are those of a CRF over cells of the image, each with the means of its
pixels' energies, positions and colours. Its marginals are enlarged bilinearly, those of a volume
trilinearly, and the last update is one of the whole image:

    x_i = -U_i + sum over m of w_m sum over j of Kn_m(i, j) Q_j,    Q = softmax(x)

with Q_j the enlarged ones. So labels follow the edges of the whole image, by its own unary and its
own pixels' colours. Positions stay in pixels of the whole image, so that the sigmas stay, too.
Without normalisation a cell counts for all its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .._native import on_cuda
from ._cells import Cells
from ._mean_field_checks import NORMALIZATIONS
from ._mean_field_cpu import all_finite, check_values
from ._mean_field_gradient import mean_field_backward_of_batch, of_possible
from ._mean_field_terms import of_compatibility, pairwise
from ._mean_fields import mean_fields
from .mean_field import mean_field_of_batch
from .pairwise_features import KERNEL_NAMES, Features, PixelFeatures


def scaled_of_batch(
    unary: torch.Tensor,
    features: list[PixelFeatures],
    weights: Sequence[torch.Tensor],
    normalization: int,
    iterations: int,
    scale: float,
    half: bool,
    bridged: bool,
) -> torch.Tensor:
    """Q (B, L, H, W); features (H W, d) or (B, H W, d), iterations at least 1."""
    tensors = [f.tensor() for f in features]
    whole = _of_image(unary, features, tensors)
    flat = unary.detach().flatten(2).contiguous()
    if not on_cuda(unary):  # all images before the first is worked on, as small ones would not show
        flat = check_values(flat, whole, weights, KERNEL_NAMES, bridged=bridged)
    coarse = _Coarse(unary, tensors, weights, normalization, scale, bridged)
    q = coarse.inference(iterations - 1, half)
    out = torch.empty_like(flat)
    normalizations = [normalization] * len(weights)
    how = weights, normalizations, KERNEL_NAMES
    for images, field in mean_fields(flat, whole, *how, half=half, bridged=bridged):
        out[images] = field.step(coarse.cells.enlarge(q[images]))
        del field  # its memory serves the next one
    return out.view(unary.shape)


def scaled_backward_of_batch(
    grad: torch.Tensor,
    unary: torch.Tensor,
    features: list[PixelFeatures],
    weights: Sequence[torch.Tensor],
    normalization: int,
    iterations: int,
    needs_weights: bool,
    scale: float,
    bridged: bool,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Gradients with respect to the unary and the weights.

    Of the last update, with q the enlarged marginals: g_x = Q (g - <Q, g>);  g_U = -g_x;
    g_w = <K_m^T g_x, q>;  g_q = sum over m of w_m K_m^T g_x, and as in _mean_field_gradient.py
    where w_m are vectors or matrices. The rest follows from g_q.
    """
    tensors = [f.tensor() for f in features]
    whole = _of_image(unary, features, tensors)
    coarse = _Coarse(unary, tensors, weights, normalization, scale, bridged)
    q = coarse.inference(iterations - 1, False)
    grad = of_possible(grad, unary)
    grad_q = torch.empty_like(q)
    grad_unary = torch.empty_like(grad, memory_format=torch.contiguous_format)
    grad_weights = [torch.zeros_like(w) for w in weights]
    normalizations = [normalization] * len(weights)
    flat = unary.flatten(2)
    how = weights, normalizations, KERNEL_NAMES
    for images, field in mean_fields(flat, whole, *how, bridged=bridged):
        enlarged = coarse.cells.enlarge(q[images])
        updated, g = field.step(enlarged), grad[images].flatten(2)
        g_x = updated * (g - (updated * g).sum(1, keepdim=True))
        grad_unary[images] = -g_x.view(grad[images].shape)
        g_enlarged = torch.zeros_like(g_x)
        for m, w in enumerate(weights):
            back = field.filter(m, g_x, transposed=True)
            g_enlarged += pairwise(w, back)
            if needs_weights:
                grad_weights[m] += of_compatibility(w.ndim, back, enlarged)
        grad_q[images] = coarse.cells.enlarge_transposed(g_enlarged)
        del field
    grad_coarse, of_coarse = coarse.backward(grad_q, iterations - 1, needs_weights)
    grad_unary += coarse.energies_transposed(grad_coarse)
    return grad_unary, [a + b for a, b in zip(grad_weights, of_coarse, strict=True)]


def _of_image(
    unary: torch.Tensor, features: list[PixelFeatures], tensors: list[torch.Tensor]
) -> Features:
    """Of the last update: on CUDA those whose filters are kept."""
    return features if on_cuda(unary) else tensors


class _Coarse:
    """The CRF of the cells."""

    def __init__(
        self,
        unary: torch.Tensor,
        features: list[torch.Tensor],
        weights: Sequence[torch.Tensor],
        normalization: int,
        scale: float,
        bridged: bool,
    ) -> None:
        self.cells = Cells(unary.shape[2:], scale)
        self._possible: torch.Tensor | None  # (B, L, H, W), where labels are excluded somewhere
        self._unary = self._energies(unary)
        self._features = [self._of_cells(f) for f in features]
        none = normalization == NORMALIZATIONS["none"]
        self._pixels = self.cells.pixels_in_each if none else 1.0
        self._weights = [w * self._pixels for w in weights]
        self._normalizations, self._bridged = [normalization] * len(weights), bridged

    def _of_cells(self, features: torch.Tensor) -> torch.Tensor:
        batched = features if features.ndim == 3 else features[None]
        means = self.cells.mean(batched.mT.unflatten(2, self.cells.pixels)).mT
        return means if features.ndim == 3 else means[0]

    def _energies(self, unary: torch.Tensor) -> torch.Tensor:
        """Means over the pixels of a cell that can have the label; +inf where none can."""
        if not on_cuda(unary) and all_finite(unary):
            self._possible = None
            return self.cells.mean(unary)
        self._possible = possible = ~unary.isposinf()
        self._part = self.cells.mean(possible.to(unary.dtype))  # of each cell
        means = self.cells.mean(torch.where(possible, unary, 0))
        return torch.where(self._part > 0, means / self._part, math.inf)

    def energies_transposed(self, grad: torch.Tensor) -> torch.Tensor:
        """(B, L, h w) to (B, L, H, W)."""
        if self._possible is None:
            return self.cells.mean_transposed(grad)
        grad = torch.where(self._part > 0, grad / self._part, 0)
        return torch.where(self._possible, self.cells.mean_transposed(grad), 0)

    def inference(self, iterations: int, half: bool) -> torch.Tensor:
        """Q of the small images, (B, L, h w)."""
        how = self._weights, self._normalizations, iterations, half
        return mean_field_of_batch(self._unary, self._features, *how, bridged=self._bridged)

    def backward(
        self, grad_q: torch.Tensor, iterations: int, needs_weights: bool
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """With respect to the cells' unary, and to the weights of the whole image."""
        grad_unary, grad_weights, _ = mean_field_backward_of_batch(
            grad_q,
            self._unary,
            self._features,
            self._weights,
            self._normalizations,
            iterations,
            needs_weights,
            bridged=self._bridged,
        )
        return grad_unary, [self._pixels * g for g in grad_weights]
