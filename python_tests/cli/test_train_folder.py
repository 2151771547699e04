"""`train FOLDER`: a net, its held-out figures and pictures, from photographs and labels alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning", reason="no lightning: pip install '.[train]'")

from deeplab_native import weights
from deeplab_native.data.own_data import find_data
from deeplab_native.training.loop import Loop
from deeplab_native.training.own_data import write_data
from python_tests.cli.cli_cases import fails
from python_tests.data import own_cases as cases

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
QUICK = [
    "--threads", "1", "--device", "cpu", "--set", "augmentation.crop=33", "--set", "batch=2",
    "--set", "schedule={iterations: 2, head_first: {iterations: 1}}", "--set", "log_every=1",
]  # fmt: skip
RUN = ("train", "photos", "-o", "runs/mine")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, set_threads):
    monkeypatch.chdir(tmp_path)


def test_from_photographs_to_the_next_commands(run):
    cases.write_labelme(Path("photos"))
    Path("photos/val.txt").write_text("a\nb\n")
    result = run(*RUN, *QUICK)
    assert result.code == 0, result.err
    for words in (
        "5 photographs with LabelMe files; median size 40 x 30",
        "3 classes by the shapes: background, animal, box",
        "held out: by val.txt",
        "begins as the network of the package",
        "batches of 2 crops of 33 x 33",
        "iteration 3/3: loss",
        "0:00:00 left",
    ):
        assert words in result.err
    for words in ("IoU of what was held out", "animal", "with the CRF", "2 photographs"):
        assert words in result.out
    net = weights.load_model("runs/mine/net.safetensors")
    assert net.class_names == ("background", "animal", "box")
    assert net.output_stride == 16
    found = json.loads(Path("runs/mine/evaluation/evaluation.json").read_text())
    assert list(found["variants"]) == ["single scale", "single scale + CRF"]
    assert sorted(os.listdir("runs/mine/examples")) == ["a.png", "b.png"]
    with Image.open("runs/mine/examples/a.png") as picture:
        assert picture.size == (4 * 40, 30)
    assert os.path.islink("runs/mine/data/images/é 1.jpg")
    # the commands that come next, as they are printed
    first, second = (line for line in result.out.splitlines() if "  deeplab-native " in line)
    assert run(*first.replace("PHOTOS/", "photos").split()[1:]).code == 0
    assert sorted(os.listdir("labels"))[:2] == ["a.png", "b.png"]
    assert second.split()[1:3] == ["export-onnx", "--weights"]
    # the figures again, from what the run left
    command = ("evaluate", "folder", "runs/mine/data", "--split", "val", "--json", "--workers", 0)
    again = run(*command, "--weights", "runs/mine/net.safetensors", "-o", "again")
    for name, figures in json.loads(again.out)["variants"].items():
        assert figures["mean_iou"] == found["variants"][name]["mean_iou"]


def test_goes_on_with_what_was_chosen(run, monkeypatch):
    cases.write_indices(Path("photos"))
    update = Loop._update

    def interrupted(self, *arguments):
        if self.state.iteration == 1:
            os.kill(os.getpid(), 15)
        return update(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_update", interrupted)
        result = run(*RUN, *QUICK)
    assert (result.code, result.out) == (143, "")
    assert "interrupted after 2 of 3 iterations: the same command with --resume" in result.err
    fails(run(*RUN, *QUICK), "--output runs/mine: has a run already")
    for path in Path("photos/labels").iterdir():
        path.unlink()  # they are in the run
    result = run(*RUN, "--resume", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["iterations"], found["classes"]) == (3, ["background", "class 1", "class 2"])
    assert 0 <= found["figures"]["single scale"]["mean_iou"] <= 1


def test_killed_before_there_is_a_configuration(run):
    """Its data are there, whole or not: the same command goes on, and no other one."""
    cases.write_indices(Path("photos"))
    data = find_data("photos")
    write_data(data, Path("runs/mine/data"))
    Path("runs/mine/data/classes.json").unlink()
    Path("runs/mine/data/labels/.a.0123456789ab.png").write_bytes(b"half")
    fails(run(*RUN, *QUICK), "--output runs/mine: has files already")
    Path("runs/mine/mine.txt").write_text("")
    fails(run(*RUN, *QUICK, "--resume"), "has files, but no run: mine.txt (give another)")
    assert not Path("runs/mine/data/classes.json").exists()
    Path("runs/mine/mine.txt").unlink()
    result = run(*RUN, *QUICK, "--resume")
    assert result.code == 0, result.err
    assert not [path for path in Path("runs").rglob(".*") if path.is_file()]
    evaluated = Path("runs/mine/evaluation/counts.sqlite").read_bytes()
    assert run(*RUN, "--resume", "--no-report").code == 0
    assert Path("runs/mine/evaluation/counts.sqlite").read_bytes() == evaluated  # not once more


@pytest.mark.parametrize("where", ["new", "old"])
def test_a_fault_leaves_nothing(run, where):
    root = cases.write_indices(Path("photos"))
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(root / "labels/c.png")
    if where == "old":
        os.makedirs("runs/mine")
    result = run(*RUN, *QUICK)
    assert (result.code, result.out) == (1, "")
    said = (
        "error: photos/labels/c.png: labels of 9 x 7 for c.jpg, which is 40 x 30 (save the labels"
    )
    assert result.err.splitlines()[-1].startswith(said)
    assert not Path("runs/mine/data").exists()
    assert Path("runs/mine").exists() is (where == "old")


def test_other_arguments(run):
    cases.write_indices(Path("photos"))
    fails(run("train", "phtos", "-o", "out"), "phtos: no such folder or configuration; expected a")
    fails(run("train", "folder/mobilenet", "-o", "out"), "did you mean folder/mobilenetv2?")
    photo = "photos/images/a.jpg"
    fails(run("train", photo, "-o", "out"), "a.jpg: no text (expected YAML)")
    fails(run(*RUN, "--data-root", "photos"), "--data-root: photos is the data itself")
    fails(run("train", "folder/mobilenetv2", "-o", "out", "--minutes", 3), "--minutes: of a folder")
    fails(run("train", "photos", "-o", "photos"), "has files already")
    os.mkdir("empty")
    fails(run("train", "empty", "-o", "out"), "empty: no photographs in this folder (give")
    assert not Path("out").exists()
