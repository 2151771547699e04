"""A report in Chromium: nothing is loaded or wrong, a telephone's width holds it, it prints."""

from __future__ import annotations

import io

import numpy as np
import pytest

from deeplab_native import viz
from python_tests.chromium import CHROMIUM, NO_CHROMIUM, PHONE, browser_page
from python_tests.viz.test_report import report

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
_BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def test_on_a_phone_and_on_paper(tmp_path):
    html = report()
    names = [f"a class with a long name {i}" for i in range(30)]
    html.table(["wide", *names], [["x" * 90, *map(str, range(30))]])
    html.figure(viz.draw_class_iou({"a": np.linspace(0, 1, 30)}, names), "bars")
    html.code("deeplab-native " + "unbroken" * 60)
    html.write(tmp_path / "r.html")
    said, asked = [], []
    with browser_page(tmp_path / "profile", color_scheme="dark") as page:
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url.partition(":")[0]))
        page.goto((tmp_path / "r.html").as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width == PHONE["width"]
        images = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
        assert len(images) == 3 and all(images)
        dark = page.evaluate(_BACKGROUND)
        page.emulate_media(color_scheme="light")
        assert page.evaluate(_BACKGROUND) == "rgb(255, 255, 255)" != dark
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate(_BACKGROUND) == "rgb(255, 255, 255)"
        assert io.BytesIO(page.pdf(format="A4")).read(5) == b"%PDF-"
    assert said == []
    assert asked.count("file") == 1 and set(asked) <= {"file", "data"}
