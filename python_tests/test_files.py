"""Output files are whole or absent, and never something in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_native import _files
from deeplab_native._files import (
    atomic_path,
    check_output,
    named,
    nothing_left,
    remove_leftovers,
    sole_writer,
)


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


def test_errors_of_writing_have_the_users_name(tmp_path):
    """The system's errors of `write` and `fsync` have none."""
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert caught.value.filename2 is None
    assert os.listdir(tmp_path) == []


def test_a_file_that_stays_open_names_its_errors(tmp_path):
    """Those of `write` have no name, TensorBoard's have one of bytes; others keep theirs."""
    for there, expected in ((None, "a.csv"), (b"events", "a.csv"), ("b.csv", "b.csv")):
        with pytest.raises(OSError) as caught, named(tmp_path / "a.csv"):
            raise OSError(28, "No space left on device", there)
        assert Path(caught.value.filename).name == expected


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


@pytest.mark.parametrize("error", [None, OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("success", [False, True])
def test_a_run_without_success_leaves_nothing(tmp_path, error, success):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "kept.txt").write_text("old")
    (tmp_path / "old" / "written.txt").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    folders = [tmp_path / "old", tmp_path / "a" / "b", tmp_path / "a", tmp_path / "never"]
    files = [tmp_path / "a" / "b" / "new.txt", tmp_path / "old" / "new.txt"]
    files += [tmp_path / "old" / "written.txt", tmp_path / "none"]

    def run():
        with nothing_left(folders, files) as keep:
            (tmp_path / "a" / "b").mkdir(parents=True)
            for file in files[:3]:
                file.write_text("new")
            if success:
                keep()
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    assert (tmp_path / "old" / "kept.txt").read_text() == "old"
    after = sorted(tmp_path.rglob("*"))
    assert (after == before) is not success
    assert files[0].exists() is success


def test_a_folder_with_other_things_stays(tmp_path):
    with nothing_left([tmp_path / "a" / "b"]):
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "theirs.txt").write_text("")
    assert os.listdir(tmp_path / "a") == ["theirs.txt"]


KILLED = """
import os, signal, sys
from deeplab_native._files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("written", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    target = tmp_path / "a.txt"
    command = [sys.executable, "-c", KILLED, str(target)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as other:
        for process in (one, other):
            assert process.stdout.readline() == b"written\n"
        one.communicate()
        assert one.returncode == -signal.SIGKILL
        (tmp_path / ".b.0123456789ab.txt").write_text("half")  # of another file: it is not asked
        assert len(os.listdir(tmp_path)) == 3
        with atomic_path(target) as temporary:
            temporary.write_text("whole")
        left = {".b.0123456789ab.txt", "a.txt"}
        assert left < set(os.listdir(tmp_path)) and len(os.listdir(tmp_path)) == 3
        remove_leftovers([tmp_path])
        assert set(os.listdir(tmp_path)) > {"a.txt"} and len(os.listdir(tmp_path)) == 2
        other.communicate()
    remove_leftovers([tmp_path])
    assert os.listdir(tmp_path) == ["a.txt"]
    assert target.read_text() == "whole"


def test_a_run_that_has_to_go_touches_nothing_of_the_one_that_is_there(tmp_path):
    """Both begin at the same time: neither file nor folder is there when the second one looks."""
    out = tmp_path / "out"
    late = nothing_left([out], [out / "record"], alone_in=out)
    with nothing_left([out], [out / "record"], alone_in=out) as keep:
        with pytest.raises(ValueError, match="another run is writing there"):
            late.__enter__()
        assert out.is_dir()
        (out / "record").write_text("")
        with (
            pytest.raises(ValueError, match="another run"),
            nothing_left([out], [out / "record"], alone_in=out),
        ):
            pass
        keep()
    assert os.listdir(out) == ["record"]


def test_a_child_that_outlives_its_parent_does_not_keep_the_folder(tmp_path):
    read, write = os.pipe()
    forked, say = os.pipe()
    with sole_writer(tmp_path / "out"):
        child = os.fork()
        if child == 0:
            os.write(say, b"x")
            os.read(read, 1)
            os._exit(0)
        os.read(forked, 1)
    try:
        with sole_writer(tmp_path / "out"):
            pass
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        for descriptor in (read, write, forked, say):
            os.close(descriptor)


def test_folders_that_were_written_to_are_not_remembered_for_ever(tmp_path, monkeypatch):
    """A server writes to a new one with every upload."""
    monkeypatch.setattr(_files, "_leftovers", {})
    for number in range(_files._MOST_FOLDERS + 10):
        folder = tmp_path / str(number)
        folder.mkdir()
        with atomic_path(folder / "file") as path:
            path.write_bytes(b"")
    assert len(_files._leftovers) == _files._MOST_FOLDERS
    assert folder in _files._leftovers
