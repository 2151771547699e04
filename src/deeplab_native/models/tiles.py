"""Score maps of large images in overlapping tiles (DeepLab v2, section 4.4, Cityscapes).

The paper splits the images of 1024 x 2048 pixels into overlapping regions and gives no more; how
they overlap and are blended here is this package's choice.

Tiles begin at multiples of the output stride, so that the pixels of all score maps lie on one
grid, that of the whole image, and are blended there, before the interpolation: 64 times fewer
numbers than at full resolution, and the interpolation is linear, so that it could come later.
At a tile's inner border a net sees zeros where the whole image goes on, and the wrong scores reach
inwards by the field of view. So the outer third of an overlap counts for nothing, and over the
middle third the weight goes linearly from one tile to the next, which leaves no seam. Weights add
up to 1 everywhere: where tiles agree, the blend is what they agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch

from .._integers import pair

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the score map.

    Attributes:
        first, last: the first of the tile, and the one behind its last.
        weights: of each of them (last - first,) float32; those of all spans add up to 1.
    """

    first: int
    last: int
    weights: torch.Tensor


@dataclass(frozen=True)
class Tiling:
    """Size of tiles and overlap in input pixels, (vertical, horizontal); see `check_tiling`."""

    size: tuple[int, int]
    overlap: tuple[int, int]
    stride: int


def check_tiling(
    tile: int | Sequence[int] | None,
    overlap: int | Sequence[int] | None,
    progress: Progress | None,
    stride: int,
) -> Tiling | None:
    """The arguments of `predict` as a `Tiling`; None without a tile.

    Args:
        tile: stride * m + 1 pixels, one integer or (vertical, horizontal).
        overlap: a multiple of stride below tile - 1; None is about a quarter of the tile.
        progress: a function of (done, total), or None.
        stride: output stride of the net.

    Raises:
        TypeError, ValueError: another type or value; an overlap or progress without a tile.
    """
    if tile is None:
        for name, value in {"overlap": overlap, "progress": progress}.items():
            if value is not None:
                raise ValueError(f"{name}: expected None without a tile, got {value!r}")
        return None
    if progress is not None and not callable(progress):
        raise TypeError(
            f"progress: expected a function of (done, total) or None, got {type(progress).__name__}"
        )
    size = pair("tile", tile, least=stride + 1)
    for side in size:
        if side % stride != 1 % stride:
            below = (side - 1) // stride * stride + 1
            raise ValueError(
                f"tile: expected {stride} m + 1 pixels, as the net's output stride is {stride}, "
                f"got {tile!r}; {below} and {below + stride} are the nearest"
            )
    if overlap is None:
        height, width = ((s - 1) // (4 * stride) * stride for s in size)
        return Tiling(size, (height, width), stride)
    both = pair("overlap", overlap, least=0)
    if any(o % stride or o > side - 1 - stride for o, side in zip(both, size, strict=True)):
        raise ValueError(
            f"overlap: expected a multiple of {stride}, the net's output stride, and at most "
            f"tile - {stride + 1} = {min(size) - 1 - stride}, got {overlap!r}"
        )
    return Tiling(size, both, stride)


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Tiles that cover `length` pixels of a score map, in order.

    All are `tile` long, or there is one as long as the map. Neighbours share `overlap` + 1 pixels
    (their borders are pixels of both); the last two share more where the length asks for it.
    """
    if length <= tile:
        return [Span(0, length, torch.ones(length))]
    step = tile - 1 - overlap
    firsts = [*range(0, length - tile, step), length - tile]
    weights = torch.zeros(len(firsts), length)
    for i, first in enumerate(firsts):
        weights[i, first : first + tile] = 1
    for i in range(len(firsts) - 1):
        # both weigh from the middle on; with three in one place, each pair fades in its turn
        begin, end = firsts[i + 1], firsts[i] + tile
        shared = end - begin
        margin = shared // 3
        ramp = torch.arange(1, shared - 2 * margin + 1) / (shared - 2 * margin + 1)
        rising = torch.cat([torch.zeros(margin), ramp, torch.ones(margin)])
        weights[i + 1, begin:end] *= rising
        weights[i, begin:end] *= 1 - rising
    weights /= weights.sum(0)
    return [Span(f, f + tile, w[f : f + tile]) for f, w in zip(firsts, weights, strict=True)]


def tiled_score_map(
    score_map_of: Callable[[torch.Tensor, Sequence[int]], torch.Tensor],
    images: torch.Tensor,
    tiling: Tiling,
    progress: Progress | None,
) -> torch.Tensor:
    """The score map of whole images from those of tiles, blended.

    Memory beside a tile's own: one buffer of 4 B L h w bytes, h and w those of the score map
    (2.5 MB for 19 labels at 1024 x 2048).

    Args:
        score_map_of: (pixels (B, 3, H, W) uint8, (padded H, padded W)) -> scores (B, L, h, w), any
            device and floating point; the padding is at the bottom and the right.
        images: (B, 3, H, W) uint8.
        tiling: of `check_tiling`.
        progress: called as progress(done, total) before the first tile and after each.

    Returns:
        (B, L, h, w) float32 where the scores are, h = ceil((H - 1) / stride) + 1.

    Raises:
        ValueError: `score_map_of` gives a map of another size than (H - 1) / stride + 1.
    """
    stride = tiling.stride
    map_size = [-(-(side - 1) // stride) + 1 for side in images.shape[2:]]
    rows, columns = (
        spans(n, (side - 1) // stride + 1, overlap // stride)
        for n, side, overlap in zip(map_size, tiling.size, tiling.overlap, strict=True)
    )
    total = len(rows) * len(columns)
    result = None
    if progress is not None:
        progress(0, total)
    for done, (row, column) in enumerate(product(rows, columns), start=1):
        pixels = [slice(s.first * stride, (s.last - 1) * stride + 1) for s in (row, column)]
        size = [side.stop - side.start for side in pixels]
        scores = score_map_of(images[:, :, pixels[0], pixels[1]], size)
        expected = (row.last - row.first, column.last - column.first)
        if tuple(scores.shape[2:]) != expected:
            raise ValueError(
                f"model: expected a score map of {expected} for a tile at output stride {stride}, "
                f"got {tuple(scores.shape[2:])}"
            )
        weighted = scores.to(torch.float32)
        weighted = weighted * _on_device(row.weights, scores)[:, None]
        weighted *= _on_device(column.weights, scores)
        if result is None:
            result = weighted.new_zeros((*scores.shape[:2], *map_size))
        result[:, :, row.first : row.last, column.first : column.last] += weighted
        if progress is not None:
            progress(done, total)
    assert result is not None  # there is a tile
    return result


def _on_device(weights: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """From pinned memory, so that nobody waits for the device."""
    if like.device.type != "cuda":
        return weights.to(like.device)
    return weights.pin_memory().to(like.device, non_blocking=True)
