"""The files of `deeplab-native crf` over folders: pairs, what is finished, who may write."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from .._files import atomic_path
from .._images import by_stem, picture_suffixes

RECORD = "crf.json"
_SCORES = (".npy", ".npz")
_NAMES_SHOWN = 5


class Pairs(NamedTuple):
    """Images with their scores, by their names without suffix, and what has no partner."""

    both: dict[str, tuple[Path, Path]]
    images_alone: list[Path]
    scores_alone: list[Path]


def match(images: Path, scores: Path) -> Pairs:
    """Raises ValueError where a folder has nothing of use, a name twice, or no pair is there."""
    pictures = by_stem(images, picture_suffixes(), "pictures")
    arrays = by_stem(scores, _SCORES, ".npy or .npz scores")
    both = {stem: (pictures[stem], arrays[stem]) for stem in pictures if stem in arrays}
    if not both:
        raise ValueError(
            f"no picture of {images} has scores of the same name in {scores}: "
            f"{_names(pictures.values())} there, {_names(arrays.values())} here "
            "(name them alike, as a.jpg and a.npy)"
        )
    return Pairs(
        both,
        [path for stem, path in pictures.items() if stem not in both],
        [path for stem, path in arrays.items() if stem not in both],
    )


def describe_unmatched(pairs: Pairs) -> list[str]:
    """A line for the images, and one for the scores, that have no partner."""
    lines = []
    if pairs.images_alone:
        lines.append(
            f"{len(pairs.images_alone)} images have no scores: {_names(pairs.images_alone)}"
        )
    if pairs.scores_alone:
        lines.append(
            f"{len(pairs.scores_alone)} scores have no image: {_names(pairs.scores_alone)}"
        )
    return lines


def _names(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def check_record(folder: Path, record: dict[str, Any], finished: list[Path]) -> None:
    """Raises ValueError where finished results in the folder are of other parameters."""
    path = folder / RECORD
    advice = "(give another --out, or --overwrite to do them anew)"
    if not path.exists():
        if finished:
            raise ValueError(
                f"--out {folder}: has {_names(finished)}, but no {RECORD} that says how they were "
                f"made {advice}"
            )
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        there = None
    if not isinstance(there, dict):
        raise ValueError(
            f"{path}: damaged, so that its results cannot be told from others {advice}"
        )
    differences = describe_differences(there, json.loads(json.dumps(record)))
    if differences:
        raise ValueError(f"--out {folder}: made with other settings: {differences} {advice}")


def describe_differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    """What of `now` is otherwise in `there`, both read from JSON; nothing where all is the same."""
    other = [k for k in now if there.get(k) != now[k]]
    return "; ".join(f"{k} {_short(there.get(k))}, now {_short(now[k])}" for k in other)


def _short(value: object) -> str:
    return json.dumps(value).replace("(", "[").replace(")", "]")


def write_record(folder: Path, record: dict[str, Any]) -> None:
    text = json.dumps({"deeplab_native": __version__, **record}, indent=2) + "\n"
    with atomic_path(folder / RECORD) as temporary:
        temporary.write_text(text, encoding="utf-8")
