"""`deeplab-native segment`, with random weights and with files."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from cli_cases import HEIGHT, WIDTH, fails
from deeplab_native import CRFParams, weights
from deeplab_native.cli import segment
from deeplab_native.models import create_model, list_models, predict

NET = "deeplab_resnet101"


def test_segment_without_weights_warns(given, run):
    result = run("segment", "photo.png", "--iterations", 2, "--scale", 0.5)
    assert result.code == 0
    assert "scale 0.5" in result.out
    assert "MEANINGLESS" in result.err
    assert "RANDOM" in result.out
    with Image.open("photo_labels.png") as image:
        assert image.size == (WIDTH, HEIGHT)
    assert os.path.exists("photo_labels_overlay.png")


def test_segment_of_unusable_arguments(given, run):
    fails(run("segment", "missing.png"), "missing.png")
    fails(run("segment", "photo.png", "--model", "nope"), "nope")
    fails(run("segment", "photo.png", "--scale", "1.5"), "scale: expected")
    fails(run("segment", "photo.png", "--weights", "no.safetensors"), "no.safetensors")
    assert sorted(os.listdir()) == ["logits.npy", "photo.png"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none.pth", ["none.pth: no such weights file", "(check the path)"]),
        ("folder", ["folder is a folder", "(give one weights file)"]),
        ("folder.pth", ["folder.pth is a folder"]),
    ],
)
def test_weights_are_looked_at_before_the_net_is_built(given, run, monkeypatch, path, words):
    for folder in ("folder", "folder.pth"):
        os.mkdir(folder)
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *a, **kw: pytest.fail("net was built"))
    fails(run("segment", "photo.png", "--weights", path), *words)


def test_segment_with_weights_draws_no_others(given, run, monkeypatch):
    net = create_model(NET, 3, seed=5)
    weights.save(net, "net.safetensors")
    with Image.open("photo.png") as image:
        expected = predict(net, image).labels
    monkeypatch.setattr(type(net), "reset_parameters", lambda *args: pytest.fail("drawn"))
    args = ("--model", NET, "--num-classes", 3, "--weights", "net.safetensors", "--no-crf")
    state = torch.get_rng_state()
    result = run("segment", "photo.png", *args)
    assert (result.code, result.err) == (0, "")
    assert torch.equal(torch.get_rng_state(), state)
    with Image.open("photo_labels.png") as image:
        assert np.array_equal(image, expected)


def test_segment_takes_what_the_weights_say(given, run):
    """Net, classes, scales, CRF, colours and names; options come first."""
    net = create_model("deeplab_vgg16_largefov", 3, seed=5, scales=(1.0, 0.5))
    net.crf = CRFParams(w1=2, sigma_alpha=31, sigma_beta=4, w2=1, sigma_gamma=2)
    net.palette = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    net.class_names = ("sky", "sea", "land")
    weights.save(net, "net.safetensors")
    with Image.open("photo.png") as image:
        expected = predict(net, image, crf=net.crf).labels
    result = run("segment", "photo.png", "--weights", "net.safetensors")
    assert (result.code, result.err) == (0, "")
    for words in ("deeplab_vgg16_largefov", "scales 1.0, 0.5", "σα=31", "σβ=4"):
        assert words in " ".join(result.out.split())
    shown = ["sky", "sea", "land"][int(expected.mode().values.mode().values)]
    assert shown in result.out
    with Image.open("photo_labels.png") as image:
        assert np.array_equal(image, expected)
        assert image.getpalette()[:9] == list(range(1, 10))

    args = ("--sigma-alpha", 40, "--palette", "voc", "-o", "other.png")
    result = run("segment", "photo.png", "--weights", "net.safetensors", *args)
    assert "σα=40 σβ=4" in " ".join(result.out.split())
    with Image.open("other.png") as image:
        assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    args = ("--preset", "voc-resnet101", "--num-classes", 21, "-o", "other.png")
    result = run("segment", "photo.png", "--weights", "net.safetensors", *args)
    fails(result, "num_classes: 3 in the file, 21 in the net", advice=False)


def test_random_weights_are_the_same_every_time(given, run):
    pictures = []
    for name in ("a.png", "b.png"):
        state = torch.get_rng_state()
        assert run("segment", "photo.png", "--model", NET, "--no-crf", "-o", name).code == 0
        assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
        with Image.open(name) as image:
            pictures.append(np.array(image))
        torch.rand(1)
    assert pictures[0].shape == (HEIGHT, WIDTH)
    assert np.array_equal(*pictures)


def test_multi_scale(given, run):
    """Its scores are those of the net at all scales."""
    net = create_model(NET, 3, seed=5, scales=(1.0, 0.75, 0.5))
    weights.save(net, "net.safetensors")
    with Image.open("photo.png") as image:
        expected = predict(net, image).labels
        net.scales = (1.0,)
        assert not torch.equal(expected, predict(net, image).labels)
    args = ("--model", NET, "--num-classes", 3, "--weights", "net.safetensors", "--no-crf")
    result = run("segment", "photo.png", *args, "--multi-scale")
    assert (result.code, result.err) == (0, "")
    assert "scales 1.0, 0.75, 0.5" in " ".join(result.out.split())
    with Image.open("photo_labels.png") as image:
        assert np.array_equal(image, expected)


def test_normalization(given, run):
    result = run("segment", "photo.png", "--model", NET, "--normalization", "after")
    assert result.code == 0
    assert "iterations, after" in result.out
    fails(run("segment", "photo.png", "--model", NET, "--normalization", "nope"), "nope")


def test_tiles(given, run):
    args = ("segment", "photo.png", "--model", NET, "--no-crf", "-o")
    result = run(*args, "a.png", "--tile", 25, "--overlap", 16)
    assert result.code == 0
    assert "of 25 pixels" in result.out
    with Image.open("photo.png") as image, Image.open("a.png") as labels:
        expected = predict(create_model(NET, seed=0), image, tile=25, overlap=16).labels
        assert np.array_equal(labels, expected)
    assert run(*args, "b.png", "--tile", 513).code == 0


def test_tiles_are_checked_before_the_net_is_built(given, run, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *a, **kw: pytest.fail("net was built"))
    fails(run("segment", "photo.png", "--tile", 512), "tile: expected 8 m + 1", "505 and 513")
    fails(run("segment", "photo.png", "--overlap", 8), "overlap: expected None without a tile")


def test_names_of_the_nets(run, monkeypatch):
    names = [info.name for info in list_models()]
    assert list(segment.MODELS) == names
    for name in re.findall(r"\bdeeplab_\w+", segment.EXAMPLES):
        assert name in names
    info = run("info").out
    monkeypatch.setenv("COLUMNS", "200")
    help = run("segment", "--help").out
    for name in names:
        assert name in help
        assert name in info
    largefov = next(line for line in info.splitlines() if "deeplab_vgg16_largefov" in line)
    assert largefov.split()[1:5] == ["20.5", "M", "224", "8"]
