"""`deeplab-native crf` on masks and label maps, and folders of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import CRFParams, dense_crf, viz
from deeplab_native.pydensecrf import utils
from python_tests.cli.cli_cases import HEIGHT, WIDTH, fails

PARAMS = ["--w1", "3", "--sigma-alpha", "9", "--sigma-beta", "20", "--w2", "1"]
PARAMS += ["--sigma-gamma", "3"]  # the CRF below
CRF = CRFParams(3, 9, 20, 1, 3)


@pytest.fixture
def mask(given):
    """(20, 30) labels 0, 5, 9 with errors, and 255 where unsure."""
    random = np.random.default_rng(0)
    labels = np.where(np.arange(WIDTH) < WIDTH // 2, 0, 5) + np.zeros((HEIGHT, 1), int)
    labels[:, WIDTH // 3 : WIDTH // 2] = 9
    wrong = random.random(labels.shape) < 0.1
    labels[wrong] = random.choice([0, 5, 9], wrong.sum())
    labels[4:8, 3:20] = 255
    return labels.astype(np.uint8)


def refined(labels, confidence=0.7):
    """By pydensecrf's energies: (H, W) labels, and Q of those that occur."""
    there = [int(i) for i in np.unique(labels) if i != 255]
    numbered = np.zeros(labels.shape, int)  # 0 is unsure there
    for i, label in enumerate(there):
        numbered[labels == label] = i + 1
    unary = utils.unary_from_labels(numbered, len(there), confidence)
    with Image.open("photo.png") as image:
        photo = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    q = dense_crf(torch.from_numpy(unary).reshape(1, -1, *labels.shape), photo, CRF)[0].numpy()
    return np.array(there)[q.argmax(0)], q


def labels_of(path="photo_crf.png"):
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize("name", ["m.png", "palette.png", "colours.png", "m.npy", "m.npz", "m.pt"])
def test_label_maps(mask, run, name):
    if name == "palette.png":
        viz.save_label_png(name, mask)
    elif name == "colours.png":
        Image.fromarray(viz.voc_palette()[mask]).save(name)
    elif name.endswith(".png"):
        Image.fromarray(mask).save(name)
    elif name == "m.pt":
        torch.save(torch.where(torch.from_numpy(mask) == 255, -1, torch.tensor(mask).long()), name)
    else:
        (np.save if name == "m.npy" else np.savez)(name, mask.astype(np.int64))
    result = run("crf", "photo.png", name, *PARAMS, "--save-probabilities", "q.npz", "--json")
    assert (result.code, result.err) == (0, "")
    said = json.loads(result.out)
    assert (said["kind"], said["recognised"], said["labels"]) == ("labels", True, 3)
    assert "right with probability 0.7, 11.33% of the pixels unsure" in said["scores"]
    labels, expected = refined(mask)
    assert np.array_equal(labels_of(), labels)
    assert {*said["shares"]["before"]} == {"0", "5", "9", "255"}
    assert said["changed"] == np.count_nonzero(labels != mask)
    with np.load("q.npz") as file:
        q = file["probabilities"]
    assert q.shape == (10, HEIGHT, WIDTH)  # the index is the label
    assert np.abs(q[[0, 5, 9]] - expected).max() < 1e-5
    assert not np.delete(q, [0, 5, 9], 0).any()


@pytest.mark.parametrize("form", ["0 and 255", "0 and 1", "bool", "float", "RGB"])
def test_binary_masks(mask, run, form):
    binary = (mask % 255 > 0).astype(np.uint8)
    name = "m.npy" if form in ("bool", "float") else "m.png"
    if name == "m.npy":
        np.save(name, binary.astype(form))
    elif form == "RGB":
        Image.fromarray(255 * binary).convert("RGB").save(name)
    else:
        Image.fromarray(binary * int(form.split()[-1])).save(name)
    result = run("crf", "photo.png", name, *PARAMS, "--confidence", "0.9")
    assert result.code == 0
    assert "2 labels, binary mask" in result.out
    assert np.array_equal(labels_of(), refined(binary, 0.9)[0])


def test_other_sizes_by_the_nearest_pixel(mask, run):
    small = (mask % 255 > 0).astype(np.uint8)[::2, ::2]
    Image.fromarray(255 * small).save("small.png")
    fails(run("crf", "photo.png", "small.png"), "small.png: labels (10, 15)", "--resize", "nearest")
    assert run("crf", "photo.png", "small.png", *PARAMS, "--resize").code == 0
    assert np.array_equal(labels_of(), refined(small.repeat(2, 0).repeat(2, 1))[0])


def test_what_is_refused(mask, run):
    Image.fromarray(mask).save("m.png")
    Image.new("L", (WIDTH, HEIGHT), 255).save("white.png")
    Image.new("L", (WIDTH, HEIGHT), 3).save("one.png")
    np.save("unsure.npy", np.full((HEIGHT, WIDTH), -1))
    before = sorted(os.listdir())
    for args, words in (
        (["m.png", "--confidence", "0.3"], ["--confidence 0.3: expected above 0.5"]),
        (["m.png", "--confidence", "1"], ["--confidence 1.0", "below 1"]),
        (["m.png", "--kind", "energies"], ["m.png: a picture has no energies", "--kind labels"]),
        (["m.png", "--key", "a"], ["m.png: --key is for .npz files, this is a picture"]),
        (["white.png"], ["white.png: all values are 255", "--kind labels"]),
        (["white.png", "--kind", "labels"], ["white.png: labels: all pixels are unsure"]),
        (["unsure.npy"], ["unsure.npy: labels: all pixels are unsure"]),
    ):
        fails(run("crf", "photo.png", *args), *words)
    fails(run("crf", "photo.png", "photo.png"), "photo.png: a picture of", "--palette")
    assert sorted(os.listdir()) == before
    # one label alone wins everywhere
    assert run("crf", "photo.png", "one.png").code == 0
    assert (labels_of() == 3).all()


def test_folders_of_masks(mask, run):
    for folder in ("photos", "masks"):
        Path(folder).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open("photo.png") as image:
        image.save("photos/a.png")
        image.rotate(180).save("photos/b.png", exif=exif)
        image.save("photos/c.png")
    Image.fromarray(mask).save("masks/a.png")
    viz.save_label_png("masks/b.png", mask)
    Image.effect_noise((WIDTH, HEIGHT), 90).save("masks/c.png")
    args = ["crf", "photos", "masks", "-o", "out", *PARAMS, "--workers", "0"]
    result = run(*args, "--json")
    assert result.code == 1
    assert "c.png: masks/c.png: " in result.err and "--kind labels" in result.err
    assert "note: photograph: turned upright by its EXIF orientation" in result.err
    said = json.loads(result.out)
    assert (said["refined"], said["kinds"]) == (2, {"labels": 2})
    assert [*said["notes"].values()] == [["b.png"]]
    expected = refined(mask)[0]
    for name in "ab":
        assert np.array_equal(labels_of(f"out/{name}.png"), expected)
    Path("masks/c.png").unlink()
    assert "0 refined, 2 finished before" in run(*args).out
    fails(run(*args, "--confidence", "0.8"), "confidence 0.7, now 0.8", "--overwrite")
    fails(run(*args, "--no-exif"), "exif true, now false", "--overwrite")
    # beside arrays, pictures are no masks; nor is a photograph its own
    np.save("masks/a.npy", np.load("logits.npy"))
    fails(run("crf", "photos", "photos", "-o", "o"), "no .npy, .npz, .pt, .pth scores")
    result = run("crf", "photos", "masks", "-o", "o", "--workers", "0")
    assert "1 logits (recognised)" in result.out
