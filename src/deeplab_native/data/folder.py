"""Any data set: a folder of photographs and a folder of label PNGs of the same names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from .._images import by_stem, picture_suffixes
from .classes import ClassSet, as_class_set
from .dataset import Entry, SegmentationDataset
from .lists import read_names

CLASSES_FILE = "classes.json"


def folder(
    root: str | os.PathLike[str],
    split: str | None = None,
    *,
    images: str = "images",
    labels: str = "labels",
    classes: ClassSet | Sequence[str] | int | str | os.PathLike[str] | None = None,
    label_map: Mapping[int, int] | None = None,
    void_borders: bool = False,
) -> SegmentationDataset:
    """Photographs of any format and label PNGs, paired by their names without suffix.

    Args:
        root: the folder that has both folders.
        split: ids from ROOT/SPLIT.txt, one a line; None for all pairs, and then every photograph
            and every label PNG must have its partner.
        images, labels: the two folders in `root` (or anywhere, as absolute paths).
        classes: names, their number, a name of `CLASS_SETS` or a JSON file {"0": name, ...}; None
            reads ROOT/classes.json.
        label_map: the label (a class, or 255 for void) of every value that the PNGs may hold.
            None: the values are the labels.
        void_borders: whether void runs along the objects' outlines.

    Raises:
        ValueError: no or bad classes; a bad list, label map or split; photographs or labels
            without partner.
        FileNotFoundError: a folder, the list or a file is missing.
    """
    top = Path(root)
    photos, annotations = top / images, top / labels
    for option, place in (("root", top), ("images", photos), ("labels", annotations)):
        if not place.is_dir():
            raise FileNotFoundError(f"{option}: {place} is no folder (give one that is there)")
    class_set = as_class_set(_default(top) if classes is None else classes)
    pictures = by_stem(photos, picture_suffixes(), "pictures")
    if split is None:
        found = by_stem(annotations, (".png",), "label PNGs")
        alone = [pictures[s] for s in pictures if s not in found]
        alone += [found[s] for s in found if s not in pictures]
        if alone:
            raise ValueError(
                f"{top}: {len(alone)} files have no partner, the first is {alone[0]} "
                "(remove them, or name the pairs in a list and give its split)"
            )
        names = list(pictures)
    else:
        if Path(split).name != split or split in ("", ".."):
            raise ValueError(f"split: expected the name of a list in {top}, got {split!r}")
        path = top / f"{split}.txt"
        if not path.is_file():
            there = sorted(p.stem for p in top.glob("*.txt"))
            hint = f"there are {', '.join(there)}" if there else "one id a line"
            raise FileNotFoundError(f"split: {path} is missing ({hint})")
        names = read_names(path)
    return SegmentationDataset(
        f"{top.resolve().name} {split or ''}".strip(),
        [
            Entry(name, pictures.get(name, photos / name), annotations / f"{name}.png")
            for name in names
        ],
        class_set,
        label_map=label_map,
        void_borders=void_borders,
    )


def _default(top: Path) -> Path:
    path = top / CLASSES_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'classes: {path} is missing (write {{"0": name, "1": name, ...}} there, or give '
            "their names or number)"
        )
    return path
