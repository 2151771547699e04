"""`deeplab-native crf` over folders: pairs, resuming, bad files, interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_native._files import sole_writer
from python_tests.cli.cli_cases import HEIGHT, LABELS, WIDTH, fails

pytestmark = pytest.mark.usefixtures("quick_workers")

STEMS = ["a", "b", "c.d", "e"]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """images/ and scores/ of four small photos; their parent is the current folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("images", "scores"):
        Path(name).mkdir()
    for i, stem in enumerate(STEMS):
        height = HEIGHT + i  # every image has its own size
        photo = random.integers(0, 256, (height, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(photo).save(f"images/{stem}.{'JPG' if i % 2 else 'png'}")
        np.save(f"scores/{stem}.npy", random.normal(size=(LABELS, height, WIDTH)))
    return tmp_path


def crf(run, *args):
    return run("crf", "images", "scores", "--out", "out", *args)


def tree(folder="out"):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


LABEL_FILES = [f"{stem}.png" for stem in STEMS]


def test_same_results_as_one_by_one(folders, run):
    result = crf(run, "--workers", "2", "--overlay", "--save-probabilities", "q", "--scale", "0.5")
    assert (result.code, result.err) == (0, "")
    assert "4 refined, 0 finished before" in result.out and "2 workers" in result.out
    assert tree() == sorted(
        [*LABEL_FILES, "crf.json", "crf.sqlite", *(f"overlays/{n}" for n in LABEL_FILES)]
    )
    assert tree("q") == sorted(f"{stem}.npz" for stem in STEMS)
    for i, stem in enumerate(STEMS):
        image = f"images/{stem}.{'JPG' if i % 2 else 'png'}"
        one = ["-o", "one.png", "--save-probabilities", "one.npz", "--scale", "0.5"]
        assert run("crf", image, f"scores/{stem}.npy", *one, "--threads", "1").code == 0
        assert Path("one.png").read_bytes() == Path(f"out/{stem}.png").read_bytes()
        overlay = Path(f"out/overlays/{stem}.png").read_bytes()
        assert Path("one_overlay.png").read_bytes() == overlay
        with np.load("one.npz") as a, np.load(f"q/{stem}.npz") as b:
            assert np.array_equal(a["probabilities"], b["probabilities"])


def test_a_second_run_does_what_is_missing(folders, run):
    assert crf(run).code == 0
    before = {name: os.stat(f"out/{name}").st_mtime_ns for name in LABEL_FILES}
    Path("out/b.png").unlink()
    # what a run that was killed leaves
    Path("out/.b.0123456789ab.png").write_bytes(b"half")
    result = crf(run)
    assert result.code == 0 and "1 refined, 3 finished before" in result.out
    after = {name: os.stat(f"out/{name}").st_mtime_ns for name in LABEL_FILES}
    assert [name for name in LABEL_FILES if before[name] != after[name]] == ["b.png"]
    assert tree() == [*LABEL_FILES[:3], "crf.json", "crf.sqlite", "e.png"]
    assert "0 refined, 4 finished before" in crf(run).out
    assert "4 refined" in crf(run, "--overlay").out  # which had not been written


def test_other_settings_are_not_mixed(folders, run):
    assert crf(run, "--iterations", "3").code == 0
    result = crf(run, "--iterations", "5", "--w1", "2")
    fails(result, "iterations 3, now 5", "w1 4, now 2", "--overwrite")
    assert "0 refined" in crf(run, "--iterations", "3").out
    assert "4 refined" in crf(run, "--iterations", "5", "--w1", "2", "--overwrite").out
    assert json.loads(Path("out/crf.json").read_text())["iterations"] == 5
    shutil.copytree("scores", "others")
    fails(
        run("crf", "images", "others", "--out", "out", "--iterations", "5", "--w1", "2"),
        "others",
        "--overwrite",
    )


def test_results_without_a_record_are_not_touched(folders, run):
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"mine")
    fails(crf(run), "a.png", "crf.json", "--overwrite")
    Path("out/crf.json").write_text("[")
    fails(crf(run), "crf.json: damaged", "--overwrite")
    assert Path("out/a.png").read_bytes() == b"mine"
    assert crf(run, "--overwrite").code == 0
    assert tree() == [*LABEL_FILES[:3], "crf.json", "crf.sqlite", "e.png"]


def test_bad_pairs_are_named_and_the_rest_goes_on(folders, run):
    Path("images/b.JPG").write_bytes(Path("images/b.JPG").read_bytes()[:300])
    np.save("scores/c.d.npy", np.zeros((LABELS, 5, 15)))
    result = crf(run)
    assert result.code == 1
    assert "2 refined, 0 finished before" in result.out
    for words in (
        "error: b.JPG: ",
        "error: c.d.png: scores/c.d.npy: scores (4, 5, 15)",
        "2 of 4 images failed",
    ):
        assert words in result.err
    assert tree() == ["a.png", "crf.json", "crf.sqlite", "e.png"]
    np.save("scores/c.d.npy", np.zeros((LABELS, HEIGHT + 2, WIDTH)))
    result = crf(run)
    assert result.code == 1 and "1 refined, 2 finished before" in result.out


def test_names_without_partner(folders, run):
    Path("images/lonely.gif").write_bytes(b"")
    Path("images/notes.txt").write_text("no picture")
    Path("scores/e.npy").rename("scores/f.npy")
    result = crf(run)
    assert result.code == 0 and "3 refined" in result.out
    assert "2 images have no scores: e.JPG, lonely.gif" in result.err
    assert "1 scores have no image: f.npy" in result.err
    for path in Path("scores").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    fails(crf(run), "no picture", "a.png", "xa.npy", "name them alike")


def test_a_name_twice(folders, run):
    shutil.copy("images/a.png", "images/a.jpg")
    fails(crf(run), "a.jpg and a.png", "keep one")
    Path("images/a.jpg").unlink()
    np.savez("scores/a.npz", np.zeros(3))
    fails(crf(run), "a.npy and a.npz", "keep one")
    assert not Path("out").exists()


def test_empty_folders(folders, run):
    Path("empty").mkdir()
    fails(run("crf", "empty", "scores", "--out", "out"), "empty: no pictures")
    fails(
        run("crf", "images", "empty", "--out", "out"),
        "empty: no .npy, .npz, .pt, .pth scores or masks",
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["images", "scores"], ["--output"]),
        (["images", "scores", "--out", "images"], ["among the inputs"]),
        (["images", "scores", "--out", "scores/../images"], ["among the inputs"]),
        (["images", "scores", "--out", "o", "--save-probabilities", "scores"], ["among the"]),
        (["images", "scores", "--out", "images/a.png"], ["is a file"]),
        (["images", "scores/a.npy", "--out", "o"], ["images is a folder", "scores/a.npy is not"]),
        (
            ["images/a.png", "scores", "--out", "o.png"],
            ["scores is a folder", "images/a.png is not"],
        ),
        (["images", "scores", "--out", "o", "--workers", "9999"], ["--workers 9999"]),
        (["images", "scores", "--out", "o", "--threads", "9999"], ["--threads 9999"]),
        (["images", "scores", "--out", "o", "--scale", "2"], ["scale: expected"]),
        (["images", "scores", "--out", "o", "--kind", "nope"], ["--kind nope"]),
        (["images", "scores", "--out", "o", "--layout", "nope"], ["--layout nope"]),
        (["images", "scores", "--out", "o", "--palette", "nope"], ["nope"]),
        (["images/a.png", "scores/a.npy", "--overwrite"], ["--overwrite is for folders"]),
        (["images/a.png", "scores/a.npy", "--workers", "1"], ["--workers is for folders"]),
    ],
)
def test_unusable_arguments(folders, run, args, words):
    fails(run("crf", *args), *words)
    assert sorted(os.listdir()) == ["images", "scores"]


