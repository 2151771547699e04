"""An image or a volume divided into cells: means over them and the linear way back, and adjoints.

The adjoints gather: torch's own backwards of these add atomically on CUDA, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional


class Cells:
    """The cells of an image (H, W): (h, w) of them, about `scale` times as many either way.

    Or of a volume (D, H, W), (d, h, w) of them.

    Along an axis, cell i of m has pixels floor(i n / m) to ceil((i + 1) n / m) of n; where m does
    not divide n, neighbours share one.
    """

    def __init__(self, size: Sequence[int], scale: float) -> None:
        self.pixels = tuple(size)
        self.cells = tuple(_cells(n, scale) for n in size)

    @property
    def pixels_in_each(self) -> float:
        return math.prod(self.pixels) / math.prod(self.cells)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C, h w)."""
        if len(self.cells) == 2:
            return functional.adaptive_avg_pool2d(values, self.cells).flatten(2)
        depth, height, width = self.cells
        return functional.adaptive_avg_pool3d(values, (depth, height, width)).flatten(2)

    def mean_transposed(self, grad: torch.Tensor) -> torch.Tensor:
        """(B, C, h w) to (B, C, H, W)."""
        grad = grad.unflatten(2, self.cells)
        for dim, (n, m) in enumerate(zip(self.pixels, self.cells, strict=True), 2):
            pixels = _arange(n, grad)
            first, last = pixels * m // n, ((pixels + 1) * m - 1) // n  # one cell or two
            second = (last > first) / _size(last, n, m)
            grad = _gather(grad, dim, [(first, 1 / _size(first, n, m)), (last, second)])
        return grad

    def enlarge(self, values: torch.Tensor) -> torch.Tensor:
        """(B, C, h w) to (B, C, H W), linear between the centres of the cells along each axis."""
        values = values.unflatten(2, self.cells)
        mode = "bilinear" if len(self.cells) == 2 else "trilinear"
        enlarged = functional.interpolate(values, size=self.pixels, mode=mode, align_corners=False)
        return enlarged.flatten(2)

    def enlarge_transposed(self, grad: torch.Tensor) -> torch.Tensor:
        """(B, C, H W) to (B, C, h w)."""
        grad = grad.unflatten(2, self.pixels)
        for dim, (n, m) in enumerate(zip(self.pixels, self.cells, strict=True), 2):
            lower, share = _between(_arange(n, grad), n, m)
            cells = _arange(m, grad)
            # a pixel takes from the cells on either side: those of cell i begin here, or later
            begin = ((2 * cells - 1) * n // (2 * m) - 1).clamp_min(0)
            taps = []
            for k in range(-(-2 * n // m) + 3):
                pixel = begin + k
                inside, pixel = pixel < n, pixel.clamp_max(n - 1)
                below, above = lower[pixel] == cells, (lower[pixel] + 1).clamp_max(m - 1) == cells
                weight = below * (1 - share[pixel]) + above * share[pixel]
                taps.append((pixel, inside * weight))
            grad = _gather(grad, dim, taps)
        return grad.flatten(2)


def _cells(pixels: int, scale: float) -> int:
    return min(pixels, max(1, round(pixels * scale)))


def _arange(count: int, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(count, device=like.device, dtype=torch.int64)


def _size(cell: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """The pixels of a cell along an axis."""
    return (((cell + 1) * n + m - 1) // m - cell * n // m).double()


def _between(pixel: torch.Tensor, n: int, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The cell before a pixel, and the share of the one after it, as `interpolate` has them."""
    position = ((2 * pixel + 1).double() * m / (2 * n) - 0.5).clamp_min(0)
    lower = position.long()
    return lower, position - lower


def _gather(
    values: torch.Tensor, dim: int, taps: list[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """out[i] = sum over the taps (index, weight) of weight[i] values[index[i]], along one axis."""
    parts = (
        values.index_select(dim, index).mul_(
            weight.to(values.dtype).view(-1, *[1] * (values.ndim - 1 - dim))
        )
        for index, weight in taps
    )
    total = next(parts)
    for part in parts:
        total += part
    return total
