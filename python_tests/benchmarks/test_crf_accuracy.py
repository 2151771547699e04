"""What crf_accuracy.py measures, and where."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
accuracy = importlib.import_module("crf_accuracy")


def test_the_window_is_where_labels_change_most():
    labels = torch.zeros(40, 60, dtype=torch.long)
    labels[20:30, 40:50] = torch.arange(10) % 2
    rows, columns = accuracy.busiest_window(labels, (16, 16))
    assert rows.start <= 20 and rows.stop >= 30 and columns.start <= 40 and columns.stop >= 50
    assert accuracy.busiest_window(labels, (99, 99)) == (slice(0, 40), slice(0, 60))


def test_differences_and_their_summary():
    exact = torch.tensor([[[0.9, 0.6]], [[0.1, 0.4]]])
    other = torch.tensor([[[0.9, 0.4]], [[0.1, 0.6]]])
    found = accuracy.difference(other, exact)
    assert found == pytest.approx({"labels": 50, "mean |dQ|": 0.1, "max |dQ|": 0.2})
    rows = [
        {"photo": "a", "exact": {"seconds": 3.0}, "ours": found | {"seconds": 1.0}},
        {"photo": "b", "exact": {"seconds": 5.0}, "ours": dict.fromkeys(found, 0) | {"seconds": 2}},
    ]
    summary = accuracy.summary(rows)
    assert summary["exact"] == {"seconds": 4}
    means = {"labels": 25, "mean |dQ|": 0.05, "max |dQ|": 0.2, "seconds": 1.5}
    assert summary["ours"] == pytest.approx(means)
    row = "| ours | 25.00 %, 5.0e-02, 1.5 s |"
    assert row in accuracy.markdown({"80/13": {"summary": summary}}).splitlines()
