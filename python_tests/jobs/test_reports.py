"""report.html of evaluate and search_crf: its numbers are those of the files beside it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from deeplab_native import data, jobs
from python_tests.jobs import cases
from python_tests.viz.pages import HOSTILE, Page, without_date

HERE = {"workers": 0, "threads": 1}


@pytest.fixture
def top(tmp_path):
    """The folders of `cases`; a class and an image have names that want to be more than text."""
    folder = tmp_path / "data"
    folder.mkdir()
    cases.write_folders(folder)
    names = json.loads((folder / "classes.json").read_text())
    (folder / "classes.json").write_text(json.dumps({**names, "1": HOSTILE}))
    for part, suffix in (("images", "png"), ("labels", "png"), ("scores", "npy")):
        file = folder / f"{part}/0.{suffix}"
        file.rename(file.with_name(f"<img src=x> $0$.{suffix}"))
    return folder


def percent(value):
    return "-" if value is None else f"{100 * value:.2f}"


def test_evaluation(top, tmp_path):
    done = cases.evaluate(top, tmp_path / "out", command="deeplab-native evaluate", **HERE)
    assert tmp_path / "out/report.html" in done.written
    page = Page(tmp_path / "out/report.html")
    found = json.loads((tmp_path / "out/evaluation.json").read_text())
    before, after = found["variants"].values()
    table = page.table("class")
    assert HOSTILE in table and len(table) == 1 + cases.LABELS
    for i, name in enumerate(found["classes"]):
        ious = [percent(one["class_iou"][i]) for one in (before, after)]
        assert table[name][1:3] == ious
    overall = page.table("all together")
    for name, key in (("mean IoU", "mean_iou"), ("pixel accuracy", "pixel_accuracy")):
        assert overall[name][:2] == [percent(before[key]), percent(after[key])]
        said = f"{name} {percent(after[key])} % {percent(before[key])} % before the CRF"
        assert said in page.text
    curve = page.table("w, pixels")
    assert curve["scores + CRF"][2] == percent(after["trimap"][2]["mean_iou"])
    assert "deeplab-native evaluate" in page.text
    assert "CRFParams(w1=3, sigma_alpha=9, sigma_beta=20, w2=1, sigma_gamma=2)" in page.text
    # every one of six images is the worst, the best, or changed the most by the CRF
    assert 5 <= len(found["examples"]) <= cases.IMAGES
    for example in found["examples"]:
        assert example["image"] in page.text
        for variant, value in example["mean_iou"].items():
            assert f"{variant}: {percent(value)} %" in page.text
    photographs = [source for _, source in page.images if source.startswith("data:image/jpeg")]
    assert len(photographs) == 4 * len(found["examples"])  # photograph, labels, before, after
    worst = min(done.report.examples, key=lambda one: one.mean_iou["scores + CRF"])
    assert done.report.examples[0] == worst and worst.why == "lowest mean IoU"


def test_mean_iou_of_an_image(top, tmp_path):
    """By its definition: over the classes that the image is labelled with."""
    done = cases.evaluate(top, tmp_path / "out", crf=None, trimap="none", **HERE)
    for example in done.report.examples:
        labels = np.asarray(Image.open(top / f"labels/{example.image}.png"))
        found = np.load(top / f"scores/{example.image}.npy").argmax(0)
        ious = [
            np.sum((labels == c) & (found == c)) / np.sum((labels == c) | (found == c))
            for c in np.unique(labels)
        ]
        assert example.mean_iou == {"scores": pytest.approx(np.mean(ious))}
    assert "trimap" not in Page(tmp_path / "out/report.html").headings


def test_images_that_are_left_out_are_named(top, tmp_path):
    (top / "images/3.png").write_bytes(b"no picture")
    cases.evaluate(top, tmp_path / "out", skip_bad=True, **HERE)
    page = Page(tmp_path / "out/report.html")
    assert "Left out" in page.headings
    assert "1 images could not be used" in page.text and "3.png" in page.text


def test_without_a_report(top, tmp_path):
    """An earlier one goes: it would be of other numbers. The record has all for a new one."""
    out = tmp_path / "out"
    for job in (cases.evaluate, cases.search_crf):
        whole = job(top, out, **HERE)
        before = without_date(out / "report.html")
        none = job(top, out, report=False, **HERE)
        assert not (out / "report.html").exists()
        assert {*whole.written} - {*none.written} == {out / "report.html"}
        job(top, out, **HERE)
        assert without_date(out / "report.html") == before
        out = tmp_path / "other"


def test_records_and_files_of_before(top, tmp_path):
    """Records without pictures and files that are gone leave names and numbers."""
    out = tmp_path / "out"
    cases.evaluate(top, out, **HERE)
    with closing(sqlite3.connect(out / "counts.sqlite")) as database:
        database.execute("DELETE FROM counts WHERE variant = 'small: scores' AND image = '1'")
        database.execute(
            "UPDATE counts SET packed = x'00' WHERE variant = 'small: scores' AND image = '2'"
        )
        database.commit()
    with pytest.raises(ValueError, match=r"counts\.sqlite: 2: damaged"):
        cases.evaluate(top, out, **HERE)
    with closing(sqlite3.connect(out / "counts.sqlite")) as database:
        database.execute("DELETE FROM counts WHERE variant = 'small: scores' AND image = '2'")
        database.commit()
    found = cases.evaluate(top, out, **HERE).report.examples
    missing = [one.image for one in found if one.image in ("1", "2")]
    assert missing
    page = Page(out / "report.html")
    assert set(page.table("image")) - {"image"} == set(missing)


def test_search(top, tmp_path):
    done = cases.search_crf(top, tmp_path / "out", command="repeat me", **HERE)
    assert tmp_path / "out/report.html" in done.written
    page = Page(tmp_path / "out/report.html")
    best = json.loads((tmp_path / "out/best.json").read_text())
    figure = f"{100 * best['figures']['mean_iou']:.3f} %"
    assert f"mean IoU {figure} {100 * best['before']['mean_iou']:.3f} % before" in page.text
    values = ", ".join(f"{name}={value:.12g}" for name, value in best["params"].items())
    assert f"CRFParams({values})" in page.text and "repeat me" in page.text
    table = page.table("w1 / sigma_alpha / sigma_beta")
    with (tmp_path / "out/candidates.csv").open() as file:
        first = file.read().splitlines()[1].split(",")
    name = " / ".join(f"{float(value):g}" for value in first[:3])
    assert table[name][0] == f"{float(first[3]):.3%}"
    assert len(table) == 2 + min(30, best["candidates"])
    assert list(page.table("grid"))[1:] == ["coarse", "round 1"]
    for note in done.notes():
        assert note in page.text
    assert "Heat maps" in page.images[0][0]


def test_no_labelled_pixel(tmp_path):
    """Nothing to be right about: no example, no division by nothing."""
    top = tmp_path / "data"
    top.mkdir()
    cases.write_folders(top)
    for file in (top / "labels").iterdir():
        Image.fromarray(np.full_like(np.asarray(Image.open(file)), 255)).save(file)
    done = jobs.evaluate(
        data.folder(top), tmp_path / "out", scores=top / "scores", crf=None, **HERE
    )
    assert done.report.examples == []
    assert "pixel accuracy" in Page(tmp_path / "out/report.html").text
