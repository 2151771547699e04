"""The images of an evaluation that are worth a look: the best, the worst, and what the CRF did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from .. import viz
from ..data import VOID, Reader, SampleError, SegmentationDataset
from ._evaluate_image import AFTER, SMALL, small, unpack_small
from ._record import Record

LOWEST, HIGHEST = "lowest mean IoU", "highest mean IoU"
GAINED, LOST = "gained the most by the CRF", "lost the most by the CRF"
_EXTREMES, _CHANGES = 3, 2  # images of each kind


class Example(NamedTuple):
    """An image, why it is shown, and its mean IoU over the classes that it is labelled with."""

    image: str
    why: str
    mean_iou: dict[str, float]  # by variant


def choose(figures: Mapping[str, Mapping[str, float]]) -> list[Example]:
    """Of `figures`, variant -> image -> mean IoU, by the last variant; no image twice.

    An image without any labelled pixel has NaN, and is not chosen.
    """
    variants = list(figures)
    last = figures[variants[-1]]
    known = [image for image, value in last.items() if not math.isnan(value)]
    by_figure = sorted(known, key=lambda image: (last[image], image))
    wanted = [(LOWEST, by_figure[:_EXTREMES]), (HIGHEST, by_figure[: -_EXTREMES - 1 : -1])]
    if variants[-1].endswith(AFTER):
        before = figures[variants[-1].removesuffix(AFTER)]
        gains = {image: last[image] - before[image] for image in known}
        by_gain = sorted(known, key=lambda image: (gains[image], image))
        wanted.append((GAINED, [i for i in by_gain[::-1] if gains[i] > 0][:_CHANGES]))
        wanted.append((LOST, [i for i in by_gain if gains[i] < 0][:_CHANGES]))
    found: dict[str, Example] = {}
    for why, images in wanted:
        for image in images:
            values = {variant: figures[variant][image] for variant in variants}
            found.setdefault(image, Example(image, why, values))
    return list(found.values())


def mean_iou_present(matrix: np.ndarray, classes: Sequence[int] | None) -> float:
    """As of `metrics.segmentation_scores`, of (L, L) counts, in a tenth of its time.

    NaN where none of the classes is labelled.
    """
    hits, labelled = np.diag(matrix), matrix.sum(1)
    chosen = np.arange(len(matrix)) if classes is None else np.array(classes)
    present = chosen[labelled[chosen] > 0]
    if not len(present):
        return math.nan
    union = labelled + matrix.sum(0) - hits
    return float((hits[present] / union[present]).mean())


def shots(
    example: Example, dataset: SegmentationDataset, reader: Reader, kept: Record
) -> tuple[list[viz.Shot], list[tuple[str, list[int]]]]:
    """The photograph, its labels and every variant's over it; and which colour is which class.

    Nothing where the files are gone, or the image was counted before records had pictures.
    """
    entry = next(entry for entry in dataset.entries if entry.name == example.image)
    packed = {variant: kept.result(entry.name, SMALL + variant) for variant in example.mean_iou}
    try:
        photo, labels = reader.read_arrays(entry)
    except SampleError:
        return [], []
    maps = {"labels": small(labels)}
    for variant, content in packed.items():
        if content is None:
            return [], []
        try:
            maps[variant] = unpack_small(content)
        except ValueError as error:
            raise kept.damaged(entry.name, error) from None
    if len({labels.shape for labels in maps.values()}) > 1:
        return [], []  # the files have changed since
    drawn, seen = _drawn(photo, maps, dataset.palette)
    # overlays leave the first class as the photograph is
    named = [i for i in sorted(seen) if i not in (0, VOID)]
    return drawn, [(dataset.classes[i], dataset.palette[i].tolist()) for i in named]


def _drawn(
    photo: np.ndarray, maps: Mapping[str, np.ndarray], palette: np.ndarray
) -> tuple[list[viz.Shot], set[int]]:
    height, width = maps["labels"].shape
    reduced = Image.fromarray(photo).resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(reduced)
    drawn = [viz.Shot("photograph", pixels)]
    seen: set[int] = set()
    for name, labels in maps.items():
        drawn.append(viz.Shot(name, viz.overlay(pixels, labels, palette, void=VOID)))
        seen |= set(np.unique(labels).tolist())
    return drawn, seen
