"""`deeplab-native crf` on volumes: NIfTI with its spacing and orientation, and scores beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import deeplab_native as dn
from deeplab_native.jobs import volumes
from python_tests.cli.cli_cases import fails

nibabel = pytest.importorskip("nibabel")

SIZE = 11, 9, 5  # X, Y, Z
SPACING = 0.5, 0.75, 3.0
# left to right reversed, and moved
AFFINE = np.diag([-0.5, 0.75, 3.0, 1.0]) + np.array([[0, 0, 0, 7.0]] + [[0, 0, 0, 2.0]] * 3)
AFFINE[3] = 0, 0, 0, 1


def write_scan(path: str, values: np.ndarray, unit: str | None = "mm") -> None:
    image = nibabel.Nifti1Image(values, AFFINE)
    if unit is not None:
        image.header.set_xyzt_units(unit, "sec")
    image.set_sform(AFFINE, "scanner")
    image.set_qform(AFFINE, "scanner")
    nibabel.save(image, path)


def ct() -> np.ndarray:
    """int16, a bright block in a dark room."""
    random = np.random.default_rng(0)
    values = random.normal(-500, 30, SIZE)
    values[3:8, 2:7, 1:4] += 600
    return values.astype(np.int16)


def logits() -> np.ndarray:
    """(3, X, Y, Z) float32, unsure of the block."""
    random = np.random.default_rng(1)
    values = random.normal(0, 1, (3, *SIZE))
    values[0] += 1
    values[1, 3:8, 2:7, 1:4] += 2
    return values.astype(np.float32)


@pytest.fixture
def scanned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scan("scan.nii.gz", ct())
    np.save("scores.npy", logits())


def expected(values, window, spacing=SPACING, params=None, unary=None):
    """Labels by dense_crf, made by hand."""
    low, high = window
    image = ((values.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))).clip(
        0, 255
    )
    image = np.moveaxis(image, 3, 0) if image.ndim == 4 else image[None]
    if unary is None:
        unary = -torch.from_numpy(logits()).log_softmax(0)
    params = params or volumes.PARAMS
    q = dn.dense_crf(
        torch.as_tensor(unary)[None],
        torch.from_numpy(np.ascontiguousarray(image))[None],
        params,
        spacing=spacing,
    )
    return q[0].numpy()


def labels_of(path: str) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_a_scan_and_its_scores(scanned, run):
    result = run("crf", "scan.nii.gz", "scores.npy", "-o", "labels.nii.gz")
    assert result.code == 0, result.err
    assert sorted(os.listdir()) == ["labels.nii.gz", "scan.nii.gz", "scores.npy"]
    written = nibabel.load("labels.nii.gz")
    assert written.get_data_dtype() == np.uint8 and written.shape == SIZE
    np.testing.assert_array_equal(written.affine, AFFINE)
    assert nibabel.aff2axcodes(written.affine) == ("L", "A", "S")
    assert written.header.get_zooms() == SPACING
    assert written.header.get_xyzt_units()[0] == "mm"
    assert (written.header["sform_code"], written.header["qform_code"]) == (1, 1)
    window = tuple(np.percentile(ct(), (0.5, 99.5)))
    q = expected(ct(), window)
    np.testing.assert_array_equal(np.asarray(written.dataobj), q.argmax(0))
    assert (q.argmax(0) != logits().argmax(0)).mean() > 0.1
    size = "11 x 9 x 5 voxels of 0.5 x 0.75 x 3 mm"
    for word in (size, "0.5 and 99.5 %", "3 labels, logits", "of the voxels"):
        assert word in " ".join(result.out.split())


def test_window_and_json(scanned, run):
    args = ("--window", "-160", "240", "--sigma-alpha", "2", "--sigma-beta", "9", "--json")
    result = run("crf", "scan.nii.gz", "scores.npy", *args, "--save-probabilities", "q.npz")
    assert result.code == 0, result.err
    params = dn.CRFParams(3, 2, 9, 2, 5)
    q = expected(ct(), (-160, 240), params=params)
    np.testing.assert_array_equal(labels_of("scan_crf.nii.gz"), q.argmax(0))
    np.testing.assert_array_equal(np.load("q.npz")["probabilities"], q)
    assert np.abs(q - expected(ct(), (-160, 240), 1.0, params)).max() > 0.01  # not in voxels
    record = json.loads(result.out)
    assert record["window"] == [[-160, 240]] and record["spacing_mm"] == list(SPACING)
    assert record["size"] == list(SIZE) and record["kind"] == "logits" and record["labels"] == 3
    assert (record["sigma_alpha"], record["sigma_beta"], record["sigma_gamma"]) == (2, 9, 5)
    assert record["changed"] == int((q.argmax(0) != logits().argmax(0)).sum())


@pytest.mark.parametrize("form", ["last", "nifti", "npz", "batch", "pt"])
def test_forms_of_scores(scanned, run, form):
    """All give the labels of (labels, X, Y, Z) logits."""
    scores = "scores.npz"
    if form == "last":
        np.save(scores := "last.npy", np.moveaxis(logits(), 0, -1))
    elif form == "nifti":
        write_scan(scores := "scores.nii.gz", np.moveaxis(logits(), 0, -1))
    elif form == "npz":
        np.savez(scores, logits=logits(), other=np.zeros(3))
    elif form == "batch":
        np.savez(scores, logits=logits()[None])
    else:
        torch.save(torch.from_numpy(logits()), scores := "scores.pt")
    key = ["--key", "logits"] if form == "npz" else []
    result = run("crf", "scan.nii.gz", scores, "-o", "labels.nii", *key)
    assert result.code == 0, result.err
    q = expected(ct(), tuple(np.percentile(ct(), (0.5, 99.5))))
    np.testing.assert_array_equal(labels_of("labels.nii"), q.argmax(0))


def test_labels_and_a_foreground(scanned, run):
    """Of a label volume only labels that occur; probabilities of one label are two labels."""
    marked = np.where(logits().argmax(0) == 1, 7, 3).astype(np.uint8)
    marked[:2] = 255
    write_scan("marked.nii.gz", marked)
    args = ("--confidence", "0.6", "--sigma-alpha", "0.5", "--sigma-gamma", "0.3")
    result = run("crf", "scan.nii.gz", "marked.nii.gz", "-o", "a.nii.gz", *args)
    assert result.code == 0, result.err
    unary = np.full((2, *SIZE), -np.log(0.4), np.float32)  # of labels 3 and 7
    unary[0][marked == 3] = unary[1][marked == 7] = -np.log(0.6)
    unary[:, marked == 255] = np.log(2)
    params = dn.CRFParams(3, 0.5, 5, 2, 0.3)
    q = expected(ct(), tuple(np.percentile(ct(), (0.5, 99.5))), params=params, unary=unary)
    np.testing.assert_array_equal(labels_of("a.nii.gz"), np.array([3, 7])[q.argmax(0)])
    assert set(np.unique(labels_of("a.nii.gz"))) == {3, 7} and "unsure" in result.out
    share = (1 / (1 + np.exp(-logits()[1]))).astype(np.float32)
    np.save("share.npy", share)
    result = run("crf", "scan.nii.gz", "share.npy", "-o", "b.nii.gz", "--iterations", "0")
    assert result.code == 0, result.err
    np.testing.assert_array_equal(labels_of("b.nii.gz"), share > 0.5)


def test_channels_and_units(scanned, run):
    """Two contrasts, each with its own window; metres and no unit at all are said."""
    both = np.stack((ct(), 3 * ct() + 5), -1)
    write_scan("both.nii", both)
    result = run("crf", "both.nii", "scores.npy", "--json")
    assert result.code == 0, result.err
    one = np.percentile(ct(), (0.5, 99.5)).tolist()
    windows = json.loads(result.out)["window"]
    np.testing.assert_allclose(windows, [one, [3 * v + 5 for v in one]])
    write_scan("none.nii", ct(), "unknown")
    result = run("crf", "none.nii", "scores.npy")
    assert result.code == 0 and "no unit of length; taken for mm" in result.err
    write_scan("micron.nii", ct(), "micron")
    result = run("crf", "micron.nii", "scores.npy", "--json", "--sigma-alpha", "0.005")
    np.testing.assert_allclose(json.loads(result.out)["spacing_mm"], np.array(SPACING) / 1000)


def test_the_same_bits_twice(scanned, run):
    for name in ("a.nii.gz", "b.nii.gz"):
        assert run("crf", "scan.nii.gz", "scores.npy", "-o", name).code == 0
    assert Path("a.nii.gz").read_bytes() == Path("b.nii.gz").read_bytes()


def write_wrong(tmp_path: Path) -> None:
    np.save("reversed.npy", logits().transpose(0, 3, 2, 1))
    np.save("smaller.npy", logits()[:, ::2])
    np.save("integers.npy", logits().astype(np.int32))
    np.save("half.npy", np.where(logits()[0] > 0, 1.5, 0.5))
    np.save("sizes.npy", np.zeros((11, 11, 11, 11), np.float32))
    write_scan("flat.nii.gz", np.zeros(SIZE, np.int16))
    write_scan("cube.nii.gz", np.arange(11**3, dtype=np.float32).reshape(11, 11, 11))
    write_scan("holes.nii.gz", np.where(ct() > 0, np.nan, ct()).astype(np.float32))
    write_scan("map.nii.gz", np.zeros((11, 9), np.int16))
    Path("cut.nii.gz").write_bytes(Path("scan.nii.gz").read_bytes()[:300])
    Path("none.nii").write_bytes(b"nothing of the kind")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "one.nii.gz").write_bytes(b"")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["scan.nii.gz", "reversed.npy"], ["reversed.npy", "axes are reversed, as SimpleITK"]),
        (["scan.nii.gz", "smaller.npy"], ["(3, 6, 9, 5)", "11x9x5 voxels", "resample"]),
        (["scan.nii.gz", "integers.npy"], ["integers.npy", "expected floating point"]),
        (["scan.nii.gz", "half.npy"], ["half.npy", "foreground"]),
        (["cube.nii.gz", "sizes.npy"], ["either end could be the labels", "--layout"]),
        (["scan.nii.gz", "scores.npy", "--layout", "hwc"], ["(3, 11, 9, 5)"]),
        (["scan.nii.gz", "scores.npy", "--kind", "probabilities"], ["no probabilities", "--kind"]),
        (["scan.nii.gz", "scores.npy", "--kind", "labels"], ["--kind labels"]),
        (["flat.nii.gz", "scores.npy"], ["flat.nii.gz", "nearly all voxels are 0", "--window"]),
        (["holes.nii.gz", "scores.npy"], ["holes.nii.gz", "NaN or infinite"]),
        (["map.nii.gz", "scores.npy"], ["map.nii.gz", "(11, 9)"]),
        (["cut.nii.gz", "scores.npy"], ["cut.nii.gz", "damaged or cut off"]),
        (["none.nii", "scores.npy"], ["none.nii", "no NIfTI file"]),
        (["missing.nii", "scores.npy"], ["missing.nii", "no such volume"]),
        (["scan.nii.gz", "missing.npy"], ["missing.npy", "no such scores"]),
        (["scans", "scans"], ["1 volumes, as one.nii.gz", "one at a time"]),
        (["photo.png", "scan.nii.gz"], ["scan.nii.gz is of a volume, photo.png is none"]),
        (["photo.png", "scores.npy", "--window", "0", "1"], ["--window is for volumes"]),
        (["scan.nii.gz", "scores.npy", "--window", "9", "3"], ["--window 9 3", "lower one first"]),
        (["scan.nii.gz", "scores.npy", "--window", "nan", "3"], ["--window nan 3"]),
        (["scan.nii.gz", "scores.npy", "--overlay"], ["--overlay is for pictures"]),
        (["scan.nii.gz", "scores.npy", "--palette", "voc"], ["--palette is for pictures"]),
        (["scan.nii.gz", "scores.npy", "--workers", "2"], ["--workers is for folders"]),
        (["scan.nii.gz", "scores.npy", "--resize"], ["--resize is for pictures"]),
        (["scan.nii.gz", "scores.npy", "--confidence", "2"], ["--confidence 2"]),
        (["scan.nii.gz", "scores.npy", "-o", "labels.png"], ["labels.png", ".nii or .nii.gz"]),
        (["scan.nii.gz", "scores.npy", "-o", "scan.nii.gz"], ["scan.nii.gz"]),
    ],
)
def test_refused(scanned, tmp_path, run, args, words):
    """Naming the file or the option, with nothing written."""
    write_wrong(tmp_path)
    before = sorted(os.listdir())
    fails(run("crf", *args), *words)
    assert sorted(os.listdir()) == before


def test_without_nibabel(scanned, run, monkeypatch):
    monkeypatch.setattr("deeplab_native.jobs._nifti.find_spec", lambda name: None)
    fails(run("crf", "scan.nii.gz", "scores.npy"), "pip install 'deeplab_native[medical]'")
