"""Photographs that are too large for the CRF as it is: what `segment` and `crf` make of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from deeplab_native import CRFParams, jobs, viz
from deeplab_native.models import create_model, predict
from deeplab_native.ops import _large_image as large
from deeplab_native.ops._small_scores import SmallScores
from deeplab_native.viz import pictures
from python_tests.cli.cli_cases import fails

PARAMS = CRFParams(3, 9, 20, 1, 2)
HEIGHT, WIDTH = 60, 80


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """photo.png in the current folder, which is large, as a limit of 2000 pixels has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(large, "LARGE", 2000)
    monkeypatch.setattr(large, "CELLS", 1200)
    random = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x * 3, y * 4, 200 - x], -1) + random.normal(0, 2, (HEIGHT, WIDTH, 3))
    pixels = pixels.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save("photo.png")
    return pixels


def scores(labels=4, height=HEIGHT, width=WIDTH):
    small = np.random.default_rng(1).normal(0, 2, (1, labels, 8, 10)).astype(np.float32)
    full = functional.interpolate(
        torch.from_numpy(small), size=(height, width), mode="bilinear", align_corners=True
    )
    return full[0]


def labels_of(path):
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize("how", [{}, {"longest_side": 41}, {"tile": 33}])
def test_segment_labels_as_predict_does(photo, how):
    net = create_model("deeplab_mobilenetv2_aspp", 5, seed=2)
    done = jobs.segment("photo.png", "out", model=net, crf=PARAMS, **how)
    found = predict(net, photo, crf=PARAMS, scale="auto", **how)
    q = found.probabilities
    torch.testing.assert_close(q.sum(0), torch.ones(HEIGHT, WIDTH))
    sure = (q.topk(2, 0).values.diff(dim=0)[0] < -1e-3).numpy()
    assert np.array_equal(labels_of("out/photo.png")[sure], found.labels.numpy()[sure])
    assert done.single["crf_scale"] == 0.5
    exact = predict(net, photo, crf=PARAMS, **how)
    assert (exact.labels == found.labels).float().mean() > 0.9
    done = jobs.segment("photo.png", "none", model=net, crf=None, **how)
    assert done.single["crf_scale"] is None
    expected = predict(net, photo, **how)
    assert np.array_equal(labels_of("none/photo.png"), expected.scores.argmax(0).numpy())


def test_a_number_is_taken_as_it_is(photo):
    net = create_model("deeplab_mobilenetv2_aspp", 5, seed=2)
    crf = jobs.CRFSettings(PARAMS, scale=1.0)
    done = jobs.segment("photo.png", "out", model=net, crf=crf)
    assert done.single["crf_scale"] == 1
    expected = predict(net, photo, crf=PARAMS).labels.numpy()
    assert np.array_equal(labels_of("out/photo.png"), expected)


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_crf_of_one_photograph(photo, run, kind):
    values = scores()
    np.save("scores.npy", (values if kind == "logits" else values.softmax(0)).numpy())
    options = ("--w1", 3, "--sigma-alpha", 9, "--sigma-beta", 20, "--w2", 1, "--sigma-gamma", 2)
    result = run("crf", "photo.png", "scores.npy", *options, "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert (said["crf_scale"], said["scale"]) == (0.5, "auto")
    image = torch.from_numpy(photo).permute(2, 0, 1)
    given = values if kind == "logits" else values.softmax(0)
    energies = None if kind == "logits" else lambda p: -p.clamp(min=1e-5).log()
    of_labels = SmallScores(given, (HEIGHT, WIDTH), True, energies)
    expected = large.label_large_image(of_labels, image, PARAMS, scale=0.5)
    assert (labels_of("photo_crf.png") == expected.after.numpy()).mean() > 0.999
    assert said["changed"] == pytest.approx((expected.before != expected.after).sum(), abs=3)
    facts = run("crf", "photo.png", "scores.npy", *options)
    assert "scale 0.5 as the image is large" in " ".join(facts.out.split())
    both = ("--save-probabilities", "q.npz", "--scale", 0.5)
    assert run("crf", "photo.png", "scores.npy", *options, *both).code == 0
    q = np.load("q.npz")["probabilities"]
    assert q.shape == (4, HEIGHT, WIDTH)
    assert np.mean(q.argmax(0) == expected.after.numpy()) > 0.999


def test_crf_of_smaller_scores(photo, run):
    small = np.random.default_rng(1).normal(0, 2, (4, 8, 10)).astype(np.float32)
    np.save("small.npy", small)
    np.save("large.npy", scores().numpy())
    one = run("crf", "photo.png", "small.npy", "--layout", "chw", "--resize", "-o", "a.png")
    other = run("crf", "photo.png", "large.npy", "-o", "b.png")
    assert (one.code, other.code) == (0, 0)
    assert np.mean(labels_of("a.png") == labels_of("b.png")) > 0.99


def test_a_bridged_lattice_is_for_whole_crfs(photo, run):
    np.save("scores.npy", scores().numpy())
    args = ("crf", "photo.png", "scores.npy", "--lattice", "bridged")
    fails(run(*args), "lattice: expected 'standard' for a picture of", "scale 0.5", "give scale 1")
    assert run(*args, "--scale", 1).code == 0
    net = create_model("deeplab_mobilenetv2_aspp", 5, seed=2)
    crf = jobs.CRFSettings(PARAMS, lattice="bridged")
    with pytest.raises(ValueError, match=r"^`crf`: expected lattice 'standard' for a network"):
        jobs.segment("photo.png", "out", model=net, crf=crf)


def test_evaluate_is_exact():
    settings = jobs.CRFSettings(PARAMS)
    assert settings.scale == "auto"
    assert settings.exact().scale == 1
    assert jobs.CRFSettings(PARAMS, scale=0.5).exact().scale == 0.5


@pytest.mark.parametrize("scale", ["half", "0", "2", "-1", "nan", "Auto"])
@pytest.mark.parametrize("command", ["segment", "crf"])
def test_a_scale_that_is_none(photo, run, command, scale):
    np.save("scores.npy", scores().numpy())
    files = ("photo.png",) if command == "segment" else ("photo.png", "scores.npy")
    fails(run(command, *files, "--scale", scale), "--scale: expected auto", f"got {scale}")


def test_overlays_and_counts_in_parts(monkeypatch):
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (37, 20, 3)).astype(np.uint8)
    labels = random.integers(0, 3, (37, 20)).astype(np.uint8)
    whole = viz.overlay(image, labels), viz.count_labels(labels)
    monkeypatch.setattr(pictures, "_ROWS_BYTES", 100)
    assert np.array_equal(viz.overlay(image, labels), whole[0])
    assert np.array_equal(viz.count_labels(labels), whole[1])
    assert np.array_equal(whole[1], np.bincount(labels.ravel()))
