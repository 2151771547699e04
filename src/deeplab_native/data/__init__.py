"""Data sets of photographs with a label for every pixel.

>>> val = open_dataset("voc", "data/VOCdevkit/VOC2012", "val")
>>> name, image, labels = val[0]  # (3, H, W) uint8 RGB and (H, W) uint8, 255 = void
>>> val.classes[labels[0, 0]]
'background'

The sets are read from their standard folders; nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .classes import CLASS_SETS, ClassSet, as_class_set
from .dataset import VOID, Entry, Reader, Sample, SampleError, SegmentationDataset
from .folder import folder
from .lists import read_ids
from .own_data import OwnData, find_data
from .pascal import pascal_context, pascal_person_part, pascal_voc
from .road import CITYSCAPES_TRAIN_IDS, camvid, cityscapes

__all__ = [
    "CITYSCAPES_TRAIN_IDS",
    "CLASS_SETS",
    "DATASETS",
    "VOID",
    "ClassSet",
    "Entry",
    "OwnData",
    "Reader",
    "Sample",
    "SampleError",
    "SegmentationDataset",
    "as_class_set",
    "camvid",
    "cityscapes",
    "find_data",
    "folder",
    "open_dataset",
    "pascal_context",
    "pascal_person_part",
    "pascal_voc",
    "read_ids",
]

DATASETS: dict[str, Callable[..., SegmentationDataset]] = {
    "voc": pascal_voc,
    "pascal-context": pascal_context,
    "pascal-person-part": pascal_person_part,
    "cityscapes": cityscapes,
    "camvid": camvid,
    "folder": folder,
}
"""The function that opens a data set, by name."""


def open_dataset(
    name: str, root: str | os.PathLike[str], split: str | None = None, **options: Any
) -> SegmentationDataset:
    """A data set by its name.

    Args:
        name: one of `DATASETS`.
        root: its folder.
        split: None for the function's default, "val"; of "folder", all pairs.
        options: of its function, as `classes` of "folder".

    Raises:
        ValueError: the name is unknown; and what the function raises.
        TypeError: the function has no such option.
        FileNotFoundError: a folder or file is missing: which, and where the set is to be had.
    """
    if name not in DATASETS:
        raise ValueError(f"name: expected one of {', '.join(DATASETS)}; got {name!r}")
    if split is not None:
        options["split"] = split
    return DATASETS[name](root, **options)
