"""The record of a job: whole images or none, whatever happens."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
import torch

from deeplab_native.jobs._evaluate_image import pack, unpack
from deeplab_native.jobs._record import Record, describe_differences

SETTINGS = {"root": "here", "widths": 2}
SHAPE = (3, 4, 4)


def counts(seed):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2**40, SHAPE) % 3 * 2**33)


def open_record(folder, settings=SETTINGS, name="counts.sqlite"):
    return Record(folder / name, "evaluate", settings)


@pytest.fixture
def record(tmp_path):
    record = open_record(tmp_path)
    yield record
    record.close()


def total(record, variant, names):
    return sum(unpack(c, SHAPE) for name, _, c in record.results(variant) if name in names)


def test_packing_keeps_every_count():
    for values in (counts(0), counts(0) * 0, counts(1) + 1):
        assert np.array_equal(unpack(pack(values), SHAPE), values.numpy())
    with pytest.raises(ValueError, match="damaged counts: a place outside"):
        unpack(pack(counts(0)), (1, 4, 4))
    with pytest.raises(ValueError, match="damaged counts"):
        unpack(b"what", SHAPE)


def test_results_of_the_images_that_are_asked_for(record, tmp_path):
    for i, name in enumerate("abc"):
        record.add(name, "[]", {"x": pack(counts(i)), "y": pack(counts(i + 10))})
    record.add("c", "[]", {"x": pack(counts(2)), "y": pack(counts(12))})  # again: counted once
    record.close()
    again = open_record(tmp_path, dict(SETTINGS))
    assert again.done() == {"a": "[]", "b": "[]", "c": "[]"}
    assert np.array_equal(total(again, "x", "abc"), sum(counts(i) for i in range(3)).numpy())
    assert np.array_equal(total(again, "y", "ac"), (counts(10) + counts(12)).numpy())
    assert sorted((n, v) for n, v, _ in again.results()) == [(n, v) for n in "abc" for v in "xy"]
    again.close()


def test_more_parts_of_an_image_and_none_of_its_former_files(record):
    record.add("a", "old", {"x": b"1"})
    record.add("a", "old", {"y": b"2"})
    assert sorted(c for _, _, c in record.results()) == [b"1", b"2"]
    record.add("a", "new", {"y": b"3"})
    assert [c for _, _, c in record.results()] == [b"3"]


def test_a_full_disk_costs_one_image(record):
    record.add("a", "[]", {"x": pack(counts(0))})
    record._database.execute("PRAGMA max_page_count = 8")
    big = np.random.default_rng(0).bytes(100_000)
    with pytest.raises(OSError, match=r"counts\.sqlite: database or disk is full \(free the disk"):
        record.add("b", "[]", {"x": pack(counts(1)), "y": big})
    assert list(record.done()) == ["a"]
    record._database.execute("PRAGMA max_page_count = 1000")
    record.add("b", "[]", {"x": pack(counts(1)), "y": big})
    assert list(record.done()) == ["a", "b"]


def test_other_settings_and_other_jobs(record, tmp_path):
    with pytest.raises(ValueError, match=r"other settings: widths 2, now 3 \(give "):
        open_record(tmp_path, {**SETTINGS, "widths": 3})
    with pytest.raises(ValueError, match=r"counts\.sqlite: not written by this job"):
        Record(tmp_path / "counts.sqlite", "crf", SETTINGS)


def test_damaged_files(tmp_path):
    path = tmp_path / "text.sqlite"
    path.write_text("no database, but long enough to be looked at" * 30)
    with pytest.raises(ValueError, match=r"text\.sqlite: damaged: .*`overwrite`"):
        open_record(tmp_path, name="text.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(ValueError, match=r"other\.sqlite: not written by this job"):
        open_record(tmp_path, name="other.sqlite")
    with pytest.raises(OSError, match="unable to open"):
        open_record(tmp_path, name="none/counts.sqlite")


def test_memory_that_the_machine_lacks_is_no_damage(record):
    with pytest.raises(MemoryError), record._errors():
        raise MemoryError


def test_differences():
    there = {"a": 1, "b": "x (y)", "c": None}
    assert describe_differences(there, {"a": 1, "b": "x (y)"}) == ""
    text = describe_differences(there, {"a": 2, "b": "z", "d": [1]})
    assert text == 'a 1, now 2; b "x [y]", now "z"; d null, now [1]'


def test_settings_that_earlier_versions_did_not_have():
    """Their runs go on as long as what they did is asked for."""
    assert describe_differences(SETTINGS, {**SETTINGS, "exif": True, "confidence": 0.7}) == ""
    for now, then in ((False, True), (True, False)):
        there = SETTINGS if then else {**SETTINGS, "exif": False}
        assert "exif" in describe_differences(there, {**SETTINGS, "exif": now})
