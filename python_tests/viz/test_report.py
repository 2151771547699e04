"""`HTMLReport`: one file, whole, that loads nothing, whatever the names in it are."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from deeplab_native import __version__, viz
from python_tests.viz.pages import HOSTILE, Page, without_date

PIXELS = np.full((6, 9, 3), (200, 30, 60), np.uint8)


def report(name=HOSTILE):
    html = viz.HTMLReport(name, name, command=f"run {name}", machine={name: name})
    html.headline(name, name, name)
    html.section(name)
    html.text(name)
    html.facts({name: name, "none": None, "yes": True, "many": [1.5, name], "nested": {name: 2}})
    html.table([name, "b"], [[name, "1"], ["c" * 40, "2"]], marked=1, note=name)
    html.figure(viz.draw_class_iou({name: [0.5]}, [name], title=name), name, note=name)
    html.gallery(name, [viz.Shot(name, PIXELS)], note=name, colours=[(name, (255, 0, 16))])
    html.colours([(name, np.array([1, 2, 3], np.uint8))])
    html.code(name, name)
    return html


def test_hostile_names_are_text(tmp_path):
    report().write(tmp_path / "r.html")
    page = Page(tmp_path / "r.html")  # which fails for a script or anything that is loaded
    assert page.text.count(HOSTILE) >= 20
    assert page.headings[0] == HOSTILE
    assert page.table(HOSTILE)[HOSTILE] == ["1"]
    text = (tmp_path / "r.html").read_text()
    assert "<script" not in text and "default-src 'none'" in text and "#ff0010" in text
    ((description, figure), (_, photograph)) = page.images
    assert description == HOSTILE and photograph.startswith("data:image/jpeg;base64,")
    svg = base64.b64decode(figure.removeprefix("data:image/svg+xml;base64,")).decode()
    assert "<script" not in svg and "&lt;script" in svg
    jpeg = base64.b64decode(photograph.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(jpeg)) as image:
        assert np.abs(np.asarray(image).astype(int) - PIXELS).max() < 8


def test_how_it_was_made(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1480000000")
    page = Page(viz.HTMLReport("Kind", "title", "a command", {"GPU": "none"}).html())
    for said in (f"deeplab_native {__version__}", "torch ", "numpy ", "python 3.", "processor "):
        assert said in page.text
    assert "a command" in page.text and "GPU none" in page.text
    assert "24 November 2016, 15:06 UTC" in page.text
    assert "title" in page.text and page.tables == []
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ValueError, match="SOURCE_DATE_EPOCH yesterday"):
        viz.HTMLReport("Kind", "title").html()


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "r.html"
    report().write(file)
    before = without_date(file)
    report().write(file)
    assert without_date(file) == before
    broken = report()
    broken.table(["a"], [["b"]])
    monkeypatch.setattr("deeplab_native.viz.report.cores", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.write(file)
    assert without_date(file) == before and len(list(tmp_path.iterdir())) == 1


def test_names_that_are_no_text(tmp_path):
    """Of files on a disk of another encoding; and what no SVG may hold."""
    report("fa\udce7ade $x_1$ 猫\x1b").write(tmp_path / "r.html")
    assert "fa?ade $x_1$ 猫" in Page(tmp_path / "r.html").text
