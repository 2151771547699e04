"""Multi-scale inputs (DeepLab v2, section 4.1.2): one net at several scales, the maximum of all.

The conventions are those of the authors' Interp layer: corners stay aligned, and of n pixels a
shrinking by q keeps (n - 1) // q + 1 and a zoom by p then makes p times the intervals. So in odd
sizes an image at scale 1/2 is every second pixel of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from typing import NamedTuple

import torch
from torch import nn

from .._native import check_tensor

PAPER_SCALES = (1.0, 0.75, 0.5)
"""The scales of the paper's nets "MSC"."""

_LARGEST = 16  # scale, and shrink: of more, small images would lose most of their size


class MultiScaleScores(NamedTuple):
    """Score maps of a net at several scales, as the losses take them.

    Attributes:
        fused: (B, L, h, w), the largest of all scales' scores, pixel by pixel: `model(x)`.
        branches: (B, L, h_i, w_i), one a scale, in the order of `scales`. A scale of 1/k has its
            own map, whose pixels lie k times as far apart, so that labels for it can be picked
            without mixing any; the others are interpolated to the size of `fused`.
        strides: image pixels a pixel of each branch.
        output_stride: image pixels a pixel of `fused`.
    """

    fused: torch.Tensor
    branches: tuple[torch.Tensor, ...]
    strides: tuple[int, ...]
    output_stride: int


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """`scales` as a tuple of floats, each the nearest to its fraction.

    Raises:
        TypeError: no sequence of numbers.
        ValueError: a scale is above 16, or no fraction p / q of positive integers with q up to
            16; one appears twice; 1.0, whose map gives the size of the fused one, is missing.
    """
    if isinstance(scales, str) or not isinstance(scales, Sequence):
        raise TypeError(f"scales: expected numbers like {PAPER_SCALES}, got {scales!r}")
    for scale in scales:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)):
            raise TypeError(f"scales: expected numbers, got {scale!r}")
        if not 0 < scale <= _LARGEST or abs(_fraction(scale) - scale) > 1e-6 * scale:
            raise ValueError(
                f"scales: expected fractions p / q up to {_LARGEST} with q up to {_LARGEST}, "
                f"got {scale!r}"
            )
    fractions = [_fraction(scale) for scale in scales]
    if len(set(fractions)) < len(fractions):
        raise ValueError(f"scales: expected each one once, got {tuple(scales)}")
    if 1 not in fractions:
        raise ValueError(
            f"scales: expected 1.0 among them, whose size the fused map has, got {tuple(scales)}"
        )
    return tuple(float(fraction) for fraction in fractions)


def _fraction(scale: float) -> Fraction:
    return Fraction(scale).limit_denominator(_LARGEST)


def scaled_size(pixels: int, scale: float) -> int:
    """Pixels of a row or column at a scale p / q: Interp's shrink by q, then its zoom by p."""
    fraction = _fraction(scale)
    return (pixels - 1) // fraction.denominator * fraction.numerator + 1


def interp(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, *size), bilinear with aligned corners, as the authors' Interp."""
    return nn.functional.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def scores_at_scales(
    score_map: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    scales: Sequence[float],
    output_stride: int,
) -> MultiScaleScores:
    """Runs a net once a scale, each time on the whole batch, and fuses what it gives.

    The maps need not meet in sizes other than 32 m + 1: the size of the one at scale 1 decides.

    Raises:
        TypeError, ValueError: `x` is no tensor (B, C, H, W) with pixels.
    """
    check_tensor("input", x, ndim=4, layout="(B, 3, H, W)")
    if 0 in x.shape[2:]:
        raise ValueError(f"input: expected at least one pixel, got shape {tuple(x.shape)}")
    maps = [
        score_map(x if scale == 1 else interp(x, [scaled_size(n, scale) for n in x.shape[2:]]))
        for scale in scales
    ]
    size = maps[list(scales).index(1)].shape[2:]
    upsampled = [m if m.shape[2:] == size else interp(m, size) for m in maps]
    fused = reduce(torch.maximum, upsampled)
    shrinks = [_fraction(scale).denominator for scale in scales]
    own = [_fraction(scale).numerator == 1 for scale in scales]
    return MultiScaleScores(
        fused,
        tuple(m if o else u for m, u, o in zip(maps, upsampled, own, strict=True)),
        tuple(output_stride * (s if o else 1) for s, o in zip(shrinks, own, strict=True)),
        output_stride,
    )
