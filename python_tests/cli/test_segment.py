"""`deeplab-native segment`: the network of the package, files of others, and random weights."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import CRFParams, weights
from deeplab_native.cli import names as known
from deeplab_native.cli import segment
from deeplab_native.models import create_model, list_models, predict
from python_tests.cli.cli_cases import HEIGHT, WIDTH, fails

NET = "deeplab_resnet101"
OUT = Path("deeplab-native-segment")


def labels_of(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)


def prediction(net, path="photo.png", **arguments):
    with Image.open(path) as image:
        return predict(net, image, **arguments).labels.numpy()


def test_the_network_of_the_package(given, run):
    net = weights.load_model(weights.EMBEDDED)
    result = run("segment", "photo.png")
    assert (result.code, result.err) == (0, "")
    assert "weights of the package" in result.out
    assert np.array_equal(labels_of(OUT / "photo.png"), prediction(net, crf=net.crf))
    assert json.loads((OUT / "classes.json").read_text()) == {
        "0": "background",
        "1": "cat",
        "2": "cow",
        "3": "dog",
        "4": "horse",
        "5": "person",
        "6": "sheep",
    }
    with Image.open(OUT / "overlays" / "photo.png") as image:
        assert (image.size, image.mode) == ((WIDTH, HEIGHT), "RGB")
    assert sorted(os.listdir(OUT)) == ["classes.json", "overlays", "photo.png"]
    result = run("segment", "photo.png", "--no-overlay", "--no-crf", "-o", "new/folder")
    assert result.code == 0
    assert sorted(os.listdir("new/folder")) == ["classes.json", "photo.png"]


def test_the_network_of_the_package_sees_photographs_as_large_as_it_was_trained_on(given, run):
    net, side = weights.load_model(weights.EMBEDDED), weights.EMBEDDED_SIDE
    with Image.open("photo.png") as image:
        image.resize((400, 300)).save("large.png")
    assert run("segment", "large.png", "--no-crf").code == 0
    expected = prediction(net, "large.png", longest_side=side)
    assert np.array_equal(labels_of(OUT / "large.png"), expected)
    assert run("segment", "large.png", "--no-crf", "--longest-side", 400, "-o", "b").code == 0
    assert np.array_equal(labels_of("b/large.png"), prediction(net, "large.png"))
    assert run("segment", "large.png", "--no-crf", "--tile", 321, "-o", "c").code == 0
    assert np.array_equal(labels_of("c/large.png"), prediction(net, "large.png", tile=321))
    fails(run("segment", "large.png", "--tile", 321, "--longest-side", 400), "expected one of them")


@pytest.mark.usefixtures("quick_workers")
def test_many_photographs(given, run, set_threads):
    set_threads(1)  # as each of the workers has
    os.mkdir("photos")
    for i in range(3):
        with Image.open("photo.png") as image:
            image.rotate(90 * i, expand=True).save(f"photos/{i}.png")
    Path("photos/list.txt").write_text("no picture")
    net = weights.load_model(weights.EMBEDDED)
    result = run("segment", "photos", "photo.png", "--output", "all")
    assert (result.code, result.err) == (0, "")
    for name in ("photos/0", "photos/1", "photos/2", "photo"):
        expected = prediction(net, f"{name}.png", crf=net.crf)
        assert np.array_equal(labels_of(Path("all", f"{Path(name).name}.png")), expected)
        line = next(line for line in result.out.splitlines() if f"{Path(name).name}.png" in line)
        assert f"{expected.shape[1]} x {expected.shape[0]}" in line

    Path("photos/1.png").write_bytes(b"damaged")
    result = run("segment", "photos", "--output", "some")
    assert result.code == 1
    assert "1.png: not a picture" in result.err
    assert "1 of 3 images failed" in result.err
    files = ["0.png", "2.png", "classes.json", "overlays", "segment.sqlite"]
    assert sorted(os.listdir("some")) == files
    assert "0 images, 2 finished before" in run("segment", "photos", "--output", "some").out
    again = run("segment", "photos", "--output", "some", "--iterations", 5)
    assert "2 images" in again.out and "finished before" not in again.out


def test_of_unusable_arguments(given, run):
    os.mkdir("photos")
    os.mkdir("more")
    for path in ("more/photo.jpg", "photos/photo.png"):
        with Image.open("photo.png") as image:
            image.save(path)
    Path("file").write_text("")
    os.mkdir("other")
    Path("other/classes.json").write_text('{"0": "sky"}')
    before = sorted(Path().rglob("*"))
    fails(run("segment", "missing.png"), "missing.png: no such picture")
    fails(run("segment", "photo.png", "missing"), "missing: no such picture")
    fails(run("segment", "file", "-o", "out"), "file: not a picture")
    fails(run("segment", "photos", "more"), "would both become photo.png")
    fails(run("segment", "photos", "--output", "photos"), "among the photographs")
    fails(run("segment", "photo.png", "--output", "."), "photo.png would be written over")
    fails(run("segment", "photo.png", "--output", "file"), "file is a file (give a folder)")
    fails(run("segment", "photo.png", "--output", "other"), "other classes than the network")
    fails(run("segment", "photo.png", "--model", "nope"), "nope")
    fails(run("segment", "photo.png", "--scale", "1.5"), "scale: expected")
    fails(run("segment", "photo.png", "--palette", "nope"), "unknown palette")
    fails(run("segment", "photo.png", "--preset", "nope"), "nope")
    fails(run("segment", "photo.png", "--weights", "no.safetensors"), "no.safetensors")
    fails(run("segment", "photo.png", "--normalization", "nope"), "nope")
    assert sorted(Path().rglob("*")) == before


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


def test_weights_draw_no_others(given, run, monkeypatch):
    net = create_model(NET, 3, seed=5)
    weights.save(net, "net.safetensors")
    expected = prediction(net)
    monkeypatch.setattr(type(net), "reset_parameters", lambda *args: pytest.fail("drawn"))
    args = ("--model", NET, "--num-classes", 3, "--weights", "net.safetensors", "--no-crf")
    state = torch.get_rng_state()
    result = run("segment", "photo.png", *args)
    assert (result.code, result.err) == (0, "")
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(labels_of(OUT / "photo.png"), expected)
    assert json.loads((OUT / "classes.json").read_text())["2"] == "class 2"


def test_it_takes_what_the_weights_say(given, run):
    """Net, classes, scales, CRF, colours and names; options come first."""
    net = create_model("deeplab_vgg16_largefov", 3, seed=5, scales=(1.0, 0.5))
    net.crf = CRFParams(w1=2, sigma_alpha=31, sigma_beta=4, w2=1, sigma_gamma=2)
    net.palette = ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    net.class_names = ("sky", "sea", "land")
    weights.save(net, "net.safetensors")
    expected = prediction(net, crf=net.crf)
    result = run("segment", "photo.png", "--weights", "net.safetensors")
    assert (result.code, result.err) == (0, "")
    for words in ("deeplab_vgg16_largefov", "scales 1.0, 0.5", "σα=31", "σβ=4"):
        assert words in " ".join(result.out.split())
    assert net.class_names[np.bincount(expected.ravel()).argmax()] in result.out
    assert np.array_equal(labels_of(OUT / "photo.png"), expected)
    with Image.open(OUT / "photo.png") as image:
        assert image.getpalette()[:9] == list(range(1, 10))
    assert json.loads((OUT / "classes.json").read_text()) == {"0": "sky", "1": "sea", "2": "land"}

    args = ("--sigma-alpha", 40, "--palette", "voc", "-o", "other")
    result = run("segment", "photo.png", "--weights", "net.safetensors", *args)
    assert "σα=40 σβ=4" in " ".join(result.out.split())
    with Image.open("other/photo.png") as image:
        assert image.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
    args = ("--preset", "voc-resnet101", "--num-classes", 21)
    result = run("segment", "photo.png", "--weights", "net.safetensors", *args)
    fails(result, "num_classes: 3 in the file, 21 in the net", advice=False)


def test_random_weights_warn_and_are_the_same_every_time(given, run):
    pictures = []
    for name in ("a", "b"):
        state = torch.get_rng_state()
        result = run("segment", "photo.png", "--model", NET, "--no-crf", "-o", name)
        assert result.code == 0
        assert "MEANINGLESS" in result.err
        assert "RANDOM" in result.out
        assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
        pictures.append(labels_of(Path(name, "photo.png")))
        torch.rand(1)
    assert pictures[0].shape == (HEIGHT, WIDTH)
    assert np.array_equal(*pictures)


def test_multi_scale(given, run):
    """Its scores are those of the net at all scales."""
    net = create_model(NET, 3, seed=5, scales=(1.0, 0.75, 0.5))
    weights.save(net, "net.safetensors")
    expected = prediction(net)
    net.scales = (1.0,)
    assert not np.array_equal(expected, prediction(net))
    args = ("--model", NET, "--num-classes", 3, "--weights", "net.safetensors", "--no-crf")
    result = run("segment", "photo.png", *args, "--multi-scale")
    assert (result.code, result.err) == (0, "")
    assert "scales 1.0, 0.75, 0.5" in " ".join(result.out.split())
    assert np.array_equal(labels_of(OUT / "photo.png"), expected)


def test_options_of_the_crf(given, run):
    result = run("segment", "photo.png", "--normalization", "after", "--scale", 0.5)
    assert result.code == 0
    assert "iterations, after, scale 0.5" in " ".join(result.out.split())


def test_tiles(given, run):
    args = ("segment", "photo.png", "--model", NET, "--no-crf", "-o")
    result = run(*args, "a", "--tile", 25, "--overlap", 16)
    assert result.code == 0
    assert "of 25 pixels" in result.out
    expected = prediction(create_model(NET, seed=0), tile=25, overlap=16)
    assert np.array_equal(labels_of("a/photo.png"), expected)
    assert run(*args, "b", "--tile", 513).code == 0


def test_tiles_are_checked_before_the_net_is_built(given, run, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "to_empty", lambda *a, **kw: pytest.fail("net was built"))
    fails(run("segment", "photo.png", "--tile", 512), "tile: expected 8 m + 1", "505 and 513")
    fails(run("segment", "photo.png", "--overlap", 8), "overlap: expected None without a tile")


def test_names_of_the_nets(run, monkeypatch):
    names = [info.name for info in list_models()]
    assert list(known.MODELS) == names
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


def test_an_orientation_is_said_and_can_be_left(given, run):
    net = weights.load_model(weights.EMBEDDED)
    exif = Image.Exif()
    exif[0x0112] = 8
    with Image.open("photo.png") as image:
        upright = np.array(image)
        image.transpose(Image.Transpose.ROTATE_270).save("turned.png", exif=exif)
    args = ["segment", "turned.png", "--no-crf", "--workers", "0"]
    result = run(*args)
    assert result.code == 0
    assert "note: photograph: turned upright by its EXIF orientation (--no-exif" in result.err
    assert np.array_equal(labels_of(OUT / "turned.png"), predict(net, upright).labels.numpy())
    result = run(*args, "--no-exif", "-o", "stored", "--json")
    assert "not turned upright" in result.err
    (said,) = json.loads(result.out)["images"].values()
    assert (said["height"], said["width"]) == (WIDTH, HEIGHT)
    assert said["notes"] == ["photograph: not turned upright, though it has an EXIF orientation"]
    stored = np.ascontiguousarray(np.rot90(upright, -1))
    assert np.array_equal(labels_of("stored/turned.png"), predict(net, stored).labels.numpy())
