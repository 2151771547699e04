"""The files of `segment`: what it reads, and where its results go."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._files import atomic_path, check_output
from .._images import by_stem, picture_suffixes
from ._engine import Task
from ._segment_image import Outputs

CLASSES = "classes.json"
_OVERLAYS = "overlays"  # the folder of them: no label PNG can have their names there


def photographs(paths: Sequence[Path]) -> dict[str, Path]:
    """The files, and the pictures in the folders, by their names without suffix, in their order.

    Raises FileNotFoundError for what is not there, ValueError for a folder without pictures and
    for two files whose results would have the same name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such picture or folder (check the path)")
        files = (
            by_stem(path, picture_suffixes(), "pictures") if path.is_dir() else {path.stem: path}
        )
        for stem, file in files.items():
            other = found.setdefault(stem, file)
            if other != file:
                raise ValueError(
                    f"{other} and {file} would both become {stem}.png (segment them into two "
                    "folders)"
                )
    return found


@dataclass(frozen=True)
class Results:
    """The files of a run."""

    folder: Path
    overlays: bool
    scores: Path | None = None

    def of(self, stem: str) -> Outputs:
        """Of the photograph of this name."""
        overlay = self.folder / _OVERLAYS / f"{stem}.png" if self.overlays else None
        scores = self.scores / f"{stem}.npy" if self.scores else None
        return Outputs(self.folder / f"{stem}.png", overlay, scores)

    def check(self, given: Iterable[Path], photographs: Mapping[str, Path]) -> None:
        """Raises OSError or ValueError where a result could not be written, or over an input.

        `given` is what the user named, `photographs` what is in it.
        """
        for folder in self.folders():
            if folder.exists() and not folder.is_dir():
                name = "save_scores" if folder == self.scores else "output"
                raise NotADirectoryError(f"`{name}` {folder} is a file (give a folder)")
        if self.folder.resolve() in {path.resolve() for path in given}:
            raise ValueError(
                f"`output` {self.folder}: results would lie among the photographs (give another "
                "folder)"
            )
        results = {self.of(stem).labels.resolve() for stem in photographs}
        for path in photographs.values():
            if path.resolve() in results:
                raise ValueError(
                    f"`output` {self.folder}: {path.name} would be written over (give another "
                    "folder)"
                )
        for folder in self.folders():
            above = (folder, *folder.absolute().parents)
            there = next(path for path in above if path.exists())
            check_output(there / CLASSES)
        if self.scores is not None:
            taken = {*self.folders()[:-1], *given}
            if self.scores.resolve() in {path.resolve() for path in taken}:
                raise ValueError(
                    f"`save_scores` {self.scores}: they would lie among the labels or photographs "
                    "(give a folder of their own)"
                )

    def folders(self) -> list[Path]:
        """All that results lie in; that of the scores is the last."""
        overlays = [self.folder / _OVERLAYS] * self.overlays
        return [self.folder, *overlays, *([self.scores] if self.scores else [])]

    def written(self, tasks: Sequence[Task]) -> list[Path]:
        """The files of one image, or the folder of several."""
        if len(tasks) == 1:
            files = [*tasks[0].outputs, self.folder / CLASSES]
        else:
            files = [self.folder, *([self.scores] if self.scores else [])]
        return [path for path in files if path.exists()]

    def check_classes(self, names: Sequence[str]) -> None:
        """Raises ValueError where there are label PNGs of other classes."""
        path = self.folder / CLASSES
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != _text(names):
            raise ValueError(
                f"{path} names other classes than the network has (give another folder)"
            )

    def write_classes(self, names: Sequence[str]) -> None:
        """Makes the folder, too, where it is not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.folder / CLASSES) as temporary:
            temporary.write_text(_text(names), encoding="utf-8")


def _text(names: Sequence[str]) -> str:
    return json.dumps({str(i): name for i, name in enumerate(names)}, indent=1) + "\n"
