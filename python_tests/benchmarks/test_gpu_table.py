"""README's measured table is what the committed results say; how the table is made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "nvidia-h200.json"
if not RESULTS.exists():
    pytest.skip("not a checkout", allow_module_level=True)


@pytest.fixture
def gpu_table(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_table

    return gpu_table


def test_readme_has_what_the_results_say(gpu_table):
    text = gpu_table.README.read_text()
    table = gpu_table.markdown(json.loads(RESULTS.read_text()))
    assert gpu_table.placed(text, table) == text, "python benchmarks/gpu_table.py --update"
    assert table.count("\n") > 15


def test_the_figures_are_those_of_the_raw_results(gpu_table):
    """So that nobody edits a figure, and goals that changed are in the file."""
    from _goals import figures

    results = json.loads(RESULTS.read_text())
    common = {key: results["machine"][key] for key in ("commit", "date", "driver", "torch")}
    assert [row | common for row in figures(results["raw"])] == results["figures"]


def row(name, value, unit="ms", goal="", first=""):
    from _goals import Figure, _row

    return _row(Figure(name, value, unit, goal, first))


def test_markdown(gpu_table):
    machine = {"gpu": "A", "date": "2026-01-02T03:04:05+00:00", "commit": "c", "torch": "t"}
    rows = [
        row("crf 375x500x21 80/13, one image by graph replay", 1.234, "ms", "<= 1.2", "<= 1.5"),
        row("crf 375x500x21 60/5, one image by graph replay", 2.0, "ms", "<= 1.3", "<= 1.5"),
        row("crf 1024x2048x19 80/13, batch 1", 1234.4, "images/s", ">= 60", ">= 60"),
        row("space_to_batch contiguous, of a copy, the slowest case", 0.05, "", ">= 0.8", ">= 0.8"),
        row("space_to_batch contiguous, of a copy, the fastest case", 0.5, ""),
    ]
    lines = gpu_table.markdown({"machine": machine | {"driver": "5"}, "figures": rows}).splitlines()
    assert lines[0] == "One A, 2 January 2026, commit c, torch t, driver 5:"
    cells = [[cell.strip() for cell in line.split("|")[2:5]] for line in lines[4:]]
    assert cells == [
        ["1.23, 2 ms", "1.5: missed by 1 of 2", "1.2, 1.3: missed"],
        ["1,234 images/s", "60: met", ""],
        ["5 % to 50 %", "80 %: missed", ""],
    ]


def test_a_document_without_markers_is_left_alone(gpu_table):
    with pytest.raises(SystemExit, match="expected <!--"):
        gpu_table.placed("# README", "| |")


def test_raw_results_become_the_file(tmp_path):
    """As those of the first run did: the commit is given, paths of the machine go."""
    raw = json.loads(RESULTS.read_text())["raw"]["bench_e2e"]
    raw["machine"]["commit"] = "0-dirty"
    raw["arguments"]["json"] = "/root/e2e.json"
    (tmp_path / "e2e.json").write_text(json.dumps(raw))
    command = [sys.executable, BENCHMARKS / "convert_results.py", tmp_path, "--commit", "abc"]
    out = tmp_path / "out.json"
    subprocess.run([*command, "--driver", "580", "--json", out], check=True)
    results = json.loads(out.read_text())
    assert results["machine"]["commit"] == results["figures"][0]["commit"] == "abc"
    assert results["machine"]["driver"] == "580" and results["machine"]["gpu"] == "NVIDIA H200"
    assert list(results["raw"]) == ["bench_e2e"]
    assert "/root" not in out.read_text() and "dirty" not in out.read_text()
