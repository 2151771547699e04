"""Strokes: what they paint, and what is refused of them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from deeplab_native import viz
from deeplab_native.web.scribbles import ERASER, MOST_LABELS, Label, Scribbles
from python_tests.web.web_cases import DRAWN, HEIGHT, WIDTH


def changed(**stroke):
    value = json.loads(json.dumps(DRAWN))
    value["strokes"][0].update(stroke)
    return value


def test_strokes_paint_their_labels():
    drawn = Scribbles.read(DRAWN)
    labels = drawn.draw(HEIGHT, WIDTH)
    assert labels.shape == (HEIGHT, WIDTH) and labels.dtype == np.uint8
    assert labels[20, 8] == 0 and labels[20, 51] == 1 and labels[20, 30] == 255
    assert set(np.unique(labels)) == {0, 1, 255}
    assert np.count_nonzero(labels[20] == 0) in (4, 5)  # as wide as the brush
    assert drawn.names() == ("left", "right")
    assert drawn.labels[1] == Label("right", (255, 0, 0))
    palette = drawn.palette(viz.voc_palette())
    assert palette[:3].tolist() == [[0, 0, 255], [255, 0, 0], [0, 128, 0]]


def test_what_is_painted_last_is_seen_and_the_eraser_takes_away():
    value = json.loads(json.dumps(DRAWN))
    value["strokes"].append({"label": 1, "width": 8, "points": [8, 20]})
    value["strokes"].append({"label": ERASER, "width": 6, "points": [50, 5, 50, 36]})
    labels = Scribbles.read(value).draw(HEIGHT, WIDTH)
    assert labels[20, 8] == 1 and labels[30, 8] == 0 and labels[20, 50] == 255


def test_a_point_is_a_dot_and_a_line_may_leave_the_photograph():
    labels = Scribbles.read(changed(points=[30, 20])).draw(HEIGHT, WIDTH)
    assert labels[20, 30] == 0
    labels = Scribbles.read(changed(points=[-500, 20, 900, 20])).draw(HEIGHT, WIDTH)
    assert (labels[20, :40] == 0).all()


def test_scribbles_can_be_compared():
    assert Scribbles.read(DRAWN) == Scribbles.read(DRAWN) != Scribbles.read(changed(width=5))


def test_names_are_short_and_printable():
    value = json.loads(json.dumps(DRAWN))
    value["labels"][0]["name"] = "a\n\x00b" + "c" * 99
    value["labels"][1]["name"] = "  "
    first, second = Scribbles.read(value).names()
    assert first == "a  b" + "c" * 36 and second == "label 1"


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {"strokes": 3},
        {"labels": [{"name": "a"}]},
        {"labels": [{"name": "a", "colour": "red"}]},
        {"labels": [{"name": "a", "colour": "#12345g"}]},
        {"labels": [{"name": "a", "colour": "#000000"}] * (MOST_LABELS + 1)},
        {"strokes": [{"label": 0, "width": 1, "points": [1, 1]}]},  # without labels
        changed(label=2),
        changed(label=-2),
        changed(label=0.5),
        changed(label=True),
        changed(label="0"),
        changed(width=0),
        changed(width=math.nan),
        changed(width=1e9),
        changed(width=None),
        changed(points=[]),
        changed(points=[1]),
        changed(points=[1, math.inf]),
        changed(points=[1, 1e300]),
        changed(points="12"),
        changed(points=[[1, 2]]),
        changed(points=None),
        changed(points=[1, 2] * 200_000),
        {**DRAWN, "strokes": DRAWN["strokes"] * 2000},
    ],
)
def test_what_the_page_does_not_send(value):
    with pytest.raises(ValueError, match=r"scribbles|label|stroke|colour|point"):
        Scribbles.read(value)
