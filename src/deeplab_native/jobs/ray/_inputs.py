"""What there is to do: folders of pictures, tar shards and Parquet files as units of work.

A unit is what one worker does at a time and what is written as one: a tar shard, a row group of a
Parquet file, or some of a folder's pictures. The same inputs always make the same units.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ..._images import named_once, picture_suffixes
from .._score_files import SUFFIXES as ARRAYS
from ._store import filesystem, state_of_info

_KINDS = {".tar": "tar", ".tgz": "tar", ".tar.gz": "tar", ".parquet": "parquet", ".pq": "parquet"}
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_IN_BRACES = 1_000_000


class Member(NamedTuple):
    """A picture of a folder, and its scores where there are some to refine."""

    key: str
    image: str
    scores: str | None
    state: str


@dataclass(frozen=True)
class Unit:
    """What a worker does at a time.

    Attributes:
        name: of its results, without suffix; may have folders in it.
        kind: "files", "tar" or "parquet".
        url: of the shard, or of the folder.
        state: of the shard, as `state_of_info`; of files each has its own.
        size: bytes, 0 where unknown.
        images: how many; None of tar shards, which nobody has counted.
        row_group: of a Parquet file.
        members: of "files".
        keep: keys that an earlier run has finished, whose results stay.
    """

    name: str
    kind: str
    url: str
    state: str = ""
    size: int = 0
    images: int | None = None
    row_group: int = 0
    members: tuple[Member, ...] = ()
    keep: frozenset[str] = field(default=frozenset())

    def text(self) -> str:
        """JSON, which goes to a worker: no pickle, which would run what it says."""
        return json.dumps({**asdict(self), "keep": sorted(self.keep)})

    @classmethod
    def of_text(cls, text: str) -> Unit:
        """The unit of `text`."""
        values = json.loads(text)
        members = tuple(Member(*one) for one in values.pop("members"))
        return cls(**{**values, "members": members, "keep": frozenset(values["keep"])})


class _File(NamedTuple):
    url: str
    path: PurePosixPath  # from where the user pointed to
    size: int
    state: str


class Inputs(NamedTuple):
    """Of one kind; `members` of "files", else `shards` by the names of their results."""

    kind: str
    shards: dict[str, _File]
    members: tuple[Member, ...]
    folders: tuple[str, ...]  # that the user named
    unmatched: tuple[str, ...] = ()  # what has no partner, a line each


def find(images: Sequence[str], scores: str | None, *, refine: bool) -> Inputs:
    """What is at paths and URLs: shards, pictures, or folders of them.

    Args:
        images: also with `*`, `?` and, as WebDataset names shards, `{000..127}`.
        scores: the folder of them, of folders of pictures.
        refine: whether scores are needed.

    Raises ValueError or OSError where there is nothing, several kinds, or a name twice.
    """
    files: list[_File] = []
    folders: list[str] = []
    for given in images:
        for url in in_braces(given):
            found, is_folder = _files_at(url)
            files += found
            folders += [url] * is_folder
    kinds = {_kind(file.path.name) for file in files}
    if len(kinds) > 1:
        raise ValueError(
            f"`images`: expected tar shards, Parquet files or pictures, got {' and '.join(kinds)} "
            "(give one kind)"
        )
    (kind,) = kinds
    where = ", ".join(images)
    if kind == "files":
        return _pictures(where, files, scores, folders, refine=refine)
    if scores is not None:
        raise ValueError(
            f"`scores` {scores}: of {kind} shards they are expected beside the images (leave it "
            "out)"
        )
    shards: dict[str, _File] = {}
    for file in sorted(files, key=lambda file: file.path):
        suffix = next(s for s in _KINDS if file.path.name.lower().endswith(s))
        name = str(file.path)[: -len(suffix)]
        if name in shards:
            raise ValueError(
                f"{shards[name].url} and {file.url}: results of both would be named {name} (give "
                "the folder above them)"
            )
        shards[name] = file
    return Inputs(kind, shards, (), tuple(folders))


def in_braces(url: str) -> list[str]:
    """`a-{08..10}.tar` as a-08.tar, a-09.tar, a-10.tar; what has no range as it is."""
    found = _RANGE.search(url)
    if found is None:
        return [url]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _MOST_IN_BRACES:
        raise ValueError(f"`images` {url}: expected {{first..last}}, got {found[0]}")
    numbers = (f"{n:0{len(found[1])}d}" for n in range(first, last + 1))
    heads = (f"{url[: found.start()]}{number}" for number in numbers)
    tails = in_braces(url[found.end() :])
    return [head + tail for head in heads for tail in tails]


def _kind(name: str) -> str:
    return next((kind for s, kind in _KINDS.items() if name.lower().endswith(s)), "files")


def _files_at(url: str) -> tuple[list[_File], bool]:
    """Those that a path or URL means, and whether it is a folder."""
    fs, path = filesystem(url)

    def file(info: dict[str, Any], relative: str) -> _File:
        size = info.get("size") or 0
        full = fs.unstrip_protocol(info["name"])
        return _File(full, PurePosixPath(relative), size, state_of_info(info))

    if any(c in path for c in "*?["):
        there = fs.glob(path, detail=True).values()
        found = [file(i, PurePosixPath(i["name"]).name) for i in there if i["type"] == "file"]
        if not found:
            raise FileNotFoundError(f"{url}: no file of such a name (check the pattern)")
        return found, False
    if _kind(path) == "files" and fs.isdir(path):
        return _in_folder(url, fs, path, file), True
    try:
        info = fs.info(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: no such file or folder (check the path)") from None
    return [file(info, PurePosixPath(path).name)], False


def _in_folder(url: str, fs: Any, path: str, file: Any) -> list[_File]:
    """Its shards, also those of folders in it; or else the pictures that lie in it."""
    there = fs.find(path, detail=True)
    base = fs._strip_protocol(path).rstrip("/")
    names = {name: name[len(base) :].lstrip("/") for name in there}
    shards = [n for n in there if _kind(n) != "files" and PurePosixPath(n).name[0] != "."]
    if shards:
        return [file(there[n], names[n]) for n in shards]
    suffixes = picture_suffixes() | {*ARRAYS}
    pictures = [
        file(there[n], names[n])
        for n in sorted(there)
        if "/" not in names[n] and PurePosixPath(n).suffix.lower() in suffixes
    ]
    if not pictures:
        raise ValueError(
            f"{url}: no tar shards, Parquet files or pictures in this folder (give the folder that "
            "has them)"
        )
    return pictures


def _pictures(
    where: str, files: list[_File], scores: str | None, folders: list[str], *, refine: bool
) -> Inputs:
    pictures = _by_stem(where, files, picture_suffixes(), "pictures")
    if not refine:
        members = (Member(key, f.url, None, f.state) for key, f in pictures.items())
        return Inputs("files", {}, tuple(members), tuple(folders))
    if scores is None or [scores] == folders:
        raise ValueError(f"`scores`: expected the folder of scores of the pictures in {where}")
    there, _ = _files_at(scores)
    suffixes = {f.path.suffix.lower() for f in there}
    arrays = {*ARRAYS} if suffixes & {*ARRAYS} else picture_suffixes()
    partners = _by_stem(scores, there, arrays, "scores or masks")
    both = [
        Member(key, f.url, partners[key].url, f"{f.state} {partners[key].state}")
        for key, f in pictures.items()
        if key in partners
    ]
    if not both:
        raise ValueError(
            f"no picture of {where} has scores of the same name in {scores} (name them alike, as "
            "a.jpg and a.npy)"
        )
    images, alone = len(pictures) - len(both), len(partners) - len(both)
    lines = [f"{images} images have no scores"] * bool(images)
    lines += [f"{alone} scores have no image"] * bool(alone)
    return Inputs("files", {}, tuple(both), (*folders, scores), tuple(lines))


def _by_stem(where: str, files: Iterable[_File], suffixes: set[str], what: str) -> dict[str, _File]:
    by_path: dict[PurePosixPath, _File] = {}
    for file in files:
        other = by_path.setdefault(file.path, file)
        if other.url != file.url:
            raise ValueError(
                f"{other.url} and {file.url} have the same name (give them to two runs)"
            )
    found = named_once(where, sorted(by_path), suffixes, what)
    return {stem: by_path[path] for stem, path in found.items()}


def units_of_files(members: Sequence[Member], most: int) -> list[Unit]:
    """`most` of them at a time; a unit's name says which."""
    units = []
    for first in range(0, len(members), most):
        some = tuple(members[first : first + most])
        digest = sha256("\n".join(m.key for m in some).encode()).hexdigest()
        units.append(Unit(f"files-{digest[:16]}", "files", "", images=len(some), members=some))
    return units
