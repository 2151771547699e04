"""What all data sets have in common: photographs with label PNGs, read one at a time."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, SupportsIndex

import numpy as np

from .._images import TURNED, read_index_png, read_picture
from .classes import ClassSet

if TYPE_CHECKING:
    import torch

VOID = 255
"""The label of pixels that do not count, in every data set here."""


class SampleError(ValueError):
    """A photograph or its labels cannot be used; the message names the file.

    A loop over a data set can catch it, and leave the sample out or stop.
    """


class Entry(NamedTuple):
    """The files of a sample; `name` is the photograph's, without suffix."""

    name: str
    image: Path
    labels: Path


class Sample(NamedTuple):
    """A photograph with its labels.

    Attributes:
        name: of the photograph, without suffix; different for every sample of a data set.
        image: (3, H, W) uint8, RGB.
        labels: (H, W) uint8, classes below the number of classes, or 255 (void).
    """

    name: str
    image: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Reader:
    """Reads samples: all that must be known beside the files. Small, for worker processes.

    Attributes:
        num_classes: labels are 0 to `num_classes` - 1, or 255.
        label_map: (value in the file, label) of every value that may occur; None where the values
            are the labels.
        exif: whether photographs are turned upright by their EXIF orientation. Labels never are.

    Raises:
        ValueError: `label_map` leads to something that is neither a class nor 255, or from
            something that is no 8-bit value.
    """

    num_classes: int
    label_map: tuple[tuple[int, int], ...] | None = None
    exif: bool = True

    def __post_init__(self) -> None:
        for value, label in self.label_map or ():
            if not 0 <= value <= 255 or not (0 <= label < self.num_classes or label == VOID):
                raise ValueError(
                    f"label_map: expected values 0 to 255 to become 0 to {self.num_classes - 1} "
                    f"or {VOID}, got {value} -> {label}"
                )

    def read(self, entry: Entry) -> Sample:
        """Raises SampleError, naming the file, for whatever is wrong with the files."""
        import torch

        image, labels = self.read_arrays(entry)
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        return Sample(entry.name, torch.from_numpy(planes), torch.from_numpy(labels))

    def read_arrays(self, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
        """`read` without torch: (H, W, 3) uint8 RGB and (H, W) uint8."""
        try:
            image, notes = read_picture(entry.image, exif=self.exif)
        except (ValueError, OSError) as error:
            raise SampleError(_named(entry.image, error)) from error
        labels = self.read_labels(entry)
        if labels.shape != image.shape[:2]:
            turned = ", turned upright by its EXIF orientation" if TURNED in notes else ""
            raise SampleError(
                f"{entry.labels}: labels of {labels.shape[1]} x {labels.shape[0]} for "
                f"{entry.image.name}, which is {image.shape[1]} x {image.shape[0]}{turned} "
                "(width x height must be the same)"
            )
        return image, labels

    def read_labels(self, entry: Entry) -> np.ndarray:
        """(H, W) uint8, classes or 255; raises SampleError."""
        try:
            values = read_index_png(entry.labels)
        except (ValueError, OSError) as error:
            raise SampleError(_named(entry.labels, error)) from error
        counts = np.bincount(values.ravel(), minlength=256)
        table, allowed = self._table()
        bad = np.flatnonzero((counts > 0) & ~allowed)
        if len(bad):
            y, x = np.argwhere(values == bad[0])[0]
            raise SampleError(
                f"{entry.labels}: value {bad[0]} at row {y}, column {x} "
                f"({counts[bad[0]]} such pixels, {len(bad)} such values) is no label "
                f"({self._expected(allowed)})"
            )
        labels: np.ndarray = table[values]
        return labels

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """The label of each of 256 values, and which values may occur."""
        table = np.full(256, VOID, np.uint8)
        allowed = np.zeros(256, bool)
        pairs = self.label_map
        if pairs is None:
            pairs = (*((i, i) for i in range(self.num_classes)), (VOID, VOID))
        for value, label in pairs:
            table[value], allowed[value] = label, True
        return table, allowed

    def _expected(self, allowed: np.ndarray) -> str:
        if self.label_map is None:
            return f"expected 0 to {self.num_classes - 1}, or {VOID} for void"
        return f"expected one of {', '.join(map(str, np.flatnonzero(allowed)))}"


def _named(path: Path, error: Exception) -> str:
    """The error's text, with the file in front where it is missing."""
    text = str(error)
    return text if str(path) in text else f"{path}: {text}"


class SegmentationDataset:
    """Photographs with labels of every pixel; `torch.utils.data.DataLoader` takes it as it is.

    `dataset[i]` reads a `Sample` from its files and raises `SampleError` where they cannot be used.

    Attributes:
        title: for people, as "PASCAL VOC 2012 val".
        classes: their names; a label is an index into them.
        palette: (number of classes, 3) uint8, RGB.
        ignore_index: 255, the label of pixels that do not count.
        void_borders: whether void runs along the objects' outlines, as in VOC. The trimap of
            Figure 10 is then around void, otherwise around changes of the label.
        entries: the files of every sample.

    Raises:
        ValueError: no entries; two of a name; a `label_map` of another form.
        FileNotFoundError: files are missing: how many, and the first.
    """

    ignore_index = VOID

    def __init__(
        self,
        title: str,
        entries: Sequence[Entry],
        class_set: ClassSet,
        *,
        label_map: Mapping[int, int] | None = None,
        void_borders: bool = False,
        advice: str = "complete the folders",
    ) -> None:
        """`advice` is what to do where files are missing.

        `label_map`: the label of every value that the files may hold.
        """
        if not entries:
            raise ValueError(f"{title}: an empty split (name at least one image)")
        seen: set[str] = set()
        for entry in entries:
            if entry.name in seen:
                raise ValueError(f"{title}: {entry.name} is listed twice (remove one)")
            seen.add(entry.name)
        missing = [path for e in entries for path in (e.image, e.labels) if not path.is_file()]
        if missing:
            more = f", and {len(missing) - 1} more files" if len(missing) > 1 else ""
            raise FileNotFoundError(f"{title}: {missing[0]} is missing{more} ({advice})")
        self.title = title
        self.entries = tuple(entries)
        self.class_set = class_set
        self.void_borders = void_borders
        pairs = None if label_map is None else tuple(sorted(label_map.items()))
        self.reader = Reader(len(class_set), pairs)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is an index into them."""
        return self.class_set.names

    @property
    def palette(self) -> np.ndarray:
        """(number of classes, 3) uint8, RGB."""
        return self.class_set.palette

    def subset(self, names: Iterable[str]) -> SegmentationDataset:
        """The samples of these names, in this order.

        Raises ValueError for no name, one twice, or one that is not in the data set.
        """
        by_name = {entry.name: entry for entry in self.entries}
        wanted = list(names)
        unknown = [name for name in wanted if name not in by_name]
        if unknown:
            raise ValueError(
                f"names: {len(unknown)} are not in {self.title}, the first is {unknown[0]!r} "
                "(give names of this split)"
            )
        return SegmentationDataset(
            self.title,
            [by_name[name] for name in wanted],
            self.class_set,
            label_map=None if self.reader.label_map is None else dict(self.reader.label_map),
            void_borders=self.void_borders,
        )

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        return self.reader.read(self.entries[operator.index(index)])

    def __repr__(self) -> str:
        return f"<{self.title}: {len(self)} images, {len(self.classes)} classes>"
