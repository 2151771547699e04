"""Mean IoU of the net as it is, while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from .. import viz
from ..data import VOID, SampleError, SegmentationDataset
from ..metrics import SegmentationScores, confusion_matrix, segmentation_scores
from ..models._evaluation import evaluating
from ..models.base import DeepLab


@dataclass
class Validated:
    """Of one validation, in this process.

    Attributes:
        counts: (L, L) int64, confusion matrix.
        pictures: name -> (H, 3 W, 3) uint8: photograph, labels and prediction side by side.
        failures: (name, message) of samples that could not be used.
    """

    counts: torch.Tensor
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def scores(self) -> SegmentationScores:
        """The figures of `counts`, see `metrics.segmentation_scores`."""
        return segmentation_scores(self.counts)


def chosen_images(size: int, images: int | None) -> list[int]:
    """`images` of `size`, evenly spread; all where None."""
    if images is None or images >= size:
        return list(range(size))
    return [i * size // images for i in range(images)]


def validate(
    net: DeepLab,
    dataset: SegmentationDataset,
    indices: Sequence[int],
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[object]],
    channels_last: bool,
    scale: float = 1.0,
    pictures: int = 0,
    skip_bad: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Validated:
    """Predicts images at their own size, padded with the mean colour, as `predict` does.

    Args:
        indices: which samples of `dataset`.
        scale: of the images in the net (Table 9: 0.5); the scores are interpolated to full size.
        pictures: of the first so many, pictures are made.
        skip_bad: leaves out what cannot be used, otherwise SampleError is raised.
        progress: called after every image.
    """
    result = Validated(torch.zeros(net.num_classes, net.num_classes, dtype=torch.int64))
    with evaluating(net), torch.inference_mode():
        for index in indices:
            entry = dataset.entries[index]
            try:
                image, labels = dataset.reader.read_arrays(entry)
            except SampleError as error:
                if not skip_bad:
                    raise
                result.failures.append((entry.name, str(error)))
                continue
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(device)
            with autocast():
                predicted = _predict(net, pixels, channels_last, scale).cpu()
            truth = torch.from_numpy(labels)
            result.counts += confusion_matrix(truth, predicted, net.num_classes)
            if len(result.pictures) < pictures:
                result.pictures[entry.name] = picture(
                    image, labels, predicted.numpy(), dataset.palette
                )
            progress()
    return result


def _predict(net: DeepLab, pixels: torch.Tensor, channels_last: bool, scale: float) -> torch.Tensor:
    """(H, W) int64 labels of an image (1, 3, H, W) uint8."""
    full = pixels.shape[2:]
    if scale != 1:
        size = [max(1, int(n * scale)) for n in full]
        pixels = nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False)
    height, width = pixels.shape[2:]
    stride = net.output_stride
    size = [side + -(side - 1) % stride for side in (height, width)]
    x = nn.functional.pad(net.preprocessing(pixels), (0, size[1] - width, 0, size[0] - height))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    scores = nn.functional.interpolate(
        net(x).float(), size=size, mode="bilinear", align_corners=True
    )[:, :, :height, :width]
    if scale != 1:
        scores = nn.functional.interpolate(scores, full, mode="bilinear", align_corners=False)
    return scores[0].argmax(0)


def picture(
    image: np.ndarray, labels: np.ndarray, predicted: np.ndarray, palette: np.ndarray
) -> np.ndarray:
    """(H, 3 W, 3) uint8: the photograph, its labels over it (void white), the prediction."""
    truth = viz.overlay(image, labels, palette, void=VOID)
    return np.concatenate([image, truth, viz.overlay(image, predicted, palette)], axis=1)
