"""`deeplab-native crf-search`: files, what it finds, resuming."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from deeplab_native._files import sole_writer
from deeplab_native.cli.values import class_numbers, numbers
from deeplab_native.jobs import _execution
from deeplab_native.jobs._search_files import Item, draw
from deeplab_native.jobs._search_image import count
from python_tests.cli.cli_cases import fails
from python_tests.crf.search_cases import IMAGES, LABELS, PLANTED, SMALL, best, search

pytestmark = pytest.mark.usefixtures("quick_workers")

GRID = ["--w1", "3:7:2", "--sigma-alpha", "10:15:5", "--sigma-beta", "8,12", "--rounds", "1"]
CANDIDATES_OF_SMALL = 4


def rows():
    """(image, candidate) of everything that is counted."""
    with closing(sqlite3.connect("out/search.sqlite")) as database:
        return list(database.execute("SELECT image, variant FROM counts ORDER BY rowid"))


def settings():
    with closing(sqlite3.connect("out/search.sqlite")) as database:
        query = "SELECT value FROM about WHERE what = 'settings'"
        return json.loads(database.execute(query).fetchone()[0])


def test_planted_parameters_are_found_in_files(search_folders, run):
    result = search(run, *GRID, "--workers", "2")
    assert (result.code, result.err) == (0, "")
    pasted = "CRFParams(w1=5, sigma_alpha=12.5, sigma_beta=10, w2=3, sigma_gamma=3)"
    assert result.out.rstrip().endswith(pasted)
    assert "before" in result.out and "100.000%" in result.out
    assert best()["params"] == {**PLANTED._asdict(), "w2": 3, "sigma_gamma": 3}
    assert best()["figures"] == {"mean_iou": 1, "accuracy": 1, "band_accuracy": 1}
    assert best()["before"]["mean_iou"] < 0.6
    assert best()["images"] == ["0", "1", "2"] and best()["classes"] == list(range(LABELS))
    with open("out/candidates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == best()["candidates"] > 12 and float(rows[0]["mean_iou"]) == 1
    assert sorted(rows, key=lambda r: -float(r["mean_iou"])) == rows
    with Image.open("out/heatmap.png") as picture:
        picture.load()


def test_a_run_that_was_killed_goes_on(search_folders, run):
    assert search(run, *SMALL).code == 0
    whole, results = rows(), (best()["figures"], Path("out/candidates.csv").read_text())
    assert len(whole) == IMAGES * CANDIDATES_OF_SMALL
    with closing(sqlite3.connect("out/search.sqlite")) as database:
        database.execute("DELETE FROM counts WHERE rowid > 5")
        database.commit()
    Path("out/.best.0123456789ab.json").write_text("half")
    assert search(run, *SMALL, "--workers", "1").code == 0
    assert rows()[:5] == whole[:5]
    assert sorted(rows()) == sorted(whole)
    assert (best()["figures"], Path("out/candidates.csv").read_text()) == results
    assert not list(Path("out").glob(".*"))
    # and a finished one has nothing to do, until it is to begin anew
    before = rows()
    assert search(run, *SMALL).code == 0
    assert rows() == before
    assert search(run, *SMALL, "--overwrite", "--w2", "5").code == 0
    assert len(rows()) == len(whole) and settings()["w2"] == 5


def test_another_grid_or_other_images_use_what_is_there(search_folders, run):
    assert search(run, *SMALL, "--images", "2", "--seed", "3").code == 0
    first, chosen = rows(), best()["images"]
    assert len(chosen) == 2
    assert search(run, *SMALL[2:], "--w1", "3,4,5").code == 0
    assert rows()[: len(first)] == first
    assert len(rows()) == IMAGES * 6
    assert best()["candidates"] == 6 and best()["images"] == ["0", "1", "2"]
    Path("chosen.txt").write_text("\n".join(["2", "", "0"]))
    assert search(run, *SMALL, "--list", "chosen.txt", "--classes", "1,2").code == 0
    assert best()["images"] == ["0", "2"] and best()["classes"] == [1, 2]
    assert len(rows()) == IMAGES * 6


def test_ctrl_c_keeps_what_is_done(search_folders, run, monkeypatch):
    run_jobs = _execution.run_jobs

    def interrupted(function, jobs, *args, **keywords):
        for i, outcome in enumerate(run_jobs(function, jobs, *args, **keywords)):
            if function is count and i == 1:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(_execution, "run_jobs", interrupted)
    result = search(run, *SMALL, "--workers", "1")
    assert result.code == 130 and "4 of 12 CRFs are done; the same command goes on" in result.err
    assert len(rows()) == CANDIDATES_OF_SMALL
    assert not Path("out/best.json").exists()
    monkeypatch.setattr(_execution, "run_jobs", run_jobs)
    assert search(run, *SMALL).code == 0
    assert len(rows()) == IMAGES * CANDIDATES_OF_SMALL


def test_a_job_that_fails_is_named_and_the_rest_kept(search_folders, run, monkeypatch):
    run_jobs = _execution.run_jobs

    def one_dies(function, jobs, *args, **keywords):
        for outcome in run_jobs(function, jobs, *args, **keywords):
            dies = function is count and outcome.job.name == "1"
            yield outcome._replace(result=None, error="it died") if dies else outcome

    monkeypatch.setattr(_execution, "run_jobs", one_dies)
    result = search(run, *SMALL)
    assert result.code == 1 and "1: it died" in result.err and "goes on from there" in result.err
    assert len(rows()) == 2 * CANDIDATES_OF_SMALL


def test_records_of_other_searches_are_refused(search_folders, run):
    assert search(run, *SMALL, "--images", "1").code == 0
    before = rows()
    options = ["--w2", "5", "--band", "2"]
    fails(search(run, *SMALL, *options), "w2 3.0, now 5.0", "band 5, now 2", "--overwrite")
    Image.new("RGB", (45, 36 + int(best()["images"][0]))).save(f"photos/{best()['images'][0]}.png")
    fails(search(run, *SMALL), "the files of 1 images have changed since", "--overwrite")
    with sole_writer(Path("out")):
        fails(search(run, *SMALL), "another run is writing there")
    assert rows() == before
    fails(search(run, *SMALL, "--no-resume"), "has results of an earlier run", "--overwrite")


def test_a_search_of_an_earlier_version_says_that_it_cannot_go_on(search_folders, run):
    Path("out").mkdir()
    Path("out/search.jsonl").write_text("{}")
    fails(search(run, *SMALL), "search.jsonl: of an earlier version", "--overwrite")
    assert os.listdir("out") == ["search.jsonl"]
    assert search(run, *SMALL, "--overwrite").code == 0
    assert not Path("out/search.jsonl").exists()


def test_lists_of_values():
    assert numbers("--w1", "3,4.5, 6") == [3, 4.5, 6]
    assert numbers("--w1", "30:100:10") == [30, 40, 50, 60, 70, 80, 90, 100]
    assert numbers("--w1", "0.1:0.3:0.1") == [0.1, 0.2, 0.3]
    assert numbers("--w1", "1:2:0.75") == [1, 1.75]
    assert class_numbers("--classes", "8,0, 8") == [0, 8]
    for text in ("", ":", "1:2", "1:2:3:4", "1:nan:1", "1:1e9:1e-9", "inf:inf:1"):
        with pytest.raises(ValueError, match="--w1"):
            numbers("--w1", text)


def test_a_seed_draws_the_same_images():
    items = [Item(str(i), ()) for i in range(50)]
    assert draw(items, None, 0) == items
    assert draw(items, 9, 1) == draw(items, 9, 1) != draw(items, 9, 2)
    assert len(set(draw(items, 9, 1))) == 9
