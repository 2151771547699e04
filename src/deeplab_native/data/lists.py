"""Folders and lists of ids of the standard layouts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .._files import below
from .dataset import Entry


def check_split(title: str, split: str, splits: Iterable[str], hidden: Iterable[str] = ()) -> None:
    """ValueError where a split is unknown, or one of those whose labels are not published."""
    known = ", ".join(splits)
    if split in hidden:
        raise ValueError(
            f"split: the labels of {title} {split!r} are not public (take one of {known})"
        )
    if split not in splits:
        raise ValueError(f"split: {title} has {known}; got {split!r}")


def find_root(title: str, root: Path, inner: Iterable[str], sign: str, advice: str) -> Path:
    """`root`, or the folder in it that has the folder `sign`: FileNotFoundError where none has."""
    if not root.is_dir():
        raise FileNotFoundError(f"root: {root} is no folder ({advice})")
    for folder in (root, *(root / name for name in inner)):
        if (folder / sign).is_dir():
            return folder
    raise FileNotFoundError(f"{title}: {root / sign} is missing ({advice})")


def read_ids(path: Path) -> list[str]:
    """The lines of a list that are not empty, without space around them.

    Raises FileNotFoundError, or ValueError where the list is no text or empty.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list of ids (check the path)")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: no text file (expected one id a line)") from None
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise ValueError(f"{path}: an empty list, and so an empty split (name at least one image)")
    return ids


def read_names(path: Path) -> list[str]:
    """`read_ids` of photographs' names alone; ValueError where one is a path."""
    names = read_ids(path)
    for name in names:
        if Path(name).name != name or name == "..":
            raise ValueError(
                f"{path}: {name[:80]!r} is no name of a photograph (give it without folder and "
                "suffix)"
            )
    return names


def entries_of_list(path: Path, root: Path, images: str, labels: str) -> list[Entry]:
    """Entries of a list of bare ids, or of DeepLab's "/JPEGImages/ID.jpg /Labels/ID.png".

    `images` and `labels` are the folders in `root` of bare ids. Raises what `read_ids` raises, and
    ValueError for lines of another form.
    """
    entries = []
    for number, line in enumerate(read_ids(path), 1):
        words = line.split()
        if len(words) == 1 and "/" not in line:
            entry = Entry(line, root / images / f"{line}.jpg", root / labels / f"{line}.png")
        elif len(words) == 2:
            where = f"{path}: entry {number}"
            image, label = (below(root, word.lstrip("/"), where) for word in words)
            entry = Entry(image.stem, image, label)
        else:
            raise ValueError(
                f"{path}: entry {number} is {line[:80]!r} (expected an id, or the paths of a "
                "photograph and its labels)"
            )
        entries.append(entry)
    return entries
