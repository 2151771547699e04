"""From images on a device to labels on it: nothing here waits for the device.

So all of it can be captured in a CUDA graph, once it has run as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .._images import reduced_size
from .._native import has_kernels
from ..crf import CRFParams
from ..ops._large_image import (
    AUTO,
    chosen_scale,
    in_bands,
    marginals_of_large_images,
)
from ..ops._small_scores import SmallScores
from ..ops.dense_crf import dense_crf
from ..ops.upsample_unary import upsample_unary
from ._inference import Ready
from .preprocessing import Preprocessing
from .tiles import Progress, Tiling, tiled_score_map

# labels (B, H, W) int64, probabilities and scores (B, L, H, W) float32
Labelled = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class How:
    """The checked arguments of `predict` on which its result depends, beside net and image."""

    crf: CRFParams | None
    iterations: int
    normalization: str
    scale: float | str
    longest_side: int | None
    precision: str
    preprocessing: Preprocessing
    num_classes: int
    stride: int


def label(
    net: nn.Module,
    ready: Ready,
    how: How,
    images: torch.Tensor,
    tiling: Tiling | None = None,
    progress: Progress | None = None,
) -> Labelled:
    """Labels, probabilities and scores of images (B, 3, H, W) uint8, as `predict` says."""
    with torch.inference_mode():
        score_map, size, (height, width) = score_map_of_images(
            net, ready, how, images, tiling, progress
        )
        full = images.shape[2], images.shape[3]
        scores = nn.functional.interpolate(
            score_map, size=size, mode="bilinear", align_corners=True
        )[:, :, :height, :width].contiguous()
        if (height, width) != full:
            scores = nn.functional.interpolate(scores, size=full, mode="bilinear")
        scale = chosen_scale(how.scale, full[0] * full[1], images)
        banded = how.scale == AUTO and in_bands(scale, full[0] * full[1], images)
        if how.crf is not None and banded:
            probabilities = marginals_of_large_images(
                [small_scores_of(m, size, (height, width), full) for m in score_map],
                images,
                how.crf,
                iterations=how.iterations,
                normalization=how.normalization,
                scale=scale,
            )
            return probabilities.max(dim=1).indices, probabilities, scores
        if (height, width) != full:
            unary = -nn.functional.log_softmax(scores, dim=1)
        elif has_kernels(score_map):
            # from the score map again, in less than half the time of log_softmax of the scores
            unary = upsample_unary(score_map, size, (height, width))
        else:
            unary = -nn.functional.log_softmax(scores, dim=1)
        if how.crf is None:
            probabilities = unary.neg_().exp_()
        else:
            probabilities = dense_crf(
                unary,
                images,
                how.crf,
                iterations=how.iterations,
                normalization=how.normalization,
                scale=scale,
            )
        # argmax takes several times as long on the CPU
        return probabilities.max(dim=1).indices, probabilities, scores


def score_map_of_images(
    net: nn.Module,
    ready: Ready,
    how: How,
    images: torch.Tensor,
    tiling: Tiling | None,
    progress: Progress | None,
) -> tuple[torch.Tensor, tuple[int, int], tuple[int, int]]:
    """The score map (B, L, h, w), the size that it is enlarged to, and what of that the net saw."""
    seen = _reduced(images, how.longest_side)
    height, width = seen.shape[2:]
    size = height + -(height - 1) % how.stride, width + -(width - 1) % how.stride
    score_map_of = _score_map_of(net, ready, how)
    if tiling is None:
        return score_map_of(seen, size), size, (height, width)
    return tiled_score_map(score_map_of, images, tiling, progress), size, (height, width)


def small_scores_of(
    score_map: torch.Tensor, size: tuple[int, int], seen: tuple[int, int], full: tuple[int, int]
) -> SmallScores:
    """Of one image's score map (L, h, w), the others as `score_map_of_images` gives them."""
    if seen == full:
        return SmallScores(score_map, size, aligned=True)
    scores = nn.functional.interpolate(
        score_map[None], size=size, mode="bilinear", align_corners=True
    )
    return SmallScores(scores[0, :, : seen[0], : seen[1]].contiguous(), full, aligned=False)


def _score_map_of(
    net: nn.Module, ready: Ready, how: How
) -> Callable[[torch.Tensor, Sequence[int]], torch.Tensor]:
    def score_map_of(pixels: torch.Tensor, padded: Sequence[int]) -> torch.Tensor:
        padding = (0, padded[1] - pixels.shape[3], 0, padded[0] - pixels.shape[2])
        # after the mean is taken away, the mean is 0
        net_input = nn.functional.pad(how.preprocessing(pixels), padding)
        scores = ready(net, net_input.to(ready.dtype, memory_format=ready.memory_format))
        expected = (pixels.shape[0], how.num_classes)
        if scores.ndim != 4 or tuple(scores.shape[:2]) != expected:
            raise ValueError(
                f"model: expected a score map (B, num_classes, h, w) = {(*expected, 'h', 'w')}, "
                f"got shape {tuple(scores.shape)}"
            )
        return scores.to(torch.float32).contiguous()

    return score_map_of


def _reduced(images: torch.Tensor, longest_side: int | None) -> torch.Tensor:
    """The images themselves, or (B, 3, h, w) uint8 of the same aspect."""
    height, width = images.shape[2:]
    size = reduced_size((height, width), longest_side)
    if size == (height, width):
        return images
    smaller = nn.functional.interpolate(
        images.to(torch.float32), size=size, mode="bilinear", antialias=True
    )
    return smaller.round_().clamp_(0, 255).to(torch.uint8)
