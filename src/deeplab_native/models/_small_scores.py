"""Scores of a net as small as they come, for a large image whose labels are made band by band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..ops._small_scores import SmallScores
from ._inference import ready
from ._labelling import score_map_of_images, small_scores_of
from .predict import check_arguments
from .preprocessing import as_rgb_batch
from .tiles import Progress, check_tiling


def small_scores(
    model: nn.Module,
    image: np.ndarray,
    *,
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] | None = None,
    progress: Progress | None = None,
    longest_side: int | None = None,
) -> SmallScores:
    """What `predict` with the same arguments would enlarge to its `scores`, on the CPU.

    Raises what `predict` does.
    """
    how = check_arguments(
        model,
        crf=None,
        iterations=0,
        normalization="symmetric",
        scale=1.0,
        longest_side=longest_side,
        precision="auto",
    )
    tiling = check_tiling(tile, overlap, progress, how.stride)
    net = ready(model, how.precision)
    images = as_rgb_batch(image, net.device)
    with torch.inference_mode():
        found, grid, seen = score_map_of_images(model, net, how, images, tiling, progress)
        full = images.shape[2], images.shape[3]
        return small_scores_of(found[0].cpu(), grid, seen, full)
