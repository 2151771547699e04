"""The record of a search: whole lines only, and nothing of another search."""

from __future__ import annotations

import errno
import os

import pytest

from deeplab_native.cli.crf_search_jobs import CountedImage, Sparse
from deeplab_native.cli.crf_search_record import Record
from deeplab_native.crf.search import Candidate

ONE = CountedImage(Candidate(1.0, 2.0, 3.0), 7, Sparse([0, 5], [4, 6]))


def new_record(folder):
    return Record(folder / "search.jsonl", {"w2": 3}, {"a": "0"}, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: ["", *lines], "not the record of a search"),
        (lambda lines: ['{"record": "other"}', *lines], "not the record of a search"),
        (lambda lines: ["[]"], "not the record of a search"),
        (lambda lines: ["\x00", *lines], "not the record of a search"),
        (lambda lines: [*lines[:2], "{", lines[2]], "line 3 is damaged"),
        (lambda lines: [*lines[:2], "7", lines[2]], "line 3 is damaged"),
        (lambda lines: [*lines, '{"image": "a"}'], "line 4 is damaged"),
        (lambda lines: [*lines[:2], lines[2].replace("[[0", "[[99")], "line 3 is damaged"),
        (lambda lines: [*lines[:2], lines[2].replace("[[0", "[[-1")], "line 3 is damaged"),
        (lambda lines: [*lines[:2], lines[2].replace("[[0, ", "[[")], "line 3 is damaged"),
        (lambda lines: [lines[0], lines[2]], "line 2 is damaged"),  # of files that nobody knows
        (lambda lines: [lines[0].replace("3}", "4}"), *lines[1:]], "other settings: w2 4, now 3"),
        (lambda lines: [lines[0].replace("{", "", 1), *lines[1:]], "not the record"),
        (lambda lines: [lines[0], lines[1].replace('"0"', '"1"'), lines[2]], "have changed"),
    ],
)
def test_damaged_records_are_refused_and_left_alone(tmp_path, change, words):
    record = new_record(tmp_path)
    record.add("a", [ONE])
    record.close()
    lines = record.path.read_text().splitlines()
    record.path.write_text("\n".join([*change(lines), ""]))
    before = record.path.read_bytes()
    with pytest.raises(ValueError, match=words):
        new_record(tmp_path)
    assert record.path.read_bytes() == before


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    record = new_record(tmp_path)
    before = record.path.read_bytes()
    write = os.write

    def full(file, data):
        write(file, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left.*search\.jsonl"):
        record.add("a", [ONE])
    assert record.path.read_bytes() == before
    monkeypatch.undo()
    record.add("a", [ONE])
    record.close()
    again = new_record(tmp_path)
    assert again.missing("a", [ONE.candidate]) == []
    total = again.total(ONE.candidate)
    assert total.vertices == 7 and total.counts.ravel().tolist() == [4, 0, 0, 0, 0, 6, 0, 0]
    again.close()
