"""What a search reads: images, scores and labels of the same names."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from .._images import by_stem, picture_suffixes, read_index_png, read_picture
from ..crf.candidates import Sample
from ._progress import shortened
from ._score_files import SUFFIXES
from .scores import ScoreFormat


class Item(NamedTuple):
    """One image of a search: its name, and the files that decide what it counts."""

    name: str
    files: tuple[Path, ...]

    def digest(self) -> str:
        """SHA-256 of what the files hold."""
        total = hashlib.sha256()
        for path in self.files:
            total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()


class Folders(NamedTuple):
    images: Path
    scores: Path
    labels: Path

    def items(self, chosen: Iterable[str] | None = None) -> list[Item]:
        """Of all scores, or of the names that are chosen, sorted by name.

        Raises NotADirectoryError, and ValueError where something has no partner or nothing is left.
        """
        for what, folder in self._asdict().items():
            if not folder.is_dir():
                raise NotADirectoryError(f"{what} {folder}: not a folder (give the folder of them)")
        kinds = {
            "scores": by_stem(self.scores, SUFFIXES, ", ".join(SUFFIXES) + " scores"),
            "pictures": by_stem(self.images, picture_suffixes(), "pictures"),
            "label PNGs": by_stem(self.labels, [".png"], "label PNGs"),
        }
        names = sorted(kinds["scores"] if chosen is None else set(chosen))
        for (kind, files), folder in zip(
            kinds.items(), (self.scores, self.images, self.labels), strict=True
        ):
            missing = [name for name in names if name not in files]
            if missing:
                raise ValueError(
                    f"{folder}: no {kind} for {len(missing)} of {len(names)} names: "
                    f"{shortened(missing)} (add them, or choose others with `names`)"
                )
        return [
            Item(n, (kinds["pictures"][n], kinds["scores"][n], kinds["label PNGs"][n]))
            for n in names
        ]


def draw(items: list[Item], count: int | None, seed: int) -> list[Item]:
    """So many of them at random, in their order; all where `count` is None."""
    if count is None:
        return items
    if count > len(items):
        raise ValueError(f"`count` {count}: there are {len(items)} (give at most that many)")
    return sorted(random.Random(seed).sample(items, count))


@dataclass(frozen=True)
class FolderLoader:
    """Reads an item of `Folders`."""

    format: ScoreFormat
    exif: bool = True

    def __call__(self, item: Item) -> Sample:
        """Raises ValueError or OSError where a file cannot be used."""
        return self.read(item)[0]

    def read(self, item: Item) -> tuple[Sample, dict[str, Any]]:
        """Also `kind` and `notes`, how the files were read."""
        image, scores, labels = item.files
        photo, notes = read_picture(image, exif=self.exif)
        height, width, _ = photo.shape
        values = self.format.read(scores, (height, width))
        truth = read_index_png(labels)
        if truth.shape != (height, width):
            raise ValueError(
                f"{labels}: {_size(truth)} pixels, but the image has {_size(photo)} "
                "(give labels of the image's size)"
            )
        sample = Sample(
            values.energies((height, width)),
            torch.from_numpy(photo).permute(2, 0, 1)[None].contiguous(),
            torch.from_numpy(truth)[None],
        )
        said = [f"photograph: {n}" for n in notes] + [f"scores: {n}" for n in values.notes]
        return sample, {"kind": values.kind, "notes": said}


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
