"""Somebody's photographs and labels, in one of several layouts, as something to train with."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._images import ORIENTATION, opened
from .classes import ClassSet
from .dataset import VOID
from .label_sources import (
    CocoFile,
    Colours,
    Indices,
    LabelMeFiles,
    LabelSource,
    hex_of,
    is_coloured,
)
from .own_classes import (
    BACKGROUND,
    Classes,
    classes_of_colours,
    classes_of_indices,
    classes_of_names,
    listed_classes,
    source_of,
)
from .own_layouts import Layout, find_layout
from .own_splits import Split, split_of

_NAMED = 3  # files of many that a note names


class OwnPair(NamedTuple):
    """A photograph and the file of its labels; width and height of the upright photograph."""

    image: Path
    labels: Path
    size: tuple[int, int]


@dataclass(frozen=True)
class OwnData:
    """What was found in a folder.

    Attributes:
        root: the folder.
        what: the labels, in words.
        pairs: by the photograph's name without suffix.
        class_set: names and colours.
        source: how the labels are read.
        split: which photographs are held out.
        notes: what is to be said of it, a line each.
    """

    root: Path
    what: str
    pairs: dict[str, OwnPair]
    class_set: ClassSet
    source: LabelSource
    split: Split
    notes: tuple[str, ...]

    def labels(self, name: str) -> np.ndarray:
        """(H, W) uint8, classes or 255; ValueError where they are not of the photograph's size."""
        pair = self.pairs[name]
        labels = self.source.read(pair.labels)
        if labels.shape[::-1] != pair.size:
            raise ValueError(
                f"{pair.labels}: labels of {labels.shape[1]} x {labels.shape[0]} for "
                f"{pair.image.name}, which is {pair.size[0]} x {pair.size[1]} (save the labels at "
                "the size of the photograph, enlarged to the nearest pixel)"
            )
        return labels


def find_data(root: str | os.PathLike[str]) -> OwnData:
    """Photographs, labels, classes and held-out images of a folder, whichever way it has them.

    - images/ and labels/ (or masks/) with a PNG of each photograph's name: numbers, masks of 0 and
      255, or colours;
    - LabelMe's JSON files beside the photographs, in the folder itself or in images/;
    - a COCO file of instances in the folder or in annotations/.

    Classes are those of ROOT/classes.json, a list of names, names by number or colours by name;
    else those of the shapes, categories, values or colours that are there. Held out are those of
    ROOT/val.txt, else by `own_splits.split_by_name`.

    Raises:
        FileNotFoundError: no folder, no photographs or no labels: what is expected.
        ValueError: files that cannot be used, how many and what is wrong with the first; classes
            that do not fit the labels; nothing to tell apart.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder (give the one with your photographs)")
    layout = find_layout(root)
    names, files = list(layout.pairs), list(layout.pairs.values())
    kind = _kind(layout)
    sizes = _each(_upright_size, [photo for photo, _ in files])
    first = _first_source(kind, layout)
    found = _each(first.values, [labels for _, labels in files])
    counts: Counter[Any] = Counter()
    for one in found:
        counts.update(one)
    classes = _classes(kind, layout, counts, root)
    _check_known(classes, found, files, kind)
    source: LabelSource
    if isinstance(first, CocoFile):
        numbers = {i: classes.labels.get(n, 0) for i, n in first.coco.categories.items()}
        source = CocoFile(first.coco, first.ids, numbers)
    else:
        source = source_of(kind, classes)
    what = {
        "index": "label PNGs", "colours": "coloured label PNGs",
        "labelme": "LabelMe files", "coco": "a COCO file",
    }[kind]  # fmt: skip
    pairs = {n: OwnPair(*f, size) for n, f, size in zip(names, files, sizes, strict=True)}
    split = split_of(root, names)
    notes = (classes.note, *_left_out(layout), *split.notes)
    data = OwnData(root, what, pairs, classes.class_set, source, split, notes)
    seen = _classes_seen(kind, classes, counts)
    if seen is not None and len(seen) < 2:
        raise ValueError(
            f"{layout.where}: every labelled pixel is {next(iter(seen), 'void')}: there is nothing "
            "to tell apart (label what is not the object, too; 255 is void, which does not count)"
        )
    return data


def _kind(layout: Layout) -> str:
    if layout.kind != "png":
        return layout.kind
    coloured = [is_coloured(labels) for _, labels in layout.pairs.values()]
    if all(coloured):
        return "colours"
    if any(coloured):
        by_kind = {c: f for c, (_, f) in zip(coloured, layout.pairs.values(), strict=True)}
        raise ValueError(
            f"{by_kind[True]} is coloured and {by_kind[False]} is not (save all labels alike)"
        )
    return "index"


def _first_source(kind: str, layout: Layout) -> Any:
    if kind == "coco":
        assert layout.coco is not None
        return CocoFile(*layout.coco, {})
    return {"labelme": LabelMeFiles({}), "colours": Colours({}), "index": Indices()}[kind]


def _classes(kind: str, layout: Layout, counts: Counter[Any], root: Path) -> Classes:
    listed = listed_classes(root)
    if kind == "index":
        return classes_of_indices(counts, listed, root)
    if kind == "colours":
        return classes_of_colours(counts, listed, root)
    if kind == "labelme":
        return classes_of_names(counts, listed, root, "the shapes")
    assert layout.coco is not None
    categories = layout.coco[0].categories
    used = {categories[i]: n for i, n in counts.items()}
    return classes_of_names(used, listed, root, "the categories")


def _check_known(
    classes: Classes, found: list[dict[Any, int]], files: list[tuple[Path, Path]], kind: str
) -> None:
    """Values and colours that are listed nowhere; names were looked at with the list."""
    if kind not in ("index", "colours"):
        return
    for values, (_, path) in zip(found, files, strict=True):
        unknown = [v for v in values if v not in classes.labels]
        if unknown:
            what = unknown[0] if kind == "index" else hex_of(unknown[0])
            names = ", ".join(classes.class_set.names[:20])
            raise ValueError(
                f"{path}: {values[unknown[0]]} pixels of {what}, which classes.json does not have: "
                f"its classes are {names} (add it there; what is called void does not count)"
            )


def _classes_seen(kind: str, classes: Classes, counts: Counter[Any]) -> set[str] | None:
    """Names of the classes that occur; None where the files do not say it without being drawn."""
    if kind not in ("index", "colours"):
        return None if counts else {BACKGROUND}
    labels = {classes.labels[value] for value in counts} - {VOID}
    return {classes.class_set.names[label] for label in labels}


def _left_out(layout: Layout) -> Iterable[str]:
    words = ("photographs have no labels", "labels have no photograph")
    for files, what in zip(layout.alone, words, strict=True):
        if files:
            named = ", ".join(path.name for path in files[:_NAMED])
            more = ", ..." if len(files) > _NAMED else ""
            yield f"{len(files)} {what} and are left out: {named}{more}"


def _upright_size(path: Path) -> tuple[int, int]:
    """(width, height); ValueError or OSError where it is no picture."""
    with opened(path) as file:
        turned = file.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        return (file.height, file.width) if turned else (file.width, file.height)


def _each(work: Callable[[Path], Any], paths: list[Path]) -> list[Any]:
    """work(path) of all; ValueError with the number of those that failed and the first."""

    def tried(path: Path) -> Any:
        try:
            return work(path)
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(tried, paths))
    bad = [one for one in done if isinstance(one, Exception)]
    if bad:
        more = f" ({len(bad)} of {len(done)} files cannot be used)" if len(bad) > 1 else ""
        raise ValueError(f"{bad[0]}{more}") from bad[0]
    return done
