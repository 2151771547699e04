"""report.html of a training, made of the folder of its run."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from deeplab_native import viz
from deeplab_native.training import train
from deeplab_native.training.report import write_report
from python_tests.training import training_cases as cases
from python_tests.viz.pages import HOSTILE, Page

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")


def test_of_a_run(tmp_path, monkeypatch, set_threads):
    cases.register_tiny_net(monkeypatch)
    shapes = cases.write_shapes(tmp_path / "shapes", train=4, val=3)
    config = cases.config_of(
        shapes,
        schedule={"iterations": 4},
        validation={"every": 2, "pictures": 2},
        log_every=1,
    )
    outcome = train(config, tmp_path / "run", command="deeplab-native train it")
    page = Page(tmp_path / "run/report.html")
    with (tmp_path / "run/validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = page.table("iteration")
    assert list(table) == ["iteration", "2", "4"]
    for row in rows:
        shown = [f"{100 * float(row[key]):.2f} %" for key in ("mean_iou", "pixel_accuracy")]
        assert table[row["iteration"]] == shown
    assert f"mean IoU {100 * outcome.scores.mean_iou:.2f} %" in page.text
    assert list(page.table("class"))[1:] == ["background", "disc", "square", "triangle"]
    assert page.text.count("prediction") == 2 and "After 4 iterations" in page.text
    assert "deeplab-native train it" in page.text and "log_every: 1" in page.text
    assert "tiny on shapes" in page.text
    assert len(page.images) == 4 + 2 * 3


def test_of_what_is_there(tmp_path):
    """Of a run that goes on, without validation; and hostile names."""
    (tmp_path / "training.csv").write_text("iteration,loss,lr\n10,1.5,0.1\n20,nan,0.05\n")
    page = Page(write_report(tmp_path, title=HOSTILE))
    assert HOSTILE in page.text and page.headings[:-1] == ["Loss and learning rate"]
    head = ["iteration", "mean_iou", "pixel_accuracy", "a", HOSTILE]
    with (tmp_path / "validation.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, [10, 0.5, 0.75, 0.25, "nan"], [20, 0.25, 0.5, 0, 0.5]])
    (tmp_path / "pictures").mkdir()
    pixels = np.zeros((700, 3 * 500, 3), np.uint8)
    viz.save_png(tmp_path / "pictures/<img src=x>_00000020.png", pixels)
    viz.save_png(tmp_path / "pictures/old_00000010.png", pixels)
    page = Page(write_report(tmp_path, colours=[(HOSTILE, (1, 2, 3))]))
    assert page.table("class") == {"class": ["IoU"], "a": ["0.00 %"], HOSTILE: ["50.00 %"]}
    assert "mean IoU 25.00 % 50.00 % at 10" in page.text
    assert "<img src=x>" in page.text and "old" not in page.text
    (tmp_path / "validation.csv").write_text("iteration,mean_iou\n10,0.5\n20\n")
    with pytest.raises(ValueError, match=r"validation\.csv: damaged"):
        write_report(tmp_path)
