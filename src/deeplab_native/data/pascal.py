"""PASCAL VOC 2012, PASCAL-Context and PASCAL-Person-Part (section 4 of the paper)."""

from __future__ import annotations

import os
from pathlib import Path

from .._images import by_stem
from .classes import PASCAL_CONTEXT, PASCAL_PERSON_PART, VOC
from .dataset import Entry, SegmentationDataset
from .lists import check_split, entries_of_list, find_root

_VOC_ADVICE = (
    "unpack VOCtrainval_11-May-2012.tar there, from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
)
_AUG_ADVICE = (
    "put the label PNGs of trainaug there: those of VOC and those made of the Semantic Boundaries "
    "Dataset, http://home.bharathh.info/pubs/codes/SBD/download.html"
)
_CONTEXT_ADVICE = (
    "photographs: VOC 2010, http://host.robots.ox.ac.uk/pascal/VOC/voc2010/; annotations, to be "
    "saved as PNGs of 60 values: https://cs.stanford.edu/~roozbeh/pascal-context/"
)
_PARTS_ADVICE = (
    "labels and lists: pascal_person_part.zip of http://liangchiehchen.com/projects/DeepLab.html; "
    "photographs: VOC 2010, http://host.robots.ox.ac.uk/pascal/VOC/voc2010/"
)


def pascal_voc(
    root: str | os.PathLike[str],
    split: str = "val",
    *,
    list_file: str | os.PathLike[str] | None = None,
) -> SegmentationDataset:
    """PASCAL VOC 2012: 20 classes and the background, void along the outlines.

    Args:
        root: the folder with JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/, or one
            that has it as VOC2012/ or VOCdevkit/VOC2012/.
        split: "train" (1464), "val" (1449), "trainval" (2913); "train_aug" (10582) and
            "trainval_aug" (12031) take their labels from SegmentationClassAug/, made of VOC's and
            those of the Semantic Boundaries Dataset.
        list_file: ids instead of the split's own list, one a line, or DeepLab's lines
            "/JPEGImages/ID.jpg /SegmentationClassAug/ID.png".

    The lists of the _aug splits are ImageSets/SegmentationAug/SPLIT.txt or
    ImageSets/Segmentation/SPLIT.txt (or, as others name it, trainaug.txt). Without one,
    trainval_aug is all of SegmentationClassAug/, and train_aug all but val: where the folder is
    complete, the same images in the same order.

    Raises:
        ValueError: unknown split, or "test", whose labels are not public; an empty or bad list.
        FileNotFoundError: a folder, a list or a file that a list names is missing.
    """
    title = "PASCAL VOC 2012"
    check_split(
        title, split, ("train", "val", "trainval", "train_aug", "trainval_aug"), hidden=("test",)
    )
    folder = find_root(
        title, Path(root), ("VOC2012", "VOCdevkit/VOC2012"), "JPEGImages", _VOC_ADVICE
    )
    augmented = split.endswith("_aug")
    labels = "SegmentationClassAug" if augmented else "SegmentationClass"
    advice = _AUG_ADVICE if augmented else _VOC_ADVICE
    names = [f"ImageSets/Segmentation/{split}.txt"]
    if augmented:
        names = [
            f"ImageSets/{lists}/{name}.txt"
            for lists in ("SegmentationAug", "Segmentation")
            for name in (split, split.replace("_", ""))
        ]
    found = _list(folder, names, list_file)
    if found is not None:
        entries = entries_of_list(found, folder, "JPEGImages", labels)
    elif augmented:
        entries = _all_augmented(folder, without_val=split == "train_aug")
    else:
        raise FileNotFoundError(f"{title}: {folder / names[0]} is missing ({advice})")
    return SegmentationDataset(f"{title} {split}", entries, VOC, void_borders=True, advice=advice)


