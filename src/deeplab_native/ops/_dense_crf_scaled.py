"""The CRF of the DeepLab paper at a fraction of the resolution, its result joint-upsampled.

The image is divided into cells, and the CRF is that of one pixel of each cell, the one at its
centre: with its colour, its position in the whole image, and the mean unary of its cell. All
updates but the last run there. In the last one the messages of these pixels S reach every pixel:

    x_i = -U_i + sum over m of w_m n_i sum over j in S of k_m(f_i, f_j) n_j Q_j,   Q = softmax(x)

with n from the mass of S, k = sum over j in S of k_m(f_i, f_j): the normalised message is the same
weighted mean of Q as before, from fewer samples. So labels follow the edges of the whole image.
Without normalisation a pixel of S counts for all pixels of its cell.

The colours are those of single pixels, not the means of cells: means lie between the colours that
the image has, where no pixel is near them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from .._native import on_cuda
from ._mean_field_checks import NORMALIZATIONS
from ._mean_field_cpu import check_values
from ._sampled_kernel import SampledKernel, sampled_kernels
from .mean_field import mean_field_backward_of_batch, mean_field_of_batch
from .pairwise_features import KERNEL_NAMES

_SOFTMAX_VALUES = 2**20  # of all labels at once: they stay in a core's cache


class Cells:
    """The cells of an image (H, W): (h, w) of them, about `scale` times as many either way.

    Cell i of n pixels in m cells has those from floor(i n / m) to ceil((i + 1) n / m).
    """

    def __init__(self, height: int, width: int, scale: float, device: torch.device) -> None:
        self.shape = height, width
        self.cells = tuple(min(n, max(1, round(n * scale))) for n in self.shape)
        rows, columns = (
            (2 * torch.arange(m, device=device, dtype=torch.int64) + 1) * n // (2 * m)
            for n, m in zip(self.shape, self.cells, strict=True)
        )
        self.samples = (rows[:, None] * width + columns).flatten()  # one pixel of each cell

    @property
    def pixels_in_each(self) -> float:
        return self.shape[0] * self.shape[1] / len(self.samples)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """(B, L, H, W) to (B, L, h w)."""
        return functional.adaptive_avg_pool2d(values, self.cells).flatten(2)

    def mean_transposed(self, grad: torch.Tensor) -> torch.Tensor:
        """(B, L, h w) to (B, L, H, W). Gathers: torch's own backward adds atomically on CUDA."""
        grad = grad.unflatten(2, self.cells)
        for dim, n, m in zip((2, 3), self.shape, self.cells, strict=True):
            pixels = torch.arange(n, device=grad.device, dtype=torch.int64)
            first, last = (
                pixels * m // n,
                ((pixels + 1) * m - 1) // n,
            )  # cells of each pixel: 1 or 2
            share = self._share(first, n, m, grad, dim)
            gathered = grad.index_select(dim, first) * share
            second = self._share(last, n, m, grad, dim) * (last > first).view_as(share)
            grad = gathered.addcmul_(grad.index_select(dim, last), second)
        return grad

    @staticmethod
    def _share(cell, n: int, m: int, like: torch.Tensor, dim: int) -> torch.Tensor:
        """1 / pixels of a cell along one axis."""
        pixels = ((cell + 1) * n + m - 1) // m - cell * n // m
        return pixels.to(like.dtype).reciprocal().view(-1, *[1] * (3 - dim))


def scaled_of_batch(unary, features, weights, normalization, iterations, scale) -> torch.Tensor:
    """Q (B, L, H, W); features as `mean_field` takes them, iterations at least 1."""
    normalizations = [normalization] * len(weights)
    _check(unary, features, weights)
    coarse = _Coarse(unary, features, weights, normalization, scale)
    q = mean_field_of_batch(
        coarse.unary, coarse.features, coarse.weights, normalizations, iterations - 1
    )
    out = torch.neg(unary).contiguous().flatten(2)
    for images, kernels in coarse.kernels(unary, features, normalization):
        x = out[images]
        _add_messages(x, q[images], kernels, coarse.weights)
        _softmax_(x)
    return out.view(unary.shape)


def scaled_backward_of_batch(
    grad, unary, features, weights, normalization, iterations, needs_weights, scale
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """With M_m the last update's matrices: g_x = Q (g - <Q, g>);  g_U = -g_x + what the coarse
    CRF gives for g_q = sum over m of w_m M_m^T g_x;  g_w = <M_m^T g_x, q> and the coarse CRF's.
    """
    normalizations = [normalization] * len(weights)
    coarse = _Coarse(unary, features, weights, normalization, scale)
    q = mean_field_of_batch(
        coarse.unary, coarse.features, coarse.weights, normalizations, iterations - 1
    )
    grad_unary = torch.empty_like(grad, memory_format=torch.contiguous_format)
    grad_q = torch.zeros_like(q)
    grad_last = [torch.zeros_like(w) for w in weights]
    for images, lazy in coarse.kernels(unary, features, normalization):
        kernels = list(lazy)  # each serves twice
        x = torch.neg(unary[images]).contiguous().flatten(2)
        _add_messages(x, q[images], kernels, coarse.weights)
        _softmax_(x)
        g = grad[images].flatten(2)
        g_x = x * (g - (x * g).sum(1, keepdim=True))
        grad_unary[images] = -g_x.view(grad[images].shape)
        for m, (kernel, w) in enumerate(zip(kernels, coarse.weights, strict=True)):
            back = kernel.transposed(g_x)
            grad_q[images] += w * back
            if needs_weights:
                grad_last[m] += (back * q[images]).sum()
    grad_coarse, grad_weights = mean_field_backward_of_batch(
        grad_q,
        coarse.unary,
        coarse.features,
        coarse.weights,
        normalizations,
        iterations - 1,
        needs_weights,
    )
    grad_unary += coarse.cells.mean_transposed(grad_coarse)
    of_each = coarse.pixels_for_each
    return grad_unary, [of_each * (a + b) for a, b in zip(grad_last, grad_weights, strict=True)]


class _Coarse:
    """The CRF of the cells' pixels: unary (B, L, n), features (n, d) or (B, n, d), weights."""

    def __init__(self, unary, features, weights, normalization: int, scale: float) -> None:
        self.cells = Cells(*unary.shape[2:], scale, unary.device)
        self.unary = self.cells.mean(unary)
        self.features = [f.index_select(-2, self.cells.samples) for f in features]
        none = normalization == NORMALIZATIONS["none"]
        self.pixels_for_each = self.cells.pixels_in_each if none else 1.0
        self.weights = [w * self.pixels_for_each for w in weights]

    def kernels(
        self, unary, features, normalization: int
    ) -> Iterator[tuple[slice, Iterator[SampledKernel]]]:
        return sampled_kernels(unary, features, self.cells.samples, normalization)


def _check(unary, features, weights) -> None:
    """On the CPU, all images before the first is worked on; on CUDA values are not looked at."""
    if not on_cuda(unary):
        check_values(unary.detach().contiguous(), features, weights, KERNEL_NAMES)


def _add_messages(x, q, kernels, weights) -> None:
    """x (b, L, N) += sum over m of w_m M_m q"""
    for kernel, w in zip(kernels, weights, strict=True):
        kernel.add_messages(x, q, w)


def _softmax_(x: torch.Tensor) -> None:
    """Over the labels of (b, L, N), in place and without a second x."""
    step = max(1, _SOFTMAX_VALUES // max(1, x.shape[0] * x.shape[1]))
    for part in x.split(step, dim=2):
        part.copy_(part.softmax(1))
