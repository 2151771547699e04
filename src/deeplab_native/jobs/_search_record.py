"""The counts of a search as they come, by image and candidate, in the job's record.

Which images, which grid and which classes are no settings: another grid uses what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np

from ..crf.search import Candidate, Total
from ._progress import shortened
from ._record import ADVICE, Record
from ._search_image import CountedImage, Sparse

NAME = "search.sqlite"
OLD_NAME = "search.jsonl"  # before all jobs had one kind of record


class SearchRecord:
    """Results of the images of this run, in a record that may have others, too.

    Args:
        record: open.
        digests: SHA-256 of the files of this run's images, by name.
        num_labels: of every image.

    Raises ValueError where the files have changed since, or results are damaged; the record is
    left as it was then.
    """

    def __init__(self, record: Record, digests: Mapping[str, str], num_labels: int) -> None:
        self._record, self._digests = record, digests
        self._size = (2, num_labels, num_labels)
        self._totals: dict[Candidate, Total] = {}
        self._done: dict[Candidate, set[str]] = {}
        known = record.done()
        changed = [n for n, d in digests.items() if known.get(n, d) != d]
        if changed:
            raise ValueError(
                f"{record.path}: the files of {len(changed)} images have changed since: "
                f"{shortened(changed)} {ADVICE}"
            )
        for name, part, content in record.results():
            if name in digests:
                try:
                    self._count(name, _unpacked(part, content))
                except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
                    raise record.damaged(name, f"damaged counts: {error}") from None

    def add(self, name: str, counted: Iterable[CountedImage]) -> None:
        """Results of one image, on the disk when this returns."""
        new = [one for one in counted if name not in self._done.get(one.candidate, ())]
        self._record.add(name, self._digests[name], dict(map(_packed, new)))
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


def _packed(one: CountedImage) -> tuple[str, bytes]:
    content = {"vertices": one.vertices, **one.counts._asdict()}
    return json.dumps(one.candidate), json.dumps(content).encode()


def _unpacked(part: str, content: bytes) -> CountedImage:
    candidate = Candidate(*map(float, json.loads(part)))
    values = json.loads(content)
    at, numbers = (np.array(values[key], np.int64) for key in Sparse._fields)
    if at.shape != numbers.shape or (at < 0).any() or (numbers < 0).any():
        raise ValueError("numbers that are no counts")
    return CountedImage(candidate, int(values["vertices"]), Sparse(at.tolist(), numbers.tolist()))
