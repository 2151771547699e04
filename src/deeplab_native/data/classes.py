"""Class names and colours of the data sets; the index of a class is its place."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..viz import VOC_CLASSES, named_palette, voc_palette

MOST_CLASSES = 255
"""Of a label PNG: its 256 values without void."""


@dataclass(frozen=True)
class ClassSet:
    """Names and colours of the classes 0, 1, ...

    Attributes:
        names: one for each class, no two alike.
        palette: (n, 3) uint8, RGB. VOC's colour map when None is given.

    Raises:
        ValueError: no name, more than 255, two alike; a palette of another form.
    """

    names: tuple[str, ...]
    palette: np.ndarray = field(default=None, repr=False, compare=False)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MOST_CLASSES:
            raise ValueError(f"names: expected 1 to {MOST_CLASSES} classes, got {len(self.names)}")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"names: expected different ones, got {', '.join(twice)} repeatedly")
        palette = voc_palette(len(self.names)) if self.palette is None else self.palette
        palette = np.asarray(palette)
        if palette.shape != (len(self.names), 3) or palette.dtype != np.uint8:
            raise ValueError(
                f"palette: expected ({len(self.names)}, 3) uint8, "
                f"got {palette.shape} {palette.dtype}"
            )
        object.__setattr__(self, "palette", palette)

    def __len__(self) -> int:
        return len(self.names)


VOC = ClassSet(VOC_CLASSES)

# In the order of the alphabet, after the background: the indices of the widely used PNGs. Other
# PNGs, with VOC's 20 classes first, are about: their readers give their own names.
PASCAL_CONTEXT = ClassSet(
    (
        "background", "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird",
        "boat", "book", "bottle", "building", "bus", "cabinet", "car", "cat", "ceiling",
        "chair", "cloth", "computer", "cow", "cup", "curtain", "dog", "door", "fence",
        "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light",
        "motorbike", "mountain", "mouse", "person", "plate", "platform", "pottedplant",
        "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow", "sofa",
        "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window",
        "wood",
    )
)  # fmt: skip

PASCAL_PERSON_PART = ClassSet(
    ("background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs")
)

# By train ids
CITYSCAPES = ClassSet(
    (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    ),
    named_palette("cityscapes")[:19],
)  # fmt: skip

CAMVID = ClassSet(
    (
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car",
        "pedestrian", "bicyclist",
    ),
    np.array(
        (
            (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222),
            (128, 128, 0), (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
        ),
        np.uint8,
    ),
)  # fmt: skip

CLASS_SETS: dict[str, ClassSet] = {
    "voc": VOC,
    "pascal-context": PASCAL_CONTEXT,
    "pascal-person-part": PASCAL_PERSON_PART,
    "cityscapes": CITYSCAPES,
    "camvid": CAMVID,
}
"""By the names that `open_dataset` has for the data sets."""


def as_class_set(
    classes: ClassSet | Sequence[str] | int | str | os.PathLike[str],
) -> ClassSet:
    """Classes as a user may give them.

    Args:
        classes: names; their number (the names are then "class 0", ...); a name of `CLASS_SETS`;
            or a JSON file: [name, name, ...], {"0": name, "1": name, ...} or {name: 0, name: 1,
            ...}.

    Raises:
        TypeError: something else.
        ValueError: not 1 to 255 classes; two of a name; a file of another form, or neither a file
            nor a name of `CLASS_SETS`.
        OSError: the file cannot be read.
    """
    if isinstance(classes, ClassSet):
        return classes
    if isinstance(classes, int) and not isinstance(classes, bool):
        if not 1 <= classes <= MOST_CLASSES:
            raise ValueError(f"classes: expected 1 to {MOST_CLASSES}, got {classes}")
        return ClassSet(tuple(f"class {i}" for i in range(classes)))
    if isinstance(classes, (str, os.PathLike)):
        if isinstance(classes, str) and classes in CLASS_SETS:
            return CLASS_SETS[classes]
        if isinstance(classes, str) and classes.isdecimal():
            return as_class_set(int(classes))
        if isinstance(classes, str) and not Path(classes).suffix:
            raise ValueError(
                f"classes: expected a number, a .json file or one of {', '.join(CLASS_SETS)}; "
                f"got {classes!r}"
            )
        return _read_classes(Path(classes))
    if not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes: expected names, a number or a file, got {classes!r}")
    return ClassSet(tuple(classes))


def _read_classes(path: Path) -> ClassSet:
    numbers = class_numbers(read_json(path), path)
    if sorted(numbers) != list(range(len(numbers))):
        raise ValueError(
            f"{path}: expected class names of 0, 1, ... without gaps, got those of "
            f"{', '.join(map(str, sorted(numbers)))}"[:400]
        )
    try:
        return ClassSet(tuple(numbers[i] for i in range(len(numbers))))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def class_numbers(content: object, path: Path) -> dict[int, str]:
    """Class names by number: of [name, ...], {"0": name, ...} or {name: 0, ...}.

    Raises ValueError that names the file for another form.
    """
    pairs: list[tuple[object, object]] = [(None, content)]
    if isinstance(content, list):
        pairs = list(enumerate(content))
    elif isinstance(content, dict):
        pairs = [(int(k), v) if _is_number(k) else (v, k) for k, v in content.items()]
    found = {number: name for number, name in pairs if type(number) is int}
    if len(found) < len(pairs) or not all(isinstance(name, str) for name in found.values()):
        raise ValueError(
            f'{path}: expected class names, as a list ["background", ...] or by index, '
            f'{{"0": "background", ...}}; got {json.dumps(content)}'[:400]
        )
    return {number: str(name) for number, name in found.items()}


def _is_number(key: str) -> bool:
    return key.isdecimal() and len(key) <= 9


def read_json(path: Path) -> object:
    """Raises OSError, or ValueError where the file is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no JSON: {error}") from None


def read_json_object(path: Path) -> dict[str, object]:
    """Raises OSError, or ValueError where the file is no JSON object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
