"""`refine` of what it cannot be sure of: one message that names the argument, before any work."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import refine
from deeplab_native.crf import refining

PHOTO = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
MASK = np.zeros((20, 30), bool)
MASK[5:15, 5:20] = True
P = np.where(MASK, 0.9, 0.1).astype(np.float32)
SCORES = np.stack([1 - P, P])
GREY = np.tile(np.arange(30, dtype=np.uint8) * 8, (20, 1))
NAN = np.where(MASK, np.nan, 0.5)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    monkeypatch.setattr(refining, "dense_crf", lambda *a, **kw: pytest.fail("the CRF ran"))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("photo.jpg", r"`image`: expected a NumPy array, a PIL image or a tensor, got str \(open"),
        (PHOTO.tolist(), r"`image`: expected a NumPy array, .* got list \(make it one by numpy.a"),
        (None, "`image`: expected a NumPy array, a PIL image or a tensor, got NoneType"),
        (PHOTO[None].repeat(2, 0), r"`image`: expected one picture .*, got \(2, 20, 30, 3\) \(a b"),
        (PHOTO[0, 0], r"`image`: expected one picture .*, got \(3,\)"),
        (PHOTO[..., :2], r"`image`: expected one picture .*, got \(20, 30, 2\)"),
        (PHOTO[:0], r"`image`: expected one picture .*, got \(0, 30, 3\)"),
        (PHOTO[..., [0, 1, 2, 2]], r"`image`: expected RGB or grey, got \(20, 30, 4\), four chan"),
        (PHOTO / 127.5 - 1, r"`image`: torch.float64 from -1 to .* was normalised \(give the pic"),
        (PHOTO.astype(np.uint16) * 257, r"`image`: torch.int64 .* is above 255 .*\(0, 65535\)"),
        (PHOTO * np.nan, r"`image`: torch.float64 from nan to nan is not finite"),
        (PHOTO > 99, r"`image`: expected numbers 0..255 or 0..1, got torch.bool"),
        (PHOTO * 1j, "`image`: expected numbers or booleans, got complex128"),
        (torch.zeros(3, 20, 30, device="meta"), "`image`: expected a plain tensor, got .* on meta"),
    ],
)
def test_pictures(image, message):
    with pytest.raises((TypeError, ValueError), match=message):
        refine(image, MASK)


@pytest.mark.parametrize(
    ("image_range", "message"),
    [
        ((0, 100), r"`image`: torch.uint8 from 0 to 254 goes beyond `image_range` \(0, 100\)"),
        ((1, 0), r"`image_range`: expected the values .* got \(1, 0\)"),
        (255, "`image_range`: expected the values of black and white, .* got 255"),
        ((0, float("inf")), "`image_range`: expected the values"),
        (((0, 1), (0, 1)), "or a pair for each of 3 channels, got"),
    ],
)
def test_ranges(image_range, message):
    with pytest.raises(ValueError, match=message):
        refine(PHOTO, MASK, image_range=image_range)


@pytest.mark.parametrize(
    ("given", "how", "message"),
    [
        ("mask.png", {}, r"got str \(open it first, as by PIL.Image.open; `jobs.refine` takes"),
        (MASK.T, {}, r"got \(30, 20\) \(height and width are exchanged: transpose it\)"),
        (SCORES.swapaxes(1, 2), {}, r"got \(2, 30, 20\) \(height and width are exchanged"),
        (MASK[::2, ::2], {}, r"expected \(20, 30\), .* got \(10, 15\) \(resize one of them first"),
        (SCORES[None].repeat(2, 0), {}, r"got \(2, 2, 20, 30\)"),
        (Image.fromarray(PHOTO), {}, r"a picture of mode RGB is no mask \(convert its colours"),
        (MASK * 1j, {}, "expected numbers or booleans, got complex128"),
        (GREY, {}, r"30 values from 0 to 232 could be labels, or a mask with soft edges"),
        (np.full_like(GREY, 255), {}, "255 everywhere is a mask without background, or unsure"),
        (np.full_like(GREY, 255), {"kind": "labels"}, "no label but 255, which is unsure"),
        (np.where(MASK, -2, 2), {}, r"label -2 \(give it as `ignore` where it means unsure"),
        (np.where(MASK, 2, 3), {"kind": "mask"}, "a mask has 0 and another value, this has 2, 3"),
        (P, {"kind": "labels"}, r"torch.float32 from 0.1 to 0.9 are no labels \(give `kind` prob"),
        (NAN, {"kind": "labels"}, "are no labels"),
        (np.where(MASK, np.inf, 0), {"kind": "mask"}, "are no mask"),
        (NAN, {}, r"300 of them are NaN|150 of them are NaN"),
        (P * 9, {}, "of a single channel are no foreground probabilities"),
        (SCORES * 9, {}, "could be energies .* or logits"),
        (SCORES[:, :10, :] * 0.9, {}, "resize one of them first"),
        (SCORES, {"kind": "mask"}, "are no masks, one for each label"),
        (np.stack([MASK, MASK]), {}, "masks .* that overlap, or that are empty"),
        (np.stack([MASK, MASK]) & False, {}, "masks .* that overlap, or that are empty"),
        (np.stack([GREY, GREY]), {}, "torch.uint8 .* are no masks, one for each label"),
        (SCORES * 9, {"kind": "probabilities"}, "are no probabilities"),
        (torch.zeros(20, 30, dtype=torch.cfloat), {}, "numbers or booleans, got torch.complex64"),
        (SCORES, {"kind": "softmax"}, "`kind`: expected one of auto, mask, labels, .* got 'soft"),
        (GREY, {"kind": "logits"}, "torch.uint8 are no logits"),
        (MASK, {"confidence": 1.0}, "`confidence` 1.0: expected above 0.5"),
        (MASK, {"confidence": 0.3}, "`confidence` 0.3: expected above 0.5"),
        (np.zeros_like(GREY), {"confidence": 7}, "`confidence` 7: expected above 0.5"),
        (MASK, {"params": "voc"}, "preset: expected one of voc-resnet101"),
        (MASK, {"params": (4, 67, 3, 3, 1)}, "params: expected CRFParams, got tuple"),
        (MASK, {"sigma_beta": 0}, "sigma_beta: expected a positive number, got 0"),
        (MASK, {"device": "tpu"}, "`device`: expected cpu, cuda or cuda:N, got 'tpu'"),
        (MASK, {"device": "cuda:99"}, "`device` cuda:99: expected one of the .* GPUs"),
        (MASK, {"device": 1.5}, "`device`: expected cpu, cuda or cuda:N, got 1.5"),
        (torch.zeros(20, 30).to_sparse(), {}, "expected a plain tensor, got torch.sparse_coo"),
    ],
)
def test_labels(given, how, message):
    with pytest.raises((TypeError, ValueError), match=message) as error:
        refine(PHOTO, given, **how)
    if not how:
        assert re.match("`labels_or_scores`: ", str(error.value))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"iterations": -1}, "iterations"),
        ({"normalization": "no"}, "normal"),
        ({"scale": 2}, "sc"),
        ({"scale": "no"}, "sc"),
    ],
)
def test_what_dense_crf_refuses(monkeypatch, how, message):
    monkeypatch.undo()
    with pytest.raises(ValueError, match=message):
        refine(PHOTO, MASK, **how)