def test_one_run_at_a_time(folders, run):
    Path("out").mkdir()
    with sole_writer(Path("out")):
        fails(crf(run), "another run is writing there")
    assert crf(run).code == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_resume_after_an_interruption(folders, run, how):
    """The command in a process of its own, stopped in the middle."""
    size = (300, 400)
    for i in range(12):
        Image.new("RGB", size[::-1], (i, 9, 99)).save(f"images/{i}.png")
        np.save(f"scores/{i}.npy", np.random.default_rng(i).normal(size=(6, *size)))
    code = (  # Ctrl-C is heard, also where the tests run in the background
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from deeplab_native.cli.main import main; main()"
    )
    options = ["--out", "out", "--iterations", "20", "--workers", "2"]
    command = [sys.executable, "-c", code, "crf", "images", "scores", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        # two that are done; the others' workers may not have come to their end, and remove them
        wait_until(lambda: len(list(Path("out").glob("[!.]*.png"))) >= 4)
        process.send_signal(how)
        start = time.monotonic()
        _, err = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "of 16 images are done; the same command goes on from there" in err
        assert "Traceback" not in err
        assert not list(Path("out").glob(".*"))
    done = set(tree()) - {"crf.json", "crf.sqlite", "crf.sqlite-journal"}
    assert 2 <= len([name for name in done if not name.startswith(".")]) < 16
    for name in done:
        if not name.startswith("."):
            with Image.open(f"out/{name}") as image:
                image.load()  # whole
    wait_until(lambda: run("crf", "images", "scores", *options).code == 0)
    assert len(tree()) == 18 and not list(Path("out").glob(".*"))


def wait_until(condition) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
