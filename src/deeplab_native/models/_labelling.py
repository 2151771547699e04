"""From images on a device to labels on it: nothing here waits for the device.

So all of it can be captured in a CUDA graph, once it has run as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .._native import has_kernels
from ..crf import CRFParams
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
    scale: float
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
        seen = _reduced(images, how.longest_side)
        height, width = seen.shape[2:]
        size = tuple(side + -(side - 1) % how.stride for side in (height, width))
        score_map_of = _score_map_of(net, ready, how)
        if tiling is None:
            score_map = score_map_of(seen, size)
        else:
            score_map = tiled_score_map(score_map_of, images, tiling, progress)
        scores = nn.functional.interpolate(
            score_map, size=size, mode="bilinear", align_corners=True
        )[:, :, :height, :width].contiguous()
        if seen is not images:
            scores = nn.functional.interpolate(scores, size=images.shape[2:], mode="bilinear")
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
                scale=how.scale,
            )
        # argmax takes several times as long on the CPU
        return probabilities.max(dim=1).indices, probabilities, scores


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
    if longest_side is None or longest_side >= max(height, width):
        return images
    factor = longest_side / max(height, width)
    size = tuple(max(1, round(side * factor)) for side in (height, width))
    reduced = nn.functional.interpolate(
        images.to(torch.float32), size=size, mode="bilinear", antialias=True
    )
    return reduced.round_().clamp_(0, 255).to(torch.uint8)
