"""Which photographs of a folder are held out: by the lists that are there, else by their names."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from .lists import read_ids

SHARE = 0.2
FEW = 10
"""Held-out photographs below which their figures say little."""


class Split(NamedTuple):
    """Names for training and held-out ones, each sorted; what is to be said of it."""

    train: list[str]
    val: list[str]
    notes: list[str]


def share_of(name: str) -> float:
    """0 to 1, the same for a name on every machine, whichever names there are beside it."""
    plain = unicodedata.normalize("NFC", name)  # as macOS and others write the same letters
    digest = hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_by_name(names: Collection[str], share: float = SHARE) -> Split:
    """Holds out the names whose `share_of` is small; at least one, and leaves at least one.

    A name stays where it is when others come or go (but for that one).
    """
    order = sorted(names, key=lambda name: (share_of(name), name))
    count = sum(share_of(name) < share for name in order)
    count = min(max(count, 1), len(order) - 1)
    note = (
        f"held out: {count} of {len(order)} photographs, by a hash of their names, and so the same "
        "every time (lists in train.txt and val.txt say it otherwise)"
    )
    return Split(sorted(order[count:]), sorted(order[:count]), [note])


def split_of(root: Path, names: Sequence[str]) -> Split:
    """By ROOT/train.txt and ROOT/val.txt, of names with or without suffix; else by name.

    Of a list that is alone, the other one has the rest.

    Raises ValueError where there is one photograph only, or a list names what is not there, or
    leaves nothing for the other.
    """
    if len(names) < 2:
        raise ValueError(
            f"{root}: {len(names)} photograph with labels; expected two or more, of which one is "
            "held out"
        )
    lists = {part: root / f"{part}.txt" for part in ("train", "val")}
    there = {part: _names_of(path, names) for part, path in lists.items() if path.is_file()}
    if not there:
        split = split_by_name(names)
    else:
        notes = [f"held out: by {' and '.join(lists[part].name for part in there)}"]
        rest = {part: sorted({*names} - {*listed}) for part, listed in there.items()}
        train = there["train"] if "train" in there else rest["val"]
        val = there["val"] if "val" in there else rest["train"]
        if not train or not val:
            raise ValueError(
                f"{lists['train' if 'train' in there else 'val']}: it has all photographs "
                "(leave some to the other list)"
            )
        both = sorted({*train} & {*val})
        if both:
            notes.append(
                f"{len(both)} photographs are in both lists, as {both[0]}: figures of what a net "
                "was trained on say nothing"
            )
        split = Split(train, val, notes)
    if len(split.val) < FEW:
        split.notes.append(
            f"so few held out, {len(split.val)}, make figures that vary much with the choice"
        )
    return split


def _names_of(path: Path, names: Collection[str]) -> list[str]:
    known = {unicodedata.normalize("NFC", name): name for name in names}
    found = []
    for line in read_ids(path):
        plain = unicodedata.normalize("NFC", line)
        name = known.get(plain) or known.get(Path(plain).stem)
        if name is None:
            raise ValueError(
                f"{path}: {line!r} is no photograph with labels (give names as {next(iter(names))})"
            )
        found.append(name)
    return sorted(set(found))
