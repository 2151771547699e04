"""Output files are whole or absent, and never something in between."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deeplab_native._files import atomic_path, check_output


def test_writes_the_file(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError(), KeyboardInterrupt()])
def test_failure_leaves_the_old_file(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(type(error)), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_block_that_wrote_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.txt"), atomic_path(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []


def test_errors_name_the_users_file(tmp_path):
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.txt") as temporary:
        temporary.mkdir()
        try:
            temporary.write_text("")
        finally:
            temporary.rmdir()
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_follows_symbolic_links(tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "folder" / "real.txt")
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "folder" / "real.txt").read_text() == "new"


def test_long_names_and_names_without_suffix(tmp_path):
    for name in ("n" * 240 + ".png", "plain"):
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text("new")
        assert (tmp_path / name).read_text() == "new"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("missing/a.txt", FileNotFoundError),
        ("file/a.txt", NotADirectoryError),
        ("folder", IsADirectoryError),
        ("pipe", FileExistsError),
    ],
)
def test_check_output(tmp_path, name, error):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error, match=name.partition("/")[0]):
        check_output(tmp_path / name)


def test_results_of_benchmarks(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    from _timing import write_json

    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    for _ in range(2):
        write_json(tmp_path / "new" / "a.json", {"a": 1})
        write_json(tmp_path / "link.json", {"a": 1})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"a": 1}
    assert json.loads((tmp_path / "real.json").read_text()) == {"a": 1}
    assert sorted(os.listdir(tmp_path)) == ["link.json", "new", "real.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="cannot be written"):
            check_output(tmp_path / "a.txt")
    finally:
        tmp_path.chmod(0o700)
