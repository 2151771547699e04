"""`deeplab-native crf-search`: bad input is named before work starts; the GPU's way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_native import _C
from deeplab_native.crf.candidates import Fixed
from deeplab_native.crf.search import Candidate
from deeplab_native.jobs import ScoreFormat
from deeplab_native.jobs._search_files import FolderLoader, Folders
from deeplab_native.jobs._search_image import CountJob, count
from python_tests.cli.cli_cases import fails
from python_tests.crf.search_cases import IMAGES, LABELS, SMALL, planted, search, write_one

pytestmark = pytest.mark.usefixtures("quick_workers")


def bad_label(name="1", value=9):
    labels = np.array(Image.open(f"labels/{name}.png"))
    labels[0, :2] = value
    Image.fromarray(labels).save(f"labels/{name}.png")


def test_images_that_cannot_be_used_are_all_named(search_folders, run):
    bad_label()
    fails(search(run, *SMALL), "1: labels: expected 0 to 3 or void 255, got [9]")
    np.save("scores/0.npy", np.zeros((LABELS, 5, 17), np.float32))
    Path("photos/2.png").write_bytes(Path("photos/2.png").read_bytes()[:200])
    result = search(run, *SMALL)
    assert result.code == 1 and result.out == ""
    words = ["error: 0: scores/0.npy: scores (4, 5, 17)", "error: 1: labels"]
    words.append("error: 2: photos/2.png: damaged")
    for line, word in zip(result.err.splitlines(), [*words, "error: 3 of 3 images"], strict=True):
        assert line.startswith(word)
    assert not Path("out").exists()


def other_size():
    Image.new("L", (9, 9)).save("labels/0.png")


def coloured():
    Image.new("RGB", (45, 36)).save("labels/0.png")


def no_png():
    Path("labels/0.png").write_bytes(b"no")


def corrupt_scores():
    scores = np.load("scores/0.npy")
    Path("scores/0.npy").unlink()
    np.savez("scores/0.npz", scores)
    data = Path("scores/0.npz").read_bytes()
    Path("scores/0.npz").write_bytes(data[: len(data) // 2])


def other_labels():
    _, logits = planted(1, 37)
    np.save("scores/1.npy", np.concatenate([logits, logits[:1]]))


def all_void():
    for i in range(IMAGES):
        Image.new("L", (45, 36 + i), 255).save(f"labels/{i}.png")


def missing_label():
    Path("labels/2.png").unlink()


def missing_photo():
    Path("photos/2.png").unlink()


def no_scores():
    shutil.rmtree("scores")
    Path("scores").mkdir()


def no_folder():
    shutil.rmtree("labels")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_size, ["0: labels/0.png: 9 x 9 pixels, but the image has 45 x 36"]),
        (coloured, ["0: labels/0.png: a PNG of mode RGB"]),
        (no_png, ["0: labels/0.png: not a PNG"]),
        (corrupt_scores, ["0: scores/0.npz: damaged or cut off"]),
        (other_labels, ["different numbers of labels: 4 in 0 and 5 in 1"]),
        (all_void, ["every pixel is 255, void"]),
        (missing_label, ["labels: no label PNGs for 1 of 3 names: 2"]),
        (missing_photo, ["photos: no pictures for 1 of 3 names: 2"]),
        (no_scores, ["scores: no .npy, .npz, .pt, .pth scores"]),
        (no_folder, ["labels labels: not a folder"]),
    ],
)
def test_bad_files(search_folders, run, spoil, words):
    spoil()
    fails(search(run, *SMALL), *words)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--w1", "3;4"], ["--w1 3;4: not a list of numbers", "first:last:step"]),
        (["--sigma-alpha", "9:3:1"], ["--sigma-alpha 9:3:1: expected first <= last"]),
        (["--sigma-beta", "1:2:0"], ["--sigma-beta 1:2:0"]),
        (["--sigma-beta", "0,1"], ["sigma_beta: expected positive"]),
        (["--sigma-beta", "1e-30"], ["all images: sigma_alpha 30 and sigma_beta 1e-30: too small"]),
        (["--sigma-gamma", "0"], ["sigma_gamma: expected a positive number"]),
        (["--normalization", "x"], ["normalization: expected one of"]),
        (["--classes", "a"], ["--classes a: not a list of class numbers"]),
        (["--classes", "1,7"], ["--classes: no pixel is labelled 7"]),
        (["--images", "4"], ["--images 4: there are 3"]),
        (["--list", "none.txt"], ["none.txt: no such list of ids"]),
        (["--kind", "x"], ["--kind x"]),
        (["--key", "x"], ["0: ", "--key is for .npz"]),
        (["--device", "gpu"], ["--device gpu: expected cpu, cuda or cuda:N"]),
        (["--workers", "9999"], ["--workers 9999"]),
        (["--out", "scores"], ["results would lie among the inputs"]),
        (["--out", "photos/0.png"], ["is a file"]),
    ],
)
def test_bad_arguments(search_folders, run, args, words):
    if "--key" in args:  # the same line for every image
        for folder in ("photos", "scores", "labels"):
            for i in (1, 2):
                next(Path(folder).glob(f"{i}.*")).unlink()
    fails(search(run, "--rounds", "0", *args), *words)
    assert sorted(os.listdir()) == ["labels", "photos", "scores"]


@pytest.mark.skipif(_C.has_cuda, reason="says what a build without CUDA says")
def test_a_build_without_cuda_says_so(search_folders, run):
    fails(search(run, *SMALL, "--device", "cuda"), "--device cuda: this build has no CUDA kernels")


@pytest.mark.unsanitized
def test_the_gpu_path_counts_the_same(cuda_device, search_folders):
    """Images of one size in a batch, one of another size, and candidates that one of them has."""
    from deeplab_native.jobs._search_cuda import count_on_device

    for i in (0, 1):  # of image 2's size, so that these three are a batch
        write_one(i, 38)
    for folder, name in (("photos", "3.png"), ("scores", "3.npy"), ("labels", "3.png")):
        shutil.copy(f"{folder}/0{Path(name).suffix}", f"{folder}/{name}")
    items = Folders(Path("photos"), Path("scores"), Path("labels")).items()
    loader, fixed = FolderLoader(ScoreFormat()), Fixed(iterations=2)
    candidates = [Candidate(w1, 12.0, beta) for beta in (6.0, 9.0) for w1 in (2.0, 4.0)]
    todo = {items[0]: candidates, items[1]: candidates[1:3], items[2]: [], items[3]: candidates}
    sizes = {item: (LABELS, 38, 45) for item in items}
    sizes[items[3]] = (LABELS, 38, 46)  # as if: then it goes alone
    done = {item: [] for item in items}
    for item, results in count_on_device(loader, todo, sizes, fixed, str(cuda_device)):
        done[item] += results
    for item in items:
        expected = count(CountJob(loader, item, tuple(todo[item]), fixed, 1))
        assert [r.candidate for r in done[item]] == todo[item]
        for got, one in zip(done[item], expected, strict=True):
            assert got.vertices == one.vertices
            a, b = (np.zeros((2, LABELS, LABELS), int) for _ in range(2))
            got.counts.add_to(a)
            one.counts.add_to(b)
            assert a.sum() == b.sum() and abs(a - b).sum() <= 4  # two pixels
