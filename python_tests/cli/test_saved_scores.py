"""`segment --save-scores`: what crf, evaluate and crf-search make of the scores of a net."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import viz, weights
from deeplab_native.demo.photo import photograph
from deeplab_native.jobs._saved_scores import map_size, save_scores
from deeplab_native.models import predict
from deeplab_native.ops._small_scores import SmallScores
from python_tests.cli.cli_cases import fails


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three photographs of a person, 120 to 180 pixels, and labels by the net of the package."""
    monkeypatch.chdir(tmp_path)
    whole = Image.fromarray(photograph())
    for folder in ("set/images", "set/labels"):
        os.makedirs(folder)
    net = weights.load_model(weights.EMBEDDED)
    for name, size in (("a", (180, 121)), ("b", (140, 170)), ("ü", (161, 121))):
        whole.resize(size).save(f"set/images/{name}.png")
        labels = predict(net, f"set/images/{name}.png").labels.numpy()
        viz.save_label_png(f"set/labels/{name}.png", labels)
    classes = {str(i): name for i, name in enumerate(net.class_names)}
    Path("set/classes.json").write_text(json.dumps(classes))
    return Path("set/images")


def labels_of(path):
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("full", [False, True])
def test_the_other_commands_take_them(photos, run, full):
    how = ("--full-scores",) if full else ()
    result = run("segment", photos, "-o", "out", "--save-scores", "scores", *how)
    assert result.code == 0, result.err
    assert sorted(os.listdir("scores")) == ["a.npy", "b.npy", "ü.npy"]
    scores = np.load("scores/a.npy")
    assert scores.dtype == np.float16
    assert scores.shape == ((7, 121, 180) if full else (7, 16, 24))

    params = json.loads(run("segment", photos / "a.png", "-o", "one", "--json").out)["crf"][
        "params"
    ]
    values = [f"--{name.replace('_', '-')}={value}" for name, value in params.items()]
    result = run("crf", photos, "scores", "-o", "refined", *values)
    assert result.code == 0, result.err
    for name in ("a", "b", "ü"):
        same = labels_of(f"refined/{name}.png") == labels_of(f"out/{name}.png")
        # a map's points are not where the net's are
        assert same.mean() > (0.9998 if full else 0.985)

    result = run("evaluate", "folder", "set", "--scores", "scores", "-o", "eval", "--json", *values)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["kinds"] == {"logits": 3}
    assert found["variants"]["scores"]["pixel_accuracy"] > (0.9998 if full else 0.985)

    axes = ("--w1", "4", "--sigma-alpha", "60", "--sigma-beta", "3,4", "--rounds", "0")
    result = run("crf-search", photos, "scores", "set/labels", "-o", "search", *axes)
    assert result.code == 0, result.err


@pytest.mark.usefixtures("quick_workers")
def test_a_run_goes_on_with_them(photos, run):
    """Scores that are missing, or of the other kind, are written; whole ones are left."""
    assert run("segment", photos, "-o", "out", "--no-crf").code == 0
    command = ("segment", photos, "-o", "out", "--no-crf", "--save-scores", "scores")
    assert "3 images" in run(*command).out
    os.remove("scores/b.npy")
    before = os.stat("scores/a.npy").st_mtime_ns
    result = run(*command)
    assert "1 images, 2 finished before" in result.out
    assert os.stat("scores/a.npy").st_mtime_ns == before
    assert np.load("scores/b.npy").shape[1:] == (23, 19)
    assert "finished before" not in run(*command, "--full-scores").out
    assert np.load("scores/b.npy").shape[1:] == (170, 140)


def test_where_they_cannot_lie(photos, run):
    command = ("segment", photos, "-o", "out", "--save-scores")
    fails(run(*command, "out"), "--save-scores out: they would lie among the labels")
    fails(run(*command, photos), "among the labels or photographs")
    Path("file").write_text("")
    fails(run(*command, "file"), "--save-scores file is a file (give a folder)")
    fails(run("segment", photos, "--full-scores"), "--full-scores: no scores are saved")
    assert sorted(os.listdir()) == ["file", "set"]


def test_sizes_are_those_that_are_recognised():
    for size in ((375, 500), (500, 375), (1, 1), (20, 3000), (3000, 33), (321, 240), (90, 90)):
        found = map_size(size, size, 8, 7)
        assert found == size or min(found) > 7
    assert map_size((375, 500), (241, 321), 8, 7) == (31, 41)
    assert map_size((375, 500), (375, 500), 8, 21) == (48, 64)
    assert map_size((160, 160), (160, 160), 8, 21) == (160, 160)  # 21 x 21 could be 21 labels


def test_values_are_kept(tmp_path):
    """On a map's own corners; all positive ones are moved, large ones are float32."""
    values = torch.arange(24.0).reshape(2, 3, 4)
    save_scores(tmp_path / "a.npy", SmallScores(values, (17, 25), True), (17, 25), (3, 4))
    assert np.array_equal(np.load(tmp_path / "a.npy"), values.numpy() - 24)
    save_scores(tmp_path / "b.npy", SmallScores(values - 1e6, (17, 25), True), (17, 25), (3, 4))
    assert np.load(tmp_path / "b.npy").dtype == np.float32
