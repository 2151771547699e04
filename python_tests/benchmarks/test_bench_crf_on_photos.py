"""The summary of ratios over many photographs."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
bench = importlib.import_module("bench_crf_on_photos")


def result(setting, ratio, differ=0):
    ratios = {"1": ratio, "2": 2 * ratio}
    return {
        "setting": setting,
        "ratios": ratios,
        "max_dq": ratio / 1e6,
        "labels_differ": differ,
        "pixels": 100,
    }


def test_summaries():
    results = [result("80/13", r) for r in (5.0, 7.0, 9.0)] + [result("67/3", 3.0, differ=2)]
    wide, narrow, together = bench.summaries(results)
    assert [r["setting"] for r in (wide, narrow, together)] == ["80/13", "67/3", "all"]
    assert wide["ratios"]["1"] == pytest.approx({"median": 7, "p10": 5.4, "p90": 8.6, "least": 5})
    assert narrow["ratios"]["2"] == {"median": 6, "p10": 6, "p90": 6, "least": 6}
    assert together["ratios"]["1"]["median"] == 6 and together["ratios"]["2"]["least"] == 6
    assert narrow["labels_differ"] == 0.02 and together["labels_differ"] == 0.005
    assert together["max_dq"] == 9e-6


def test_photos_are_spread_over_those_held_out(tmp_path):
    names = [f"{k:03}" for k in range(30)]
    (tmp_path / "ids.txt").write_text("\n".join(names))
    every = bench.held_out(tmp_path, None)
    assert len(every) == 20 and every == sorted(every)
    assert bench.held_out(tmp_path, 5) == every[::4]
    with pytest.raises(SystemExit, match=r"expected 1 to 20 .* got 21"):
        bench.held_out(tmp_path, 21)


def test_a_row_for_each_setting():
    table = bench.table(bench.summaries([result("80/13", 5.0)]), [1, 2], "title")
    assert table.row_count == 2 and len(table.columns) == 6
