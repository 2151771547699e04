"""The figures of docs/explanation/ can be drawn, and the committed ones show what the ops give."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from python_tests.docs.documents import ROOT


@pytest.fixture
def draw(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs/figures"))
    before = set(sys.modules)
    yield importlib.import_module("draw")
    for name in set(sys.modules) - before:  # names as short as theirs are for them alone
        if name == "draw" or name in ("_drawing", "_atrous", "_aspp", "_lattice", "_mean_field"):
            del sys.modules[name]


def test_figures_are_current(draw):
    assert draw.problems() == []
    files = {path.name for path in draw.FOLDER.iterdir() if path.suffix in (".svg", ".png")}
    assert files == {name for _, name, _ in draw.figures()}
    assert sum((draw.FOLDER / name).stat().st_size for name in files) < 1_500_000


@pytest.mark.parametrize("name", ["x.svg", "x.png"])
def test_what_is_outdated_is_found(draw, name, tmp_path, monkeypatch):
    from _drawing import Drawing, row_of_pictures

    (tmp_path / "figures").mkdir()
    (tmp_path / "explanation").mkdir()
    page = tmp_path / "explanation/page.md"
    page.write_text(f"It is 3 %. ![x](../figures/{name})")

    def compute(share=0.03, said=("3 %",)):
        noise = np.zeros((4, 4))
        return Drawing(lambda: row_of_pictures({"x": noise}), {"share": share, "<&": '"'}, said)

    monkeypatch.setattr(draw, "FOLDER", tmp_path / "figures")
    monkeypatch.setattr(draw, "PAGES", {"page": {name: compute}})
    assert draw.problems() == [f"{name}: not there"]
    draw.save(compute(), tmp_path / "figures" / name)
    assert draw.problems() == []
    monkeypatch.setattr(draw, "PAGES", {"page": {name: lambda: compute(0.0301)}})
    assert draw.problems() == []
    monkeypatch.setattr(draw, "PAGES", {"page": {name: lambda: compute(0.04)}})
    assert draw.problems()[0].startswith(f"{name}: outdated, its numbers are now")
    page.write_text("nothing")
    assert draw.problems()[1:] == [
        "page.md does not have: 3 %",
        f"page.md does not have: (../figures/{name})",
    ]
