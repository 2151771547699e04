"""The record of a search: nothing of another search, and no counts that cannot be."""

from __future__ import annotations

import json
import sqlite3

import pytest

from deeplab_native.crf.search import Candidate
from deeplab_native.jobs._record import Record
from deeplab_native.jobs._search_image import CountedImage, Sparse
from deeplab_native.jobs._search_record import SearchRecord

ONE = CountedImage(Candidate(1.0, 2.0, 3.0), 7, Sparse([0, 5], [4, 6]))
PART = json.dumps(ONE.candidate)


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path / "search.sqlite", "crf-search", {"w2": 3})
    yield record
    record.close()


def test_counts_are_there_again(record):
    search = SearchRecord(record, {"a": "0", "b": "1"}, 2)
    assert search.missing("a", [ONE.candidate]) == [ONE.candidate]
    search.add("a", [ONE])
    search.add("a", [ONE])  # counted once
    search.add("b", [ONE._replace(vertices=2)])
    for digests in ({"a": "0", "b": "1"}, {"b": "1", "a": "0"}):
        again = SearchRecord(record, digests, 2)
        assert again.missing("a", [ONE.candidate]) == []
        total = again.total(ONE.candidate)
        assert total.vertices == 9 and total.counts.ravel().tolist() == [8, 0, 0, 0, 0, 12, 0, 0]
    alone = SearchRecord(record, {"a": "0"}, 2).total(ONE.candidate)
    assert alone.vertices == 7 and alone.counts.sum() == 10


def test_files_that_have_changed(record):
    SearchRecord(record, {"a": "0"}, 2).add("a", [ONE])
    with pytest.raises(ValueError, match="the files of 1 images have changed since: a "):
        SearchRecord(record, {"a": "other", "b": "1"}, 2)
    assert SearchRecord(record, {"a": "0"}, 2).missing("a", [ONE.candidate]) == []


GOOD = {"vertices": 7, "at": [0, 5], "numbers": [4, 6]}


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (PART, "{"),
        (PART, "7"),
        (PART, "{}"),
        (PART, json.dumps({**GOOD, "at": [99, 5]})),
        (PART, json.dumps({**GOOD, "at": [-1, 5]})),
        (PART, json.dumps({**GOOD, "numbers": [-4, 6]})),
        (PART, json.dumps({**GOOD, "at": [5]})),
        (PART, json.dumps({**GOOD, "vertices": "many"})),
        (PART, "\xff"),
        ("[1, 2]", json.dumps(GOOD)),
        ("x", json.dumps(GOOD)),
    ],
)
def test_damaged_counts_are_refused_and_left_alone(record, tmp_path, part, content):
    record.add("a", "0", {part: content.encode("latin-1")})
    record.add("b", "1", {"x": b"of an image that this run has not"})
    before = list(record.results())
    with pytest.raises(ValueError, match=r"search\.sqlite: a: damaged counts"):
        SearchRecord(record, {"a": "0"}, 2)
    assert list(record.results()) == before
    with sqlite3.connect(tmp_path / "search.sqlite") as database:
        database.execute("DELETE FROM counts WHERE image = 'a'")
    SearchRecord(record, {"a": "0"}, 2)
