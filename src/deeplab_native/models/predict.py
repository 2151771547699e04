"""From an image to labels: net, bilinear interpolation, softmax, CRF (DeepLab v2, Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from .._native import has_kernels, integer
from ..crf import CRFParams
from ..ops._mean_field_checks import check_iterations, check_normalization, check_scale
from ..ops.dense_crf import dense_crf
from ..ops.upsample_unary import upsample_unary
from ._evaluation import evaluating
from .preprocessing import Preprocessing, as_rgb_batch
from .tiles import Progress, check_tiling, tiled_score_map


class Prediction(NamedTuple):
    """What `predict` gives; with a batch of images every tensor has B in front.

    Attributes:
        labels: (H, W) int64, the class of largest probability.
        probabilities: (L, H, W) float32, after the CRF if there is one; they sum to 1 over L.
        scores: (L, H, W) float32, the net's scores at full resolution, before softmax and CRF.
    """

    labels: torch.Tensor
    probabilities: torch.Tensor
    scores: torch.Tensor


def predict(
    model: nn.Module,
    image: np.ndarray | Image.Image | torch.Tensor,
    *,
    crf: CRFParams | None = None,
    iterations: int = 10,
    normalization: str = "symmetric",
    scale: float = 1.0,
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] | None = None,
    progress: Progress | None = None,
    longest_side: int | None = None,
) -> Prediction:
    """Labels every pixel of an image, by the authors' test protocol but for the padded size.

    The image is padded at the bottom and the right with the mean to a height and width of 8 m + 1,
    the scores are interpolated by 8 with the corners aligned, and the padding is cut off. Only
    then, on the image's own pixels, come the softmax and the CRF, whose unary energies are
    -log softmax (section 3.3).

    The authors pad every image to 513 x 513 instead. Here m is the smallest that holds the image:
    larger images work, and smaller ones cost no more than their own pixels. In both the pixels of
    the score map lie at 0, 8, 16, ... of the image. Only scores whose field of view reaches
    beyond the right or bottom border differ: there every layer of the authors' net sees features
    of the mean colour, up to 513, and here the zeros that it pads its map with.

    8 is the model's `output_stride` (8 where it has none), which `set_output_stride` changes.

    With `tile`, the net sees an image in overlapping tiles of that size, as the paper's nets saw
    those of Cityscapes, and needs the memory of one; `models.tiles` says how they are blended.
    What follows is done on the whole image: the result and the unary energies are full-size
    tensors, 4 B L H W bytes each. Where a pixel's field of view does not reach into the zeros
    around a tile, its scores are those of the whole image.

    Args:
        model: a net of `create_model`, or any module with `preprocessing` and `num_classes` that
            maps (B, 3, H, W) to scores (B, L, h, w). It runs in evaluation mode, on the device
            and in the precision of its first parameter (without any: on the CPU, in float32), and
            is left as it was.
        image: RGB, 0..255: array (H, W, 3) uint8, PIL image of mode "RGB", or tensor (3, H, W) or
            (B, 3, H, W) uint8.
        crf: parameters of the fully connected CRF, or None to leave it out.
        iterations: of mean field.
        normalization: of the CRF's messages, see `dense_crf`.
        scale: below 1, the CRF at this fraction of the resolution, see `dense_crf`.
        tile: height and width of tiles in pixels, 8 m + 1: one integer or (vertical, horizontal);
            513 is the authors' size. None runs the net on the whole image.
        overlap: of neighbouring tiles in pixels, a multiple of 8: one integer or two; None is
            about a quarter of the tile. A third of it, on each side, is not used.
        progress: of tiles, called as progress(done, total) before the first and after each.
        longest_side: where the image has more pixels in height or width, the net sees it reduced
            to this (bilinear, antialiased), which objects larger than those it was trained on need.
            The scores are interpolated to the image, where the CRF runs. None leaves the image.

    Returns:
        Prediction on the model's device; its tensors are inference tensors (clone them for
        autograd).

    Raises:
        TypeError: `model`, `image` or another argument has another type, or the image another
            dtype.
        ValueError: the image or the model's score map has another shape; `iterations`,
            `normalization` or `scale` is not one `dense_crf` takes; `tile` or `overlap` does not
            fit the output stride, or `overlap` or `progress` comes without it; `longest_side` is
            not positive, or comes with a tile.
    """
    preprocessing = getattr(model, "preprocessing", None)
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            "model: expected a net that says its input format in .preprocessing, "
            f"got {type(model).__name__} with {preprocessing!r}"
        )
    if crf is not None and not isinstance(crf, CRFParams):
        raise TypeError(f"crf: expected CRFParams or None, got {type(crf).__name__}")
    check_iterations(iterations)
    check_normalization(normalization)
    check_scale(scale)
    if longest_side is not None:
        longest_side = integer("longest_side", longest_side, least=1)
        if tile is not None:
            raise ValueError(f"longest_side: expected None with a tile, got {longest_side}")
    stride = integer("model.output_stride", getattr(model, "output_stride", 8), least=1)
    tiling = check_tiling(tile, overlap, progress, stride)
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    dtype = torch.float32 if parameter is None else parameter.dtype
    images = as_rgb_batch(image).to(device)
    seen = _reduced(images, longest_side)
    height, width = seen.shape[2:]
    size = tuple(side + -(side - 1) % stride for side in (height, width))

    def score_map_of(pixels: torch.Tensor, padded_size: Sequence[int]) -> torch.Tensor:
        padding = (0, padded_size[1] - pixels.shape[3], 0, padded_size[0] - pixels.shape[2])
        # after the mean is taken away, the mean is 0
        net_input = nn.functional.pad(preprocessing(pixels), padding)
        net_input = net_input.to(dtype, memory_format=_layout(device))
        return _evaluate(model, net_input).to(torch.float32).contiguous()

    with torch.inference_mode():
        if tiling is None:
            score_map = score_map_of(seen, size)
        else:
            score_map = tiled_score_map(score_map_of, images, tiling, progress).to(device)
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
        if crf is None:
            probabilities = unary.neg_().exp_()
        else:
            probabilities = dense_crf(
                unary,
                images,
                crf,
                iterations=iterations,
                normalization=normalization,
                scale=scale,
            )
        labels = probabilities.max(dim=1).indices  # argmax takes several times as long on the CPU

    batched = isinstance(image, torch.Tensor) and image.ndim == 4
    tensors = (labels, probabilities, scores)
    return Prediction(*tensors) if batched else Prediction(*(t[0] for t in tensors))


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


def _layout(device: torch.device) -> torch.memory_format:
    """channels_last on the CPU, where every net of `create_model` is faster in it.

    375 x 500 with two threads: VGG-16 12 to 16 %, ResNet-101 3 to 6 %, MobileNetV2 17 %, and twice
    as fast at stride 16.
    """
    return torch.channels_last if device.type == "cpu" else torch.preserve_format


def _evaluate(model: nn.Module, net_input: torch.Tensor) -> torch.Tensor:
    """Scores (B, L, h, w) in evaluation mode; every module's own mode is put back."""
    with evaluating(model):
        scores: torch.Tensor = model(net_input)
    expected: tuple[Any, ...] = (net_input.shape[0], model.num_classes)
    if scores.ndim != 4 or tuple(scores.shape[:2]) != expected:
        raise ValueError(
            f"model: expected a score map (B, num_classes, h, w) = {(*expected, 'h', 'w')}, "
            f"got shape {tuple(scores.shape)}"
        )
    return scores
