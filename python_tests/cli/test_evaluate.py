"""`deeplab-native evaluate`: figures against plain counts, bad files, wrong arguments."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import CRFParams, data, dense_crf, models, weights
from deeplab_native._files import sole_writer
from deeplab_native.cli import names
from python_tests.cli.cli_cases import fails
from python_tests.cli.evaluate_cases import (
    CLASSES,
    CRF,
    NAMES,
    PARAMS,
    count,
    evaluate,
    record,
    scores_of,
)
from python_tests.data.dataset_cases import VOID, draw, save_list

pytestmark = pytest.mark.usefixtures("quick_workers")

RESULTS = ["classes.csv", "counts.sqlite", "evaluation.json", "evaluation.png", "report.html"]
RESULTS += ["trimap.csv"]


def mean_iou(matrix):
    return (np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))).mean()


def refined(number, logits):
    photo = torch.from_numpy(draw(number, range(CLASSES))[0]).permute(2, 0, 1)[None]
    q = dense_crf(-torch.from_numpy(logits)[None].log_softmax(1), photo, PARAMS)
    return q[0].argmax(0).numpy()


def test_figures_of_scores(shapes, run):
    result = evaluate(run, "--workers", 2, "--trimap", "void")
    assert (result.code, result.err) == (0, "")
    assert sorted(os.listdir("out")) == RESULTS
    truth = [draw(i, range(CLASSES))[1] for i in range(4)]
    expected = {
        "scores": [(truth[i], scores_of(i).argmax(0)) for i in range(4)],
        "scores + CRF": [(truth[i], refined(i, scores_of(i))) for i in range(4)],
    }
    found = record()["variants"]
    assert list(found) == list(expected)
    rows = read_csv("out/trimap.csv")
    assert [int(row["width"]) for row in rows] == list(range(1, 41))
    for name, pairs in expected.items():
        matrix = count(pairs)
        assert found[name]["confusion_matrix"] == matrix.tolist()
        assert found[name]["mean_iou"] == pytest.approx(mean_iou(matrix))
        assert found[name]["pixel_accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
        assert f"{100 * mean_iou(matrix):.2f}" in result.out
        # the trimap of width 2 by its definition: void dilated by a square of side 5
        near = [(np.where(dilated(t, 2), t, VOID), p) for t, p in pairs]
        assert found[name]["trimap"][1]["mean_iou"] == pytest.approx(mean_iou(count(near)))
        assert found[name]["trimap"][1]["pixels"] == count(near).sum() == int(rows[1]["pixels"])
        assert float(rows[1][f"mean_iou, {name}"]) == pytest.approx(mean_iou(count(near)))
    assert found["scores + CRF"]["mean_iou"] > found["scores"]["mean_iou"]
    by_class = read_csv("out/classes.csv")
    assert [row["class"] for row in by_class] == [f"shape {i}" for i in range(CLASSES)]
    assert [float(row["IoU, scores"]) for row in by_class] == found["scores"]["class_iou"]
    with Image.open("out/evaluation.png") as image:
        image.load()


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def dilated(labels, width):
    void = np.pad(labels == VOID, width)
    windows = np.lib.stride_tricks.sliding_window_view(void, (2 * width + 1,) * 2)
    return windows.any((2, 3))


def test_figures_of_a_net(shapes, run):
    net = models.create_model("deeplab_mobilenetv2_largefov", CLASSES, seed=3)
    weights.save(net, "net.safetensors")
    save_list(Path("two.txt"), "bc")
    args = ["folder", "shapes", "--weights", "net.safetensors", "--ids", "two.txt"]
    args += ["--out", "out", *CRF]
    result = run("evaluate", *args, "--multi-scale", "--workers", 2)
    assert (result.code, result.err) == (0, "")
    found = record()["variants"]
    assert list(found) == [
        "single scale", "single scale + CRF", "multi-scale", "multi-scale + CRF",
    ]  # fmt: skip
    for name in found:
        net.scales = (1.0, 0.75, 0.5) if name.startswith("multi") else (1.0,)
        crf = PARAMS if name.endswith("CRF") else None
        pairs = []
        for sample in data.folder("shapes").subset("bc"):
            pairs.append((sample.labels.numpy(), models.predict(net, sample.image, crf=crf).labels))
        assert found[name]["confusion_matrix"] == count(pairs).tolist(), name
    only = [*args, "--multi-scale", "--no-single-scale", "--no-crf", "--trimap", "none"]
    fails(run("evaluate", *only), "single scale true, now false", "--overwrite")
    assert run("evaluate", *only, "--overwrite").code == 0
    assert list(record()["variants"]) == ["multi-scale"]
    assert record()["variants"]["multi-scale"]["trimap"] == []
    assert not Path("out/trimap.csv").exists()  # that of the run before


def test_crf_of_the_weights_is_used_where_none_is_named(shapes, run):
    net = models.create_model("deeplab_mobilenetv2_largefov", CLASSES, seed=3)
    net.crf = replace(PARAMS, w1=7.0)
    weights.save(net, "net.safetensors")
    args = ["evaluate", "folder", "shapes", "--weights", "net.safetensors", "--workers", 1]
    assert run(*args, "--out", "own").code == 0
    assert record("own")["crf"]["params"] == asdict(net.crf)
    assert run(*args, "--out", "changed", "--sigma-beta", 9).code == 0
    assert record("changed")["crf"]["params"] == asdict(replace(net.crf, sigma_beta=9.0))
    assert run(*args, "--out", "preset", "--preset", "voc-vgg16").code == 0
    assert record("preset")["crf"]["params"] == asdict(CRFParams.preset("voc-vgg16"))


def test_part_of_the_images_and_of_the_classes(shapes, run):
    save_list(Path("some.txt"), "db")
    assert evaluate(run, "--no-crf", "--ids", "some.txt").code == 0
    matrix = count([(draw(i, range(CLASSES))[1], scores_of(i).argmax(0)) for i in (1, 3)])
    assert record()["variants"]["scores"]["confusion_matrix"] == matrix.tolist()
    # all images, and the means of two classes: the two images are not counted again
    result = evaluate(run, "--no-crf", "--mean-over", "shape 1, shape 3")
    assert "2 images counted before" in result.out and "(shape 0)" in result.out
    scores = record()["variants"]["scores"]
    assert scores["mean_iou"] == pytest.approx(np.mean([scores["class_iou"][i] for i in (1, 3)]))
    assert record()["images"] == 4


def test_any_class_name(shapes, run):
    Path("names.json").write_text(
        '{"0": "$x^", "1": "[red]b", "2": "c, d", "3": "é"}', encoding="utf-8"
    )
    result = evaluate(run, "--no-crf", "--classes", "names.json")
    assert result.code == 0 and "$x^" in result.out and "[red]b" in result.out
    assert [row["class"] for row in read_csv("out/classes.csv")] == ["$x^", "[red]b", "c, d", "é"]


def test_absent_classes_are_null(shapes, run):
    assert evaluate(run, "--no-crf", "--classes", 4, out="four").code == 0
    for number, name in enumerate(NAMES):
        more = np.pad(scores_of(number), ((0, 2), (0, 0), (0, 0)), constant_values=-99)
        np.save(f"scores/{name}.npy", more)
    assert evaluate(run, "--no-crf", "--classes", 6).code == 0
    four, six = (record(out)["variants"]["scores"] for out in ("four", "out"))
    assert six["class_iou"] == [*four["class_iou"], None, None]
    assert six["mean_iou"] == pytest.approx(four["mean_iou"] * 4 / 6)  # VOC's rule
    assert six["mean_iou_present"] == pytest.approx(four["mean_iou"])


def test_bad_images_are_named_and_fatal_or_left_out(shapes, run):
    whole = Path("shapes/images/b.png").read_bytes()
    Path("shapes/images/b.png").write_bytes(whole[:90])
    np.save("scores/c.npy", np.zeros((CLASSES, 3, 9)))
    result = evaluate(run)
    assert result.code == 1 and result.out == ""
    for words in ("b.png: damaged", "scores/c.npy: scores (4, 3, 9)", "2 of 4 images failed"):
        assert words in result.err
    assert os.listdir("out") == ["counts.sqlite"]
    result = evaluate(run, "--skip-bad")
    assert result.code == 0 and "left out" in result.out and "2 images counted before" in result.out
    assert list(record()["left out"]) == ["b", "c"] and record()["images"] == 2
    pairs = [(draw(i, range(CLASSES))[1], scores_of(i).argmax(0)) for i in (0, 3)]
    assert record()["variants"]["scores"]["confusion_matrix"] == count(pairs).tolist()
    Path("shapes/images/b.png").write_bytes(whole)
    np.save("scores/c.npy", scores_of(2))
    result = evaluate(run)
    assert result.code == 0 and "2 images counted before" in result.out
    assert record()["images"] == 4 and record()["left out"] == {}


def test_nothing_but_bad_images(shapes, run):
    for name in NAMES:
        Path(f"shapes/labels/{name}.png").write_bytes(b"")
    result = evaluate(run, "--skip-bad")
    assert result.code == 1 and "4 of 4 images" in result.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nope", "shapes", "--scores", "scores"], ["name: expected one of voc", "'nope'"]),
        (["folder", "none", "--scores", "scores"], ["root: none is no folder"]),
        (["folder", "shapes"], ["--weights or --scores"]),
        (["folder", "shapes", "--scores", "scores", "--weights", "x"], ["--weights or --scores"]),
        (["folder", "shapes", "--scores", "none"], ["none is no folder"]),
        (["folder", "shapes", "--scores", "shapes"], ["shapes/a.npy", "4 of 4 images"]),
        (["folder", "shapes", "--scores", "scores", "--multi-scale"], ["for a net"]),
        (["folder", "shapes", "--scores", "scores", "--trimap", "x"], ["--trimap x"]),
        (["folder", "shapes", "--scores", "scores", "--mean-over", "cat"], ["'cat'", "shape 0"]),
        (["folder", "shapes", "--scores", "scores", "--mean-over", "shape 1,shape 1"], ["twice"]),
        (["folder", "shapes", "--scores", "scores", "--ids", "ids.txt"], ["1 are not in", "'z'"]),
        (["folder", "shapes", "--scores", "scores", "--split", "val"], ["val.txt is missing"]),
        (["folder", "shapes", "--scores", "scores", "--kind", "x"], ["--kind x"]),
        (["folder", "shapes", "--scores", "scores", "--layout", "x"], ["--layout x"]),
        (["folder", "shapes", "--scores", "scores", "--scale", "2"], ["scale: expected"]),
        (["folder", "shapes", "--scores", "scores", "--workers", "9999"], ["--workers 9999"]),
        (["folder", "shapes", "--scores", "scores", "--threads", "9999"], ["--threads 9999"]),
        (["folder", "shapes", "--scores", "scores", "--label-map", "map.json"], ["map.json"]),
        (["voc", "shapes", "--scores", "scores", "--classes", "3"], ["--classes is for", "'voc'"]),
        (["voc", "shapes", "--scores", "scores"], ["JPEGImages is missing", "VOCtrainval"]),
        (["folder", "shapes", "--weights", "none.safetensors"], ["no such weights file"]),
        (["folder", "shapes", "--weights", "a.pth"], ["a.pth", "our .safetensors"]),
        (["folder", "shapes", "--weights", "a.pth", "--key", "x"], ["--key is for score maps"]),
        (["folder", "shapes", "--weights", "five.safetensors"], ["5 classes", "data set of 4"]),
        (["folder", "shapes", "--weights", "five.safetensors", "--device", "x"], ["--device x"]),
        (["folder", "shapes", "--weights", "five.safetensors", "--no-single-scale"], ["nothing"]),
    ],
)
def test_unusable_arguments(shapes, run, args, words):
    save_list(Path("ids.txt"), "az")
    Path("map.json").write_text('{"0": "background"}')
    Path("a.pth").touch()
    if "five.safetensors" in args:
        net = models.create_model("deeplab_mobilenetv2_largefov", 5, seed=0)
        weights.save(net, "five.safetensors")
    fails(run("evaluate", *args, "--out", "out"), *words)
    assert not Path("out").exists()


def test_out_is_no_input(shapes, run):
    fails(evaluate(run, out="scores"), "among the inputs")
    fails(evaluate(run, out="shapes/classes.json"), "is a file")
    Path("out").mkdir()
    with sole_writer(Path("out")):
        fails(evaluate(run), "another run is writing there")


def test_scores_of_another_number_of_labels(shapes, run):
    np.save("scores/a.npy", np.zeros((3, *scores_of(0).shape[1:])))
    result = evaluate(run)
    assert result.code == 1 and "scores/a.npy: scores of 3 labels for 4 classes" in result.err


def test_the_command_knows_all_data_sets():
    assert tuple(data.DATASETS) == names.DATASETS


def test_how_files_were_read_is_said(shapes, run):
    """A photograph with an EXIF orientation, whose labels and scores are of it as it is stored."""
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = json.loads(evaluate(run, "--json").out)
    assert (plain["kinds"], plain["notes"]) == ({"logits": 4}, {})
    with Image.open("shapes/images/a.png") as image:
        image.save("shapes/images/a.png", exif=exif)
    scores = np.exp(np.load("scores/b.npy").astype(np.float64))
    np.save("scores/b.npy", -np.log(scores / scores.sum(0)))
    turned = evaluate(run, out="turned")
    assert "3 logits, 1 energies (recognised)" in turned.out
    assert "note: photograph: turned upright by its EXIF orientation (--no-exif" in turned.err
    assert "a" in turned.err.split()[-1]
    result = json.loads(evaluate(run, "--no-exif", "--json", out="stored").out)
    assert result["kinds"] == {"logits": 3, "energies": 1}
    assert [*result["notes"].values()] == [["a"]]
    assert result["variants"] == plain["variants"]
    again = json.loads(evaluate(run, "--no-exif", "--json", out="stored").out)
    assert (again["kinds"], again["counted"]) == (result["kinds"], 0)
    fails(evaluate(run, out="stored"), "exif false, now true", "--overwrite")
