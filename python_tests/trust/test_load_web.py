"""Visitors at once at the real server: all are served, rightly; and the queue has a bound."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("gradio") is None:
    pytest.skip("no gradio: pip install 'deeplab_native[web]'", allow_module_level=True)

from trust import load_web
from trust._pictures import LEAST, MOST, Pictures
from trust._visits import ENDED, Visit, jpeg


def test_eight_visitors_and_a_flood():
    pictures = Pictures()
    photos = [jpeg(pictures.photo(number)) for number in range(2)]
    found = load_web.measure(8, photos, photos[0])
    assert (found["errors"], found["other_masks"], found["what_errors"]) == (0, 0, {})
    assert found["computations"] == 32
    assert found["exit_code"] in ENDED and found["server_said"] == ""
    for seconds in found["latency_seconds"].values():
        assert 0 < seconds["p50"] <= seconds["p90"] <= seconds["p99"] <= seconds["max"]
    queue = found["queue"]
    assert queue["taken"] + queue["refused"] == queue["sent"]
    if queue["refused"]:  # not where the machine computes faster than it is asked
        assert queue["status"] == 503 and "Queue is full. Max size is 64" in queue["words"]


def test_percentiles():
    visits = [Visit.__new__(Visit) for _ in range(4)]
    for number, visit in enumerate(visits):
        visit.seconds = {"page": [number / 4], "slider": [1.0, 3.0]}
    found = load_web.percentiles(visits)
    expected = {"p50": 0.375, "p90": 0.675, "p99": 0.7425, "max": 0.75}
    assert found["page"] == pytest.approx(expected, abs=0.001)
    assert found["slider"]["p50"] == 2.0 and found["slider"]["max"] == 3.0


def test_pictures_are_the_same_again_and_of_many_sizes():
    pictures, again = Pictures(), Pictures()
    found = [pictures[number] for number in range(30)]
    for number, (photo, scores) in enumerate(found):
        assert photo.dtype == np.uint8 and photo.shape[:2] == scores.shape[1:]
        assert all(LEAST <= side <= MOST for side in photo.shape[:2])
        if number < 3:
            assert np.array_equal(photo, again.photo(number))
            assert np.array_equal(scores, again[number].scores)
    assert len({photo.shape for photo, _ in found}) > 8
    assert len({len(scores) for _, scores in found}) == 4
    assert pictures.photo(3, (50, 60)).shape == (50, 60, 3)
    assert max(max(Pictures(shrink=2).photo(n).shape[:2]) for n in range(9)) <= MOST // 2
