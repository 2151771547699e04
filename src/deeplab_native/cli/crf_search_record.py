"""The results of a search as they come, in a file that a later run goes on from.

`search.jsonl`: the first line has the settings that decide every count, then a line for each image
with the SHA-256 of its files, and a line for each image and candidate. Which images, which grid and
which classes are no settings: another grid uses what is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._files import atomic_path
from ..crf.search import Candidate, Total
from .crf_folder_files import _names
from .crf_search_jobs import CountedImage, Sparse

NAME = "search.jsonl"
_ADVICE = "(give another --out, or --overwrite to begin anew)"


class Record:
    """Only for a folder that nobody else writes to.

    Args:
        path: the file; made where there is none.
        settings: JSON values; a file of other settings is refused.
        digests: of the images of this run, by name. Lines of other images are left alone.

    Raises ValueError where the file is of another search, of files that have changed, or damaged;
    it is left as it was then.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], digests: Mapping[str, str], num_labels: int
    ) -> None:
        self.path, self._digests = path, digests
        self._size = (2, num_labels, num_labels)
        self._totals: dict[Candidate, Total] = {}
        self._done: dict[Candidate, set[str]] = {}
        settings = json.loads(json.dumps(settings))  # as they will be read
        known: set[str] = set()
        if path.exists():
            known, end = self._read(settings)
        else:
            header = {"record": "crf-search", "deeplab_native": __version__, "settings": settings}
            end = _write_header(path, header)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.ftruncate(self._file, end)  # the line that a run was ended within
            self._append({"image": n, "sha256": d} for n, d in digests.items() if n not in known)
        except BaseException:
            os.close(self._file)
            raise

    def close(self) -> None:
        os.close(self._file)

    def add(self, name: str, counted: Iterable[CountedImage]) -> None:
        """Results of one image, on the disk when this returns."""
        new = [one for one in counted if name not in self._done.get(one.candidate, ())]
        self._append(
            {
                "image": name,
                **one.candidate._asdict(),
                "vertices": one.vertices,
                "counts": one.counts,
            }
            for one in new
        )
        for one in new:
            self._count(name, one)

    def missing(self, name: str, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those that were not counted on an image."""
        return [c for c in candidates if name not in self._done.get(c, ())]

    def total(self, candidate: Candidate) -> Total:
        """Over all images of this run, each of which was counted."""
        assert self._done[candidate] == set(self._digests)
        return self._totals[candidate]

    def _count(self, name: str, one: CountedImage) -> None:
        before = self._totals.get(one.candidate)
        counts = np.zeros(self._size, np.int64) if before is None else before.counts
        one.counts.add_to(counts)
        vertices = one.vertices + (0 if before is None else before.vertices)
        self._totals[one.candidate] = Total(counts, vertices)
        self._done.setdefault(one.candidate, set()).add(name)

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        if not data:
            return
        start = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:  # a full disk
            os.ftruncate(self._file, start)
            error.filename = str(self.path)
            raise

    def _read(self, settings: Mapping[str, Any]) -> tuple[set[str], int]:
        """The images that it knows, and where its last whole line ends."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        first, *lines = data[:end].split(b"\n")[:-1] or [b""]
        header = _object(first)
        if header is None or header.get("record") != "crf-search":
            raise ValueError(f"{self.path}: not the record of a search {_ADVICE}")
        there = header.get("settings")
        there = there if isinstance(there, dict) else {}
        other = [k for k in settings if there.get(k) != settings[k]]
        if other:
            differences = "; ".join(
                f"{k} {_short(there.get(k))}, now {_short(settings[k])}" for k in other
            )
            raise ValueError(
                f"{self.path}: of a search with other settings: {differences} {_ADVICE}"
            )
        known: set[str] = set()
        changed: list[str] = []
        for number, text in enumerate(lines, 2):
            try:
                line = json.loads(text)
                name = line["image"]
                if name not in self._digests or name in changed:
                    continue
                if "sha256" not in line:
                    self._take(line, known)
                elif line["sha256"] == self._digests[name]:
                    known.add(name)
                else:
                    changed.append(name)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
                raise ValueError(f"{self.path}: line {number} is damaged {_ADVICE}") from None
        if changed:
            raise ValueError(
                f"{self.path}: the files of {len(changed)} images have changed since: "
                f"{_names(map(Path, changed))} {_ADVICE}"
            )
        return known, end

    def _take(self, line: dict[str, Any], known: set[str]) -> None:
        """A result of an image of this run; ValueError and others where it cannot be one."""
        name = line["image"]
        if name not in known:
            raise ValueError
        candidate = Candidate(*(float(line[key]) for key in Candidate._fields))
        at, numbers = (np.array(part, np.int64) for part in line["counts"])
        if at.shape != numbers.shape or (at < 0).any() or (numbers < 0).any():
            raise ValueError
        if name not in self._done.get(candidate, ()):
            counts = Sparse(at.tolist(), numbers.tolist())
            self._count(name, CountedImage(candidate, int(line["vertices"]), counts))


def _write_header(path: Path, header: Mapping[str, Any]) -> int:
    text = json.dumps(header) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return len(text.encode())


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _short(value: object) -> str:
    return json.dumps(value).replace("(", "[").replace(")", "]")
