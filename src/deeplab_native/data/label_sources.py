"""Labels as people have them: indices, masks, colours, LabelMe's and COCO's shapes.

Each source says what is in a file (`values`), so that the classes can be found, and then makes
labels of it: (H, W) uint8, classes 0, 1, ... or 255, void.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .._annotations import Coco, read_labelme
from .._images import opened, read_index_png

MOST_COLOURS = 64
"""Of a coloured label PNG: more are those of a photograph, or of smoothed edges."""


class LabelSource(Protocol):
    """How the labels of a photograph are read. Both raise ValueError or OSError with the file."""

    def values(self, path: Path) -> dict[Any, int]:
        """What is in the file, with its pixels (0 where they are not counted), and void left in."""

    def read(self, path: Path) -> np.ndarray:
        """(H, W) uint8, classes or 255."""


@dataclass(frozen=True)
class Indices:
    """Label PNGs whose values are numbers; `table`: label of each of 256 values."""

    table: tuple[int, ...] = tuple(range(256))

    def values(self, path: Path) -> dict[Any, int]:
        """Values of pixels."""
        counts = np.bincount(read_index_png(path).ravel(), minlength=256)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}

    def read(self, path: Path) -> np.ndarray:
        """See `LabelSource`."""
        labels: np.ndarray = np.array(self.table, np.uint8)[read_index_png(path)]
        return labels


Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Colours:
    """Label PNGs whose colours stand for classes; `labels`: by colour."""

    labels: Mapping[Colour, int]

    def values(self, path: Path) -> dict[Any, int]:
        """Colours (red, green, blue)."""
        packed, counts = np.unique(_packed(path), return_counts=True)
        if len(packed) > MOST_COLOURS:
            raise ValueError(
                f"{path}: {len(packed)} colours, as of a photograph or of smoothed edges (save the "
                "labels without anti-aliasing, one colour for each class)"
            )
        return {_colour(int(c)): int(n) for c, n in zip(packed, counts, strict=True)}

    def read(self, path: Path) -> np.ndarray:
        """See `LabelSource`."""
        found, inverse = np.unique(_packed(path), return_inverse=True)
        colours = [_colour(int(c)) for c in found]
        unknown = [c for c in colours if c not in self.labels]
        if unknown:
            raise ValueError(f"{path}: {hex_of(unknown[0])} is the colour of no class")
        of = np.array([self.labels[c] for c in colours], np.uint8)
        labels: np.ndarray = of[inverse.reshape(_shape(path))]
        return labels


def hex_of(colour: Colour) -> str:
    """#rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def is_coloured(path: Path) -> bool:
    """Whether a PNG has colours, not numbers; ValueError or OSError where it is no picture."""
    with opened(path) as file:
        return file.mode in ("RGB", "RGBA")


def _packed(path: Path) -> np.ndarray:
    """(H * W,) int32 of red, green and blue in turn."""
    with opened(path) as file:
        if file.format != "PNG":
            raise ValueError(
                f"{path}: labels in a {file.format} file, which may be lossy (save them as PNG)"
            )
        pixels = np.array(file.convert("RGB")).astype(np.int32)
    packed: np.ndarray = (pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]).ravel()
    return packed


def _colour(packed: int) -> Colour:
    return packed >> 16, packed >> 8 & 255, packed & 255


def _shape(path: Path) -> tuple[int, int]:
    with opened(path) as file:
        return file.height, file.width


@dataclass(frozen=True)
class LabelMeFiles:
    """LabelMe's JSON files, one for each photograph; `numbers`: labels by name."""

    numbers: Mapping[str, int]

    def values(self, path: Path) -> dict[Any, int]:
        """Names of the shapes; LabelMe's own for background and void are not among them."""
        return dict.fromkeys(read_labelme(path).names, 0)

    def read(self, path: Path) -> np.ndarray:
        """See `LabelSource`."""
        return read_labelme(path).label_map(self.numbers)


@dataclass(frozen=True)
class CocoFile:
    """A COCO file; `ids`: image by the name of the photograph, `numbers`: labels by category."""

    coco: Coco
    ids: Mapping[str, int | str]
    numbers: Mapping[int, int]

    def values(self, path: Path) -> dict[Any, int]:
        """Categories of the objects of the photograph `path`."""
        annotations = self.coco.annotations[self.ids[path.name]]
        return {a["category_id"]: 0 for a in annotations}

    def read(self, path: Path) -> np.ndarray:
        """See `LabelSource`; of the photograph `path`."""
        return self.coco.label_map(self.ids[path.name], self.numbers)
