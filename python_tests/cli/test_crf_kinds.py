"""`deeplab-native crf` on scores of every kind: the same labels, and the kind is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native.jobs import ScoreFormat
from python_tests.cli.cli_cases import HEIGHT, LABELS, WIDTH, fails


def labels_of(path="photo_crf.png"):
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture
def probabilities(given):
    return torch.from_numpy(np.load("logits.npy")).softmax(0).numpy()


@pytest.fixture
def expected(given, run):
    """Labels and Q of the logits."""
    assert run("crf", "photo.png", "logits.npy", "--save-probabilities", "l.npz").code == 0
    with np.load("l.npz") as file:
        return labels_of(), file["probabilities"]


def result_of(run, *args):
    done = run("crf", "photo.png", *args, "--json", "--save-probabilities", "q.npz")
    assert (done.code, done.err) == (0, "")
    with np.load("q.npz") as file:
        return json.loads(done.out), file["probabilities"]


KINDS = {
    "probabilities": lambda p: p,
    "energies": lambda p: -np.log(p),
    "logits": lambda p: np.log(p) + 7 * p.argmax(0) - 14,  # some are above 0, some below
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flat", [False, True])
def test_kinds_are_recognised_and_mean_the_same(probabilities, expected, run, kind, flat):
    """Flat, (L, H W), is what pydensecrf's `utils` give and its users save."""
    scores = KINDS[kind](probabilities).astype(np.float32)
    np.save("s.npy", scores.reshape(LABELS, -1) if flat else scores)
    said, q = result_of(run, "s.npy")
    assert (said["kind"], said["recognised"]) == (kind, True)
    assert np.array_equal(labels_of(), expected[0])
    assert np.abs(q - expected[1]).max() < 1e-3
    assert result_of(run, "s.npy", "--kind", kind)[0]["recognised"] is False
    assert np.array_equal(labels_of(), expected[0])


def test_sigmoids(given, expected, run):
    """Their log-odds are the logits."""
    np.save("s.npy", torch.from_numpy(np.load("logits.npy")).sigmoid().numpy())
    said, q = result_of(run, "s.npy")
    assert said["kind"] == "sigmoid"
    assert said["scores"] == "independent sigmoids (recognised)"
    assert np.array_equal(labels_of(), expected[0])
    assert np.abs(q - expected[1]).max() < 1e-4


@pytest.mark.parametrize("form", ["(H, W)", "(1, H, W)", "(H, W, 1)", "logits", "picture"])
def test_a_foreground_alone(given, run, form):
    x = np.load("logits.npy")[1] - 1
    p = 1 / (1 + np.exp(-x))
    np.save("both.npy", np.stack([1 - p, p]))
    _, expected = result_of(run, "both.npy")
    shaped = {"(H, W)": p, "(1, H, W)": p[None], "(H, W, 1)": p[..., None], "logits": x}
    name, options, off = "s.npy", [], 1e-5
    if form == "picture":
        name, options, off = "s.png", ["--kind", "probabilities"], 1e-2  # 8 bits
        Image.fromarray(np.rint(255 * p).astype(np.uint8)).save(name)
    else:
        np.save(name, shaped[form])
    said, q = result_of(run, name, *options)
    assert said["labels"] == 2
    assert "of a foreground" in said["scores"]
    assert np.abs(q - expected).mean() < off


def test_what_is_asked(probabilities, run):
    logits = np.load("logits.npy")
    before = sorted(os.listdir())
    for name, scores, words in (
        ("relu.npy", np.maximum(logits, 0), "--kind energies or logits"),
        ("u.npy", 2 - np.log(probabilities), "--kind energies or logits"),
        ("round.npy", np.rint(99 * probabilities) / 99 + 0.002, "probabilities, sigmoid or logits"),
        ("q.npy", (100 * probabilities).astype(np.int16), "scale quantised scores back"),
        ("grey.npy", 200 * probabilities[0] + 0.5, "no foreground probabilities in 0..1"),
    ):
        np.save(name, scores)
        fails(run("crf", "photo.png", name), f"{name}: ", words)
        Path(name).unlink()
    assert sorted(os.listdir()) == before


def test_excluded_labels(given, run):
    """Logits of -inf, as of classes that an image cannot have, and energies of +inf."""
    logits = np.load("logits.npy")
    logits[2] = -np.inf
    for kind, values in (("logits", logits), ("energies", -torch.tensor(logits).log_softmax(0))):
        np.save("s.npy", values)
        scores = ScoreFormat().read(Path("s.npy"), (HEIGHT, WIDTH))
        assert scores.kind == kind
        energies = scores.energies((HEIGHT, WIDTH))
        assert energies[0, 2].isposinf().all() and energies[0, [0, 1, 3]].isfinite().all()
        _, q = result_of(run, "s.npy")
        assert not q[2].any() and np.abs(q.sum(0) - 1).max() < 1e-5
        assert 2 not in labels_of()
        larger = scores.energies((2 * HEIGHT, 2 * WIDTH))  # inf * 0 would be NaN
        assert larger.isfinite().all() and larger[0, 2].min() > 10
    logits[0] = np.nan
    np.save("s.npy", logits)
    fails(run("crf", "photo.png", "s.npy"), "s.npy", "NaN")


@pytest.mark.parametrize("key", [None, "logits"])
def test_tensors(given, expected, run, key):
    tensor = torch.from_numpy(np.load("logits.npy"))[None]
    torch.save(tensor if key is None else {"logits": tensor, "size": torch.tensor(3)}, "s.pt")
    _, q = result_of(run, "s.pt", *([] if key is None else ["--key", key]))
    assert np.array_equal(q, expected[1])


def test_lower_resolution(given, run):
    rows, columns = np.linspace(0, 1, HEIGHT // 2), np.linspace(0, 1, WIDTH // 2)
    small = np.stack([np.add.outer(a * rows, b * columns) for a, b in ((4, -4), (-4, 4))])
    rows, columns = np.linspace(0, 1, HEIGHT), np.linspace(0, 1, WIDTH)
    large = np.stack([np.add.outer(a * rows, b * columns) for a, b in ((4, -4), (-4, 4))])
    np.save("small.npy", small.astype(np.float32))
    np.save("large.npy", large.astype(np.float32))
    _, q = result_of(run, "small.npy")
    assert np.abs(q - result_of(run, "large.npy")[1]).max() < 1e-4
    assert "scaled from 15 x 10" in run("crf", "photo.png", "small.npy").out


def test_an_orientation_is_said_and_can_be_left(given, expected, run):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open("photo.png") as image:
        image.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    result = run("crf", "turned.png", "logits.npy")
    assert result.code == 0
    assert result.err == (
        "note: photograph: turned upright by its EXIF orientation (--no-exif leaves it as it is "
        "stored): turned.png\n"
    )
    assert np.array_equal(labels_of("turned_crf.png"), expected[0])
    # scores of the picture as a net sees it that knows nothing of EXIF
    np.save("stored.npy", np.rot90(np.load("logits.npy"), 1, (1, 2)))
    fails(run("crf", "turned.png", "stored.npy"), "EXIF orientation", "--no-exif")
    result = run("crf", "turned.png", "stored.npy", "--no-exif", "--json")
    assert json.loads(result.out)["notes"] == [
        "photograph: not turned upright, though it has an EXIF orientation"
    ]
    assert np.mean(np.rot90(labels_of("turned_crf.png"), -1) == expected[0]) > 0.98
