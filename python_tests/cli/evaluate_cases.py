"""A drawn data set with noisy scores, for the tests of `deeplab-native evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from deeplab_native import CRFParams
from python_tests.data.dataset_cases import VOID, draw, folder

NAMES = "abcd"
CLASSES = 4
CRF = ["--w1", 3, "--sigma-alpha", 9, "--sigma-beta", 20, "--w2", 1, "--sigma-gamma", 2]
PARAMS = CRFParams(3, 9, 20, 1, 2)


def scores_of(number):
    """(4, H, W) logits of the image with this number: the labels with a lot of noise."""
    labels = draw(number, range(CLASSES))[1]
    random = np.random.default_rng(number)
    wanted = np.moveaxis(np.eye(CLASSES + 1)[np.minimum(labels, CLASSES)][..., :CLASSES], -1, 0)
    return (2 * wanted + random.normal(size=wanted.shape)).astype(np.float32)


def write_shapes() -> None:
    """shapes/, a data set of four images, and scores/, in the current folder."""
    folder(Path("shapes"), NAMES)
    Path("scores").mkdir()
    for number, name in enumerate(NAMES):
        np.save(f"scores/{name}.npy", scores_of(number))


def evaluate(run, *args, out="out"):
    return run("evaluate", "folder", "shapes", "--scores", "scores", "--out", out, *CRF, *args)


def record(out="out"):
    return json.loads((Path(out) / "evaluation.json").read_text())


def count(pairs):
    """Confusion matrix of (labels, predicted) arrays."""
    matrix = np.zeros((CLASSES, CLASSES), int)
    for labels, predicted in pairs:
        known = labels != VOID
        np.add.at(matrix, (labels[known], np.asarray(predicted)[known]), 1)
    return matrix
