"""`deeplab-native demo`: its output, and the geometry of its picture."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import CRFParams
from deeplab_native.demo.figure import draw, trace
from python_tests.cli.cli_cases import fails


def test_demo(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    result = run("demo", "--iterations", 1, "--threads", torch.get_num_threads())
    assert result.code == 0
    assert re.search(r"network .* ms *\n dense CRF, 1 iterations? .* ms", result.out)
    assert "public domain" in result.out
    picture = tmp_path / "deeplab-native-demo" / "crf_demo.png"
    with Image.open(picture) as image:
        assert image.width > 1000
    assert os.listdir(picture.parent) == ["crf_demo.png"]
    (tmp_path / "file").write_text("")
    fails(run("demo", "-o", "file"), "file is a file (give a folder)")
    fails(run("demo", "-o", "new", "--threads", 99999), "--threads 99999: too many")
    assert not os.path.exists("new")


@pytest.mark.parametrize(
    ("iterations", "shown"),
    [
        (0, [0]),
        (1, [0, 1]),
        (2, [0, 1, 2]),
        (5, [0, 1, 2, 5]),
        (10, [0, 1, 2, 10]),
        (20, [0, 1, 2, 10, 20]),
    ],
)
@pytest.mark.parametrize("size", [(30, 26), (20, 40)])
def test_the_figure_holds_all_maps(iterations, shown, size):
    unary = torch.randn(1, 21, *size)
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
    steps = trace(unary, image, CRFParams(3, 30, 10, 3, 3), iterations=iterations, label=15)
    assert [step.iteration for step in steps] == shown
    photo = image[0].permute(1, 2, 0).numpy()
    figure = draw(photo=photo, steps=steps, name="person", label=15, notes="one\ntwo")

    width, height = figure.get_size_inches()
    whole = figure.get_tightbbox()  # with titles, labels and colour bars
    assert whole.x0 >= 0 and whole.y0 >= 0
    assert whole.x1 <= width and whole.y1 <= height
    maps = [axes.get_position() for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert len(maps) == 3 + 2 * len(steps)
    for i, one in enumerate(maps):
        assert one.height * height / (one.width * width) == pytest.approx(size[0] / size[1])
        for other in maps[:i]:
            assert not one.overlaps(other)
    # the middle of both rows of maps is that of the figure
    assert np.mean([(box.x0 + box.x1) / 2 for box in maps[3:]]) == pytest.approx(0.5)
