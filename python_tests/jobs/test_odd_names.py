"""Names of files that are no text, have several lines, or as many bytes as a name may have."""

from __future__ import annotations

import os
import shutil

import pytest

from deeplab_native._files import TEMPORARY, atomic_path, remove_leftovers
from deeplab_native.jobs._record import Record
from python_tests.jobs import cases

NAMES = [
    b"caf\xe9",  # of a disk of another encoding
    b"two\nlines",
    "\U0001f600".encode() * 62,  # 248 bytes
    b"x" * 251,  # and four of the suffix
    b"[bold]-o",
]


@pytest.fixture
def top(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    cases.write_folders(folder)
    for part in ("images", "scores", "labels"):
        first, *others = sorted((folder / part).iterdir())
        for path in others:
            path.unlink()
        for name in NAMES:
            there = os.fsencode(first.parent) + b"/" + name + os.fsencode(first.suffix)
            shutil.copy(first, os.fsdecode(there))
    return folder


@pytest.mark.parametrize("job", [cases.refine, cases.segment, cases.evaluate])
def test_a_folder_of_them(job, top, tmp_path):
    done = job(top, tmp_path / "out", workers=0)
    assert not getattr(done, "failed", {})
    again = job(top, tmp_path / "out", workers=0)
    assert getattr(again, "skipped", len(NAMES) + 1) == len(NAMES) + 1


@pytest.mark.parametrize("name", [*NAMES, b"a." + b"b" * 253])
def test_a_file_of_that_name_is_written_whole(name, tmp_path):
    path = tmp_path / os.fsdecode(name)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert TEMPORARY.fullmatch(temporary.name)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    temporary.write_text("of a run that was killed")
    remove_leftovers([tmp_path])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_record_has_them(tmp_path):
    names = [os.fsdecode(name) for name in NAMES]
    record = Record(tmp_path / "a.sqlite", "refine", {})
    for name in names:
        record.add(name, "[]", {"x": b"1"})
    assert list(record.done()) == names
    assert [name for name, _, _ in record.results()] == names
    assert all(record.result(name, "x") == b"1" for name in names)
    record.close()
