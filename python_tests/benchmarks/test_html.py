"""The report of a benchmark, of the files that there are and of other forms."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from python_tests.viz.pages import HOSTILE, Page

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "benchmarks"))

import _html
import _timing
from _outputs import add_outputs


def written(tmp_path, document, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bench_it.py", "--html", "it.html"])
    _html.write_html(tmp_path / "new/it.html", document)
    return Page(tmp_path / "new/it.html")


def test_times_and_other_numbers(tmp_path, monkeypatch):
    timing = {"median": 0.002, "p10": 0.001, "p90": 0.0035, "runs": 9}
    results = [
        {"case": {"size": size, "labels": 21}, "timings": {HOSTILE: timing}, "ratio": 2.5 * size}
        for size in (64, 96)
    ]
    document = {"machine": {"cpu": "x", "isa": "avx2"}, "arguments": {}, "results": results}
    page = written(tmp_path, document, monkeypatch)
    times, others = (rows for rows in page.tables if rows[0][0] == "case")
    # "labels 21" tells no case from another
    assert times[1:] == [["size 64", "2 (1-3.5)"], ["size 96", "2 (1-3.5)"]]
    assert others == [["case", "ratio"], ["size 64", "160"], ["size 96", "240"]]
    assert times[0] == ["case", HOSTILE]
    assert "python benchmarks/bench_it.py --html it.html" in page.text and "isa avx2" in page.text


@pytest.mark.parametrize(
    "name", ["crf_375x500", "conv", "crf_on_photos", "crf_volumes", "host", "large_photo_3000"]
)
def test_of_the_results_there_are(tmp_path, monkeypatch, name):
    if not (RESULTS / f"{name}.json").exists():  # left out of a source distribution
        pytest.skip("no results")
    document = json.loads((RESULTS / f"{name}.json").read_text())
    page = written(tmp_path, document, monkeypatch)
    assert page.tables and page.headings[-1] == "How it was made"
    rows = page.tables[0][1:]
    if isinstance(document.get("results"), list):
        assert len(rows) == len(document["results"])
        assert len({row[0] for row in rows}) == len(rows)  # names of their own


def test_both_files(tmp_path):
    parser = argparse.ArgumentParser()
    add_outputs(parser)
    args = parser.parse_args(["--json", f"{tmp_path}/r.json", "--html", f"{tmp_path}/r.html"])
    _timing.write_results(args, [{"case": "a", "seconds": {"ours": 0.5}}], threads=3)
    assert json.loads((tmp_path / "r.json").read_text())["machine"]["threads"] == 3
    assert Page(tmp_path / "r.html").table("case")["a"] == ["500"]
    _timing.write_results(parser.parse_args([]), [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json"]