def _list(folder: Path, names: list[str], given: str | os.PathLike[str] | None) -> Path | None:
    if given is not None:
        if not Path(given).is_file():
            raise FileNotFoundError(f"list_file: {given} is no file (give a list of ids)")
        return Path(given)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _all_augmented(folder: Path, *, without_val: bool) -> list[Entry]:
    labels = folder / "SegmentationClassAug"
    if not labels.is_dir():
        raise FileNotFoundError(f"PASCAL VOC 2012: {labels} is missing ({_AUG_ADVICE})")
    files = by_stem(labels, (".png",), "label PNGs")
    if without_val:
        val = folder / "ImageSets/Segmentation/val.txt"
        if not val.is_file():
            raise FileNotFoundError(
                f"PASCAL VOC 2012: {val} is missing, without which train_aug could hold images of "
                f"val ({_VOC_ADVICE})"
            )
        for entry in entries_of_list(val, folder, "JPEGImages", "SegmentationClass"):
            files.pop(entry.name, None)
    return [Entry(name, folder / f"JPEGImages/{name}.jpg", file) for name, file in files.items()]


def pascal_context(
    root: str | os.PathLike[str],
    split: str = "val",
    *,
    list_file: str | os.PathLike[str] | None = None,
) -> SegmentationDataset:
    """PASCAL-Context: 59 classes and the background (class 0) over whole scenes.

    Args:
        root: the folder with JPEGImages/, SegmentationClassContext/ (PNGs of the values 0 to 59)
            and ImageSets/SegmentationContext/, or one that has it as VOC2010/ or
            VOCdevkit/VOC2010/.
        split: "train" (4998) or "val" (5105).
        list_file: as in `pascal_voc`.

    The names are those of PNGs whose classes 1 to 59 are in the order of the alphabet, as they are
    mostly made. PNGs in another order, as with VOC's 20 classes first, need `folder` and a
    classes.json.

    Raises:
        ValueError: unknown split; an empty or bad list.
        FileNotFoundError: a folder, a list or a file that a list names is missing.
    """
    title = "PASCAL-Context"
    check_split(title, split, ("train", "val"))
    folder = find_root(
        title, Path(root), ("VOC2010", "VOCdevkit/VOC2010"), "JPEGImages", _CONTEXT_ADVICE
    )
    name = f"ImageSets/SegmentationContext/{split}.txt"
    found = _list(folder, [name], list_file)
    if found is None:
        raise FileNotFoundError(f"{title}: {folder / name} is missing ({_CONTEXT_ADVICE})")
    entries = entries_of_list(found, folder, "JPEGImages", "SegmentationClassContext")
    return SegmentationDataset(f"{title} {split}", entries, PASCAL_CONTEXT, advice=_CONTEXT_ADVICE)


def pascal_person_part(
    root: str | os.PathLike[str],
    split: str = "val",
    *,
    list_file: str | os.PathLike[str] | None = None,
) -> SegmentationDataset:
    """PASCAL-Person-Part: six parts of persons and the background.

    Args:
        root: the folder with JPEGImages/, pascal_person_part_gt/ and train_id.txt, val_id.txt; or
            the one in which pascal_person_part.zip was unpacked (pascal_person_part/ with its
            pascal_person_part_trainval_list/) beside JPEGImages/ or VOCdevkit/VOC2010/.
        split: "train" (1716) or "val" (1817).
        list_file: as in `pascal_voc`.

    Raises:
        ValueError: unknown split; an empty or bad list.
        FileNotFoundError: a folder, a list or a file that a list names is missing.
    """
    title = "PASCAL-Person-Part"
    check_split(title, split, ("train", "val"))
    top = Path(root)
    folder = find_root(title, top, ("pascal_person_part",), "pascal_person_part_gt", _PARTS_ADVICE)
    places = ("", "VOC2010/", "VOCdevkit/VOC2010/")
    around = [base / place for base in (folder, top) for place in places]
    photos = next((place for place in around if (place / "JPEGImages").is_dir()), None)
    if photos is None:
        raise FileNotFoundError(f"{title}: {top / 'JPEGImages'} is missing ({_PARTS_ADVICE})")
    names = [f"{split}_id.txt", f"pascal_person_part_trainval_list/{split}.txt", f"{split}.txt"]
    found = _list(folder, names, list_file)
    if found is None:
        raise FileNotFoundError(f"{title}: {folder / names[0]} is missing ({_PARTS_ADVICE})")
    entries = [
        Entry(name, photos / "JPEGImages" / image.name, labels)
        for name, image, labels in entries_of_list(
            found, folder, "JPEGImages", "pascal_person_part_gt"
        )
    ]
    return SegmentationDataset(
        f"{title} {split}", entries, PASCAL_PERSON_PART, advice=_PARTS_ADVICE
    )
