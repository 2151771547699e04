"""`--report`, and the command that a report says to repeat it by."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_tests.cli.evaluate_cases import evaluate
from python_tests.viz.pages import Page

pytestmark = pytest.mark.usefixtures("quick_workers")


def test_the_command_is_said(shapes, run):
    assert evaluate(run, "--no-crf", "--workers", 0, out="a b").code == 0
    said = "deeplab-native evaluate folder shapes --scores scores --output 'a b' --w1 3"
    assert said in Page(Path("a b/report.html")).text
    # what is said of how the run goes on is not part of it
    assert evaluate(run, "--no-crf", "--workers", 0, "--overwrite", out="a b").code == 0
    page = Page(Path("a b/report.html")).text
    assert said in page and "--overwrite" not in page


def test_no_report(shapes, run):
    result = evaluate(run, "--no-crf", "--workers", 0, "--no-report")
    assert result.code == 0 and "report.html" not in result.out
    assert not Path("out/report.html").exists()
    result = evaluate(run, "--no-crf", "--workers", 0)
    assert "out/report.html" in result.out.replace("\n", "") and Path("out/report.html").exists()
