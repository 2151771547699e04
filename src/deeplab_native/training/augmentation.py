"""What the authors' data layer does to a photograph and its labels, together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from ..data import VOID

if TYPE_CHECKING:
    from .config import Augmentation


class Crop(NamedTuple):
    """A square crop.

    Attributes:
        image: (3, crop, crop) uint8, RGB; 0 outside of `inside`.
        labels: (crop, crop) uint8; 255 outside of `inside`.
        inside: (height, left, right): image pixels are in rows 0 to height - 1 and columns left to
            right - 1. What pads is the mean colour, which a net's input has and uint8 has not.
    """

    image: torch.Tensor
    labels: torch.Tensor
    inside: tuple[int, int, int]


class Draw(NamedTuple):
    """What chance says of a sample.

    Attributes:
        height, width: of the scaled photograph.
        top, left: of the crop in it.
        mirror: whether the crop, padding included, is mirrored.
        gain, offset: level v becomes (v - 127.5) gain + 127.5 + offset, rounded and cut to 0..255.
    """

    height: int
    width: int
    top: int
    left: int
    mirror: bool
    gain: float
    offset: float


def draw(shape: tuple[int, int], config: Augmentation, random: np.random.Generator) -> Draw:
    """For a photograph of (H, W); the same numbers are drawn whatever its size."""
    scale, top, left, mirror, brightness, contrast = random.random(6)
    if config.scale_range is not None:
        least, most = config.scale_range
        factor = least + (most - least) * scale
    else:
        factor = config.scales[int(scale * len(config.scales))]
    height, width = (max(1, int(n * factor)) for n in shape)
    return Draw(
        height,
        width,
        int(top * (max(0, height - config.crop) + 1)),
        int(left * (max(0, width - config.crop) + 1)),
        bool(config.mirror and mirror < 0.5),
        1 + config.contrast * (2 * contrast - 1),
        255 * config.brightness * (2 * brightness - 1),
    )


def augment(
    image: np.ndarray, labels: np.ndarray, config: Augmentation, random: np.random.Generator
) -> Crop:
    """Scales, pads, crops, mirrors, and changes brightness and contrast.

    As the authors: sizes are trunc(scale * size); the image bilinear without antialiasing, labels
    nearest (OpenCV's rules: pixel centres, and floor(i / scale)); padding at the bottom and the
    right, then a crop drawn uniformly, then the mirror.

    Args:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) uint8.
        random: the only source of chance; the same numbers are drawn whatever the image's size.
    """
    drawn = draw((labels.shape[0], labels.shape[1]), config, random)
    size = [drawn.height, drawn.width]
    rows, columns = (slice(n, n + config.crop) for n in (drawn.top, drawn.left))
    pixels = _resized(image, size)[:, rows, columns]
    truth = _nearest(labels, size, rows, columns)
    height, width = truth.shape
    out = torch.zeros((3, config.crop, config.crop), dtype=torch.uint8)
    void = torch.full((config.crop, config.crop), VOID, dtype=torch.uint8)
    out[:, :height, :width] = pixels
    if config.brightness or config.contrast:
        table = _levels(drawn)
        out[:, :height, :width] = torch.from_numpy(table[out[:, :height, :width].numpy()])
    void[:height, :width] = torch.from_numpy(truth)
    if drawn.mirror:
        return Crop(out.flip(2), void.flip(1), (height, config.crop - width, config.crop))
    return Crop(out, void, (height, 0, width))


def _resized(image: np.ndarray, size: list[int]) -> torch.Tensor:
    """(3, *size) uint8, a view of channels last memory, which PyTorch resizes fastest."""
    planes = torch.from_numpy(image).permute(2, 0, 1)
    if tuple(size) == image.shape[:2]:
        return planes
    # by the sizes, as OpenCV does, and not by the factor that was cut to them
    resized = nn.functional.interpolate(planes[None], size, mode="bilinear", align_corners=False)
    return resized[0]


def _nearest(labels: np.ndarray, size: list[int], rows: slice, columns: slice) -> np.ndarray:
    """Labels of the crop only: floor(i * old / new) of every row and column."""
    chosen = [
        np.arange(part.start, min(part.stop, new)) * old // new
        for part, new, old in zip((rows, columns), size, labels.shape, strict=True)
    ]
    cut: np.ndarray = labels[chosen[0][:, None], chosen[1]]
    return cut


def _levels(drawn: Draw) -> np.ndarray:
    """(256,) uint8: what each level becomes."""
    levels = (np.arange(256) - 127.5) * drawn.gain + 127.5 + drawn.offset
    table: np.ndarray = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return table
