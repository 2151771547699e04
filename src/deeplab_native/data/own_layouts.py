"""Which of a folder's files are photographs, and which have their labels."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import NamedTuple

from .._annotations import Coco, read_coco
from .._images import by_stem, picture_suffixes
from .classes import read_json

LABEL_FOLDERS = ("labels", "masks", "annotations")
EXPECTED = (
    "expected images/ with photographs and labels/ with a PNG of the same name for each, LabelMe's "
    "JSON files beside the photographs, or a COCO file instances.json"
)


class Layout(NamedTuple):
    """What a folder has.

    Attributes:
        kind: "png", "labelme" or "coco".
        pairs: photograph and file of its labels (COCO: the photograph), by name.
        alone: photographs without labels, and labels without a photograph.
        coco: the file, and its images by the name of the photograph's file.
        where: the folder or file of the labels.
    """

    kind: str
    pairs: dict[str, tuple[Path, Path]]
    alone: tuple[list[Path], list[Path]]
    where: Path
    coco: tuple[Coco, dict[str, int | str]] | None = None


def find_layout(root: Path) -> Layout:
    """Raises FileNotFoundError or ValueError where there is nothing that could be trained with."""
    folder = root / "images"
    if not folder.is_dir():
        folder = root
    there = [root / name for name in LABEL_FOLDERS if (root / name).is_dir()]
    photos = _by_name(folder, picture_suffixes(), "photographs")
    for labels in there:
        found = _files(labels)
        if any(path.suffix.lower() == ".png" for path in found):
            return _of_png(photos, labels)
        if any(path.suffix.lower() in picture_suffixes() for path in found):
            first = next(p for p in found if p.suffix.lower() in picture_suffixes())
            raise ValueError(
                f"{first}: labels in a {first.suffix} file, which changes their values (save the "
                "labels as PNG)"
            )
    for labels in (folder, *there):
        pairs = {
            name: (path, labels / f"{path.stem}.json")
            for name, path in photos.items()
            if (labels / f"{path.stem}.json").is_file()
        }
        if pairs:
            return _result("labelme", photos, pairs, labels)
    for place in dict.fromkeys((root, root / "annotations", folder)):
        for path in _files(place):
            if path.suffix.lower() == ".json" and _is_coco(path):
                return _of_coco(root, photos, path)
    raise FileNotFoundError(f"{root}: {len(photos)} photographs, and no labels ({EXPECTED})")


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []


def plain(name: str) -> str:
    """A name as other systems write it, too: letters with accents have two forms."""
    return unicodedata.normalize("NFC", name)


def _by_name(folder: Path, suffixes: set[str], what: str) -> dict[str, Path]:
    return {plain(stem): path for stem, path in by_stem(folder, suffixes, what).items()}


def _of_png(photos: dict[str, Path], labels: Path) -> Layout:
    found = _by_name(labels, {".png"}, "label PNGs")
    pairs = {name: (path, found[name]) for name, path in photos.items() if name in found}
    if not pairs:
        photo = next(iter(photos.values()))
        raise ValueError(
            f"{labels}: no label PNG has the name of a photograph: {photo.name} needs "
            f"{labels.name}/{photo.stem}.png, and there is {next(iter(found.values())).name} "
            "(rename them)"
        )
    others = [path for name, path in found.items() if name not in photos]
    return _result("png", photos, pairs, labels, others)


def _is_coco(path: Path) -> bool:
    try:
        content = read_json(path)
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _of_coco(root: Path, photos: dict[str, Path], path: Path) -> Layout:
    coco = read_coco(path)
    pairs: dict[str, tuple[Path, Path]] = {}
    ids: dict[str, int | str] = {}
    missing = []
    here = {photo.name: photo for photo in photos.values()}
    for image in coco.images.values():
        # a file may name any path; only the photographs below the folder are meant
        relative = os.path.normpath(image.file_name)
        inside = not relative.startswith(("/", ".."))
        tried = [top / relative for top in (root, root / "images", path.parent) if inside]
        photo = here.get(Path(image.file_name).name)
        photo = next((p for p in tried if p.is_file()), photo)
        if photo is None:
            missing.append(Path(image.file_name))
            continue
        if photo.name in ids:
            raise ValueError(f"{path}: two photographs of the name {photo.name} (rename one)")
        ids[photo.name] = image.id
        pairs[plain(photo.stem)] = photo, photo
    if not pairs:
        raise FileNotFoundError(
            f"{path}: none of its {len(coco.images)} photographs is in {root} (the first is "
            f"{missing[0] if missing else 'missing'})"
        )
    return _result("coco", photos, pairs, path, missing)._replace(coco=(coco, ids))


def _result(
    kind: str,
    photos: dict[str, Path],
    pairs: dict[str, tuple[Path, Path]],
    where: Path,
    others: list[Path] | None = None,
) -> Layout:
    alone = [path for name, path in photos.items() if name not in pairs]
    return Layout(kind, dict(sorted(pairs.items())), (alone, others or []), where)
