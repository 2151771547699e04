"""A run without a single result leaves no folder, record or half of an image's files."""

from __future__ import annotations

import shutil

import pytest

from deeplab_native import jobs, viz
from deeplab_native.jobs._record import Record
from python_tests.jobs import cases
from python_tests.jobs.cases import JOBS


@pytest.fixture
def top(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    cases.write_folders(folder)
    return folder


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
@pytest.mark.parametrize("there", [False, True])
def test_where_every_image_fails(job, top, tmp_path, there):
    for path in (top / "images").iterdir():
        path.write_bytes(b"no picture")
    out = tmp_path / "new" / "out"
    if there:
        out.mkdir(parents=True)
        (out / "theirs.txt").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    if job in (cases.evaluate, cases.search_crf):
        with pytest.raises(jobs.ImagesFailedError):
            job(top, out, workers=0)
    else:
        done = job(top, out, workers=0)
        assert len(done.failed) == cases.IMAGES
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_where_the_disk_is_full_at_the_first_result(job, top, tmp_path, monkeypatch):
    """Its files were there before its place in the record was not: without that they are no result,
    and the same job must go on once there is room."""
    add = Record.add

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Record, "add", full)
    with pytest.raises(OSError, match="No space left"):
        job(top, tmp_path / "new" / "out", workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    monkeypatch.setattr(Record, "add", add)
    job(top, tmp_path / "new" / "out", workers=0)


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_where_it_is_cancelled_at_once(job, top, tmp_path):
    with pytest.raises(jobs.Cancelled):
        job(top, tmp_path / "new" / "out", workers=0, cancel=lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_one_photograph_that_cannot_be_used(top, tmp_path):
    (tmp_path / "photo.jpg").write_bytes((top / "images" / "0.png").read_bytes()[:99])
    with pytest.raises(ValueError, match=r"photo\.jpg: damaged or cut off"):
        jobs.segment(tmp_path / "photo.jpg", tmp_path / "a" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "photo.jpg"]


def test_one_photograph_among_results_of_others(top, tmp_path):
    out = tmp_path / "out"
    cases.segment(top, out, workers=0)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (tmp_path / "photo.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"photo\.jpg: not a picture"):
        jobs.segment(tmp_path / "photo.jpg", out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("job", [cases.refine, cases.segment])
@pytest.mark.parametrize("single", [False, True])
def test_both_files_of_an_image_or_none(job, single, top, tmp_path, monkeypatch):
    if single:
        for path in list((top / "images").iterdir())[1:]:
            path.unlink()
        shutil.rmtree(top / "labels")
    save = viz.save_png

    def full(path, *arguments):
        if path.stem != "0" or single:
            raise OSError(28, "No space left on device", str(path))
        save(path, *arguments)

    monkeypatch.setattr(viz, "save_png", full)  # which writes the overlays
    if single and job is cases.segment:
        with pytest.raises(ValueError, match="No space left on device"):
            job(top, tmp_path / "out", workers=0)
    else:
        job(top, tmp_path / "out", workers=0)
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")}
    assert found == (set() if single else {"0.png", "overlays/0.png"})
    assert (tmp_path / "out").exists() is not single
