"""Pictures of what a trained net makes of held-out photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from .. import viz
from ..data import SegmentationDataset
from ..models import DeepLab, predict
from .validation import chosen_images, picture


def write_examples(
    net: DeepLab, dataset: SegmentationDataset, folder: Path, *, count: int = 3
) -> list[Path]:
    """Writes NAME.png of photographs that are evenly spread over a data set.

    From left to right: the photograph, its labels (void white), those of the net, and with the CRF
    where the net has parameters of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index in chosen_images(len(dataset), count):
        name = dataset.entries[index].name
        image, truth = dataset.reader.read_arrays(dataset.entries[index])
        found = predict(net, image, crf=net.crf)
        parts = [picture(image, truth, _labels(found.scores), dataset.palette)]
        if net.crf is not None:
            parts.append(viz.overlay(image, found.labels.cpu().numpy(), dataset.palette))
        path = folder / f"{name}.png"
        viz.save_png(path, np.concatenate(parts, axis=1))
        written.append(path)
    return written


def _labels(scores: torch.Tensor) -> np.ndarray:
    labels: np.ndarray = scores.argmax(0).cpu().numpy()
    return labels
