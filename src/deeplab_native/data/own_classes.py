"""The classes of somebody's labels: by a list, by the files, or by the labels themselves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..viz import voc_palette
from .classes import ClassSet, class_numbers, read_json
from .dataset import VOID
from .label_sources import Colour, Colours, Indices, LabelMeFiles, hex_of

CLASSES_FILE = "classes.json"
BACKGROUND = "background"
_VOID_NAMES = ("void", "ignore", "unlabeled", "unlabelled")
_VOC_VOID = (224, 224, 192)
_MASK = {0, 255}
_NAME_THEM = f"{CLASSES_FILE} in the folder names them"


class Classes(NamedTuple):
    """Classes 0, 1, ... and how files have them.

    Attributes:
        class_set: names and colours.
        labels: class, or 255, of each value, colour, name or category.
        note: where they are from, in words.
    """

    class_set: ClassSet
    labels: Mapping[Any, int]
    note: str


def listed_classes(root: Path) -> dict[Any, str] | None:
    """Of ROOT/classes.json: names by number, or by colour; None where there is none.

    Raises ValueError where it is of another form.
    """
    path = root / CLASSES_FILE
    if not path.is_file():
        return None
    content = read_json(path)
    if isinstance(content, dict) and any(isinstance(v, list) for v in content.values()):
        return _by_colour(content, path)
    return dict(class_numbers(content, path))


def _by_colour(content: dict[str, Any], path: Path) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for name, colour in content.items():
        good = isinstance(colour, list) and len(colour) == 3
        if not good or not all(type(v) is int and 0 <= v <= 255 for v in colour):
            raise ValueError(
                f'{path}: expected the colour of each class, {{"cat": [128, 0, 0], ...}}; got '
                f"{json.dumps({name: colour})}"[:300]
            )
        if tuple(colour) in found:
            raise ValueError(f"{path}: {found[tuple(colour)]} and {name} have the same colour")
        found[tuple(colour)] = name
    return found


def classes_of_indices(counts: Counter[int], listed: dict[Any, str] | None, root: Path) -> Classes:
    """Of the values of label PNGs, with their pixels."""
    values = sorted(set(counts) - {VOID})
    if listed is not None:
        listed = _numbered(listed, root)
        voids = [value for value, name in listed.items() if name.lower() in _VOID_NAMES]
        kept = [value for value in sorted(listed) if value not in voids]
        number = {value: i for i, value in enumerate(kept)} | dict.fromkeys(voids, VOID)
        if kept == [0, 1] and set(counts) == _MASK:
            number[VOID] = 1
        note = f"{len(kept)} classes of {CLASSES_FILE}{_as_void(listed, voids)}"
        table = {**number, VOID: number.get(VOID, VOID)}
        return Classes(ClassSet(tuple(listed[v] for v in kept)), table, note)
    if set(counts) == _MASK:
        note = "the labels are masks of 0 and 255 alone: background and foreground"
        return Classes(ClassSet((BACKGROUND, "foreground")), {0: 0, 255: 1}, note)
    names = tuple(BACKGROUND if value == 0 else f"class {value}" for value in values)
    said = ", ".join(map(str, values))
    note = f"{len(names)} classes by the values of the labels, {said} (255 is void); {_NAME_THEM}"
    return Classes(ClassSet(names), {v: i for i, v in enumerate(values)} | {VOID: VOID}, note)


def _as_void(listed: Mapping[Any, str], voids: list[Any]) -> str:
    names = ", ".join(listed[value] for value in voids)
    return f"; {names} does not count" if voids else ""


def _numbered(listed: dict[Any, str], root: Path) -> dict[Any, str]:
    if not all(isinstance(key, int) for key in listed):
        raise ValueError(
            f"{root / CLASSES_FILE}: gives colours, but the label PNGs hold numbers (give "
            'the names by number, {"0": "background", ...})'
        )
    return listed


def classes_of_colours(
    counts: Counter[Colour], listed: dict[Any, str] | None, root: Path
) -> Classes:
    """Of the colours of label PNGs, with their pixels."""
    colours = sorted(set(counts))
    path = root / CLASSES_FILE
    if listed is not None and all(isinstance(key, int) for key in listed):
        listed = _of_voc(listed, colours, path)
    if listed is not None:
        voids = [c for c, name in listed.items() if name.lower() in _VOID_NAMES]
        named = {c: name for c, name in listed.items() if c not in voids}
        labels = {c: i for i, c in enumerate(named)} | dict.fromkeys(voids, VOID)
        note = f"{len(named)} classes of {CLASSES_FILE}, by their colours{_as_void(listed, voids)}"
    else:
        background = [(0, 0, 0)] if (0, 0, 0) in counts else []
        kept = [c for c in colours if c not in ((0, 0, 0), _VOC_VOID)]
        named = {c: BACKGROUND if c in background else hex_of(c) for c in (*background, *kept)}
        labels = {c: i for i, c in enumerate(named)}
        said = ", ".join(map(hex_of, named))
        note = (
            f"the labels are coloured: {len(named)} classes, {said}; {_NAME_THEM}, "
            f'{{"background": [0, 0, 0], "cat": [128, 0, 0], ...}}'
        )
    labels.setdefault(_VOC_VOID, VOID)
    palette = np.array(list(named), np.uint8).reshape(-1, 3)
    return Classes(ClassSet(tuple(named.values()), palette), labels, note)


def _of_voc(listed: dict[Any, str], colours: list[Colour], path: Path) -> dict[Any, str]:
    """The names by VOC's colours, which label tools give numbers, where these are all there are."""
    palette = [tuple(map(int, colour)) for colour in voc_palette()]
    known = {palette[number]: name for number, name in sorted(listed.items())}
    others = [c for c in colours if c not in known and c != _VOC_VOID]
    if others:
        raise ValueError(
            f"{path}: gives names by number, but the labels are coloured, and {hex_of(others[0])} "
            f'is not VOC\'s colour of one (give the colours, {{"{next(iter(listed.values()))}": '
            f"{list(others[0])}, ...}})"
        )
    return dict(known)


def classes_of_names(
    counts: Mapping[str, int], listed: dict[Any, str] | None, root: Path, what: str
) -> Classes:
    """Of the names of shapes or categories; a background is added where none is listed."""
    if listed is None:
        names = [name for name in sorted(counts) if name != BACKGROUND]
        names = [BACKGROUND, *names]
        note = f"{len(names)} classes by {what}: {', '.join(names)}"
    else:
        names = [name for _, name in sorted(listed.items())]
        note = f"{len(names)} classes of {CLASSES_FILE}"
        unknown = sorted(set(counts) - set(names))
        if unknown:
            raise ValueError(
                f"{root / CLASSES_FILE}: {what} have {', '.join(unknown)}, which is not among the "
                f"classes {', '.join(names)} (add it)"
            )
        if names[0] in counts and names[0] != BACKGROUND:
            raise ValueError(
                f"{root / CLASSES_FILE}: the first class is {names[0]}, which has shapes; what is "
                f"in no shape needs a class, too (begin the list with {BACKGROUND!r})"
            )
    return Classes(ClassSet(tuple(names)), {name: i for i, name in enumerate(names)}, note)


def source_of(kind: str, classes: Classes) -> Indices | Colours | LabelMeFiles:
    """How files are read whose classes are known."""
    if kind == "labelme":
        return LabelMeFiles(classes.labels)
    if kind == "colours":
        return Colours(classes.labels)
    return Indices(tuple(classes.labels.get(value, VOID) for value in range(256)))
