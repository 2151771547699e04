"""A schedule for a number of photographs and a machine."""

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import weights
from deeplab_native.data import open_dataset
from deeplab_native.data.own_data import find_data
from deeplab_native.models import create_model
from deeplab_native.training import plan
from deeplab_native.training.own_data import write_data
from deeplab_native.training.plan import Pace
from python_tests.data import own_cases as cases

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
QUICK = [
    "augmentation.crop=33", "batch=2", "accelerator=cpu", "threads=1",
    "schedule={iterations: 2, head_first: {iterations: 1}}", "log_every=1",
]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    found = find_data(cases.write_indices(tmp_path / "photos", (0, 4, 9)))
    write_data(found, tmp_path / "data")
    return tmp_path / "data"


def planned(monkeypatch, data, pace, **arguments):
    asked = []
    monkeypatch.setattr(plan, "measure_pace", lambda config: asked.append(config) or pace)
    found = plan.plan_run(data, images=19, longest=500, **arguments)
    return found, asked


def test_by_the_photographs_where_there_is_time(data, monkeypatch):
    found, asked = planned(monkeypatch, data, Pace(0.1, 0.3))
    config = found.config
    assert config.schedule.iterations == 238  # 100 passes in batches of 8
    assert config.schedule.head_first.iterations == 36
    assert (config.augmentation.crop, config.batch, config.model.new_layers) == (
        *(257, 8, "classifier"),
    )
    assert config.model.weights == str(weights.EMBEDDED)
    assert config.crf is not None
    assert found.minutes == pytest.approx((238 * 0.3 + 36 * 0.1) / 0.85 / 60)
    assert "100 minutes" not in found.notes[0] and "allow" not in found.notes[0]
    assert len(asked) == 1


def test_by_the_time_where_there_is_little(data, monkeypatch):
    found, _ = planned(monkeypatch, data, Pace(2, 10))
    assert found.config.iterations == pytest.approx(0.85 * 900 / 10, rel=0.2)
    assert "within 15 minutes: about 15 minutes" in found.notes[0]
    found, _ = planned(monkeypatch, data, Pace(2, 10), minutes=30)
    assert "about 30 minutes" in found.notes[0]
    found, _ = planned(monkeypatch, data, Pace(0.01, 0.03), minutes=1)
    assert "about 60 seconds" in found.notes[0]  # all that was asked for
    found, _ = planned(monkeypatch, data, Pace(20, 100), minutes=1)
    assert "the fewest (not within 1 minutes)" in found.notes[0]


def test_what_is_given_is_not_chosen(data, monkeypatch):
    found, asked = planned(monkeypatch, data, Pace(1, 2), overrides=QUICK)
    assert (found.config.iterations, found.minutes, asked) == (3, None, [])
    found, asked = planned(monkeypatch, data, Pace(1, 2), overrides=["schedule.iterations=20"])
    assert (found.config.iterations, found.config.log_every, asked) == (23, 1, [])
    for wrong in ("schedule.iterations=many", "schedule=7", "schedule.iterations=-1"):
        with pytest.raises(ValueError, match="schedule"):
            planned(monkeypatch, data, Pace(1, 2), overrides=[wrong])
    found, asked = planned(monkeypatch, data, Pace(1, 2), overrides=["batch=4", "seed=3"])
    assert (asked[0].batch, found.config.batch, found.config.seed) == (4, 4, 3)
    with pytest.raises(ValueError, match=r"batsh: unknown key; did you mean batch"):
        planned(monkeypatch, data, Pace(1, 2), overrides=["batsh=4"])


def test_passes_and_crops():
    assert plan.passes_of(3) == plan.passes_of(20) == 100
    assert 30 < plan.passes_of(1000) < 32
    assert plan.crop_and_batch("cpu", 100, None) == (113, 8)
    assert plan.crop_and_batch("cpu", 4000, 10**10) == (257, 8)
    assert plan.crop_and_batch("cpu", 4000, 10**9) == (257, 4)
    crop, batch = plan.crop_and_batch("cpu", 4000, 10**8)
    assert (crop % 16, batch) == (1, 2) and 65 <= crop < 257
    assert plan.crop_and_batch("cpu", 4000, 1)[1] == 2


def test_the_pace_is_measured(data):
    config = plan.plan_run(data, images=4, longest=40, overrides=QUICK).config
    pace = plan.measure_pace(config)
    assert 0 < pace.head < 60 and 0 < pace.whole < 60
    assert sorted(path.name for path in data.iterdir()) == [
        *("classes.json", "images", "labels", "train.txt", "val.txt")
    ]


def test_large_photographs_are_reduced(tmp_path):
    root = cases.write_indices(tmp_path / "photos", (0, 4, 255))
    found = find_data(root)
    assert write_data(found, tmp_path / "data", longest_side=20) == len(cases.NAMES)
    sample = open_dataset("folder", tmp_path / "data", "val")[0]
    assert tuple(sample.image.shape) == (3, 15, 20)
    assert set(np.unique(sample.labels)) == {0, 1, 255}
    assert sample.image.float().mean() > 20
    assert not (tmp_path / "data/images/a.jpg").is_symlink()
    with Image.open(root / "images/a.jpg") as photo:
        assert photo.size == (40, 30)  # left as it was


def test_the_stride_is_free_where_the_classifier_is_new():
    """The package's net was trained at 8; training at 16 takes a third of the time."""
    net = create_model("deeplab_mobilenetv2_aspp", 3, seed=0, output_stride=16)
    weights.load(net, weights.EMBEDDED, new_layers="classifier")
    other = weights.load_model(weights.EMBEDDED)
    a, b = net.state_dict(), other.state_dict()
    assert all(torch.equal(a[k], b[k].to(a[k].dtype)) for k in a if not k.startswith("fc1"))
    with pytest.raises(ValueError, match="output_stride"):
        weights.load(
            create_model("deeplab_mobilenetv2_aspp", 7, output_stride=16), weights.EMBEDDED
        )
