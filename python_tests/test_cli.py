"""The command line, run as a user does: exit codes, messages, and the files it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import __version__
from deeplab_native.cli import main as cli

HEIGHT, WIDTH, LABELS = 20, 30, 4


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `deeplab-native ARGS` in this process."""

    def call(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["deeplab-native", *map(str, args)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return Result(exit_.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A folder with photo.png (20x30) and logits.npy, (4, 20, 30); it is the current folder."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    photo = random.integers(0, 60, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    photo[:, WIDTH // 2 :] += 150
    Image.fromarray(photo).save("photo.png")
    logits = random.normal(size=(LABELS, HEIGHT, WIDTH)).astype(np.float32)
    logits[0, :, : WIDTH // 2] += 2
    logits[1, :, WIDTH // 2 :] += 2
    np.save("logits.npy", logits)
    return tmp_path


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(0))
    return e / e.sum(0)


def fails(result: Result, *words: str, code: int = 1) -> None:
    assert result.code == code
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1  # one line
    assert "(" in result.err  # what to do
    for word in words:
        assert word in result.err


# ---- help, version, usage -----------------------------------------------------------------------


def test_help_is_fast_to_load():
    code = (
        "import sys, deeplab_native.cli.main; "
        "print({'torch', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@pytest.mark.parametrize("command", ["demo", "crf", "segment", "info"])
def test_help_of_commands(run, command):
    result = run(command, "--help")
    assert result.code == 0
    assert "Example" in result.out
    assert f"deeplab-native {command}" in result.out
    assert command in run("--help").out


def test_version(run):
    assert run("--version") == (0, f"deeplab-native {__version__}\n", "")


@pytest.mark.parametrize(
    "args", [["nope"], ["crf"], ["crf", "a", "b", "--iterations", "-1"], ["info", "--nope"]]
)
def test_usage_errors(run, args):
    result = run(*args)
    assert result.code == 2
    assert "Usage" in result.err


def test_info(run):
    result = run("info")
    assert result.code == 0
    for word in (
        __version__,
        "instruction set",
        "CUDA",
        "threads",
        "torch",
        "numpy",
        "CRF presets",
    ):
        assert word in result.out


# ---- crf ----------------------------------------------------------------------------------------


def test_crf(given, run):
    result = run("crf", "photo.png", "logits.npy")
    assert result.code == 0
    assert "30 x 20" in result.out
    assert sorted(os.listdir()) == [
        "logits.npy",
        "photo.png",
        "photo_crf.png",
        "photo_crf_overlay.png",
    ]
    with Image.open("photo_crf.png") as image:
        assert image.mode == "P"
        labels = np.array(image)
    assert (labels[:, : WIDTH // 2] == 0).mean() > 0.95
    assert (labels[:, WIDTH // 2 :] == 1).mean() > 0.95
    with Image.open("photo_crf_overlay.png") as image:
        assert image.size == (WIDTH, HEIGHT)


def test_crf_of_probabilities_in_the_other_layout(given, run):
    logits = np.load("logits.npy")
    np.savez("p.npz", p=np.moveaxis(softmax(logits), 0, -1), other=logits)
    run("crf", "photo.png", "logits.npy", "-o", "a.png", "--save-probabilities", "a.npz")
    result = run(
        "crf", "photo.png", "p.npz", "--key", "p", "-o", "b.png", "--save-probabilities", "b.npz"
    )
    assert "probabilities" in result.out
    with np.load("a.npz") as a, np.load("b.npz") as b:
        assert a["probabilities"].shape == (LABELS, HEIGHT, WIDTH)
        np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=2e-3)
        np.testing.assert_allclose(a["probabilities"].sum(0), 1, atol=1e-5)


def test_crf_of_smaller_scores(given, run):
    np.save("small.npy", np.load("logits.npy")[:, ::4, ::4])
    fails(run("crf", "photo.png", "small.npy"), "(4, 5, 8)", "(20, 30)", "--resize")
    fails(run("crf", "photo.png", "small.npy", "--resize"), "--layout")
    result = run("crf", "photo.png", "small.npy", "--resize", "--layout", "chw", "--no-overlay")
    assert result.code == 0
    assert "8 x 5" in result.out
    assert not os.path.exists("photo_crf_overlay.png")


def test_crf_layout_that_fits_both_ways(given, run):
    Image.new("RGB", (6, 6)).save("square.png")
    np.save("cube.npy", np.random.default_rng(0).normal(size=(6, 6, 6)))
    fails(run("crf", "square.png", "cube.npy"), "--layout chw")
    assert run("crf", "square.png", "cube.npy", "--layout", "hwc").code == 0


def test_crf_turns_the_photo_upright(given, run):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    with Image.open("photo.png") as image:
        image.transpose(Image.Transpose.ROTATE_90).save("turned.jpg", exif=exif)
    result = run("crf", "turned.jpg", "logits.npy")
    assert result.code == 0
    assert "30 x 20" in result.out


def bad_scores(logits: np.ndarray) -> dict[str, object]:
    return {
        "nan.npy": np.where(logits > 3, np.nan, logits),
        "infinite.npy": np.where(logits > 3, np.inf, logits),
        "beyond.npy": logits.astype(np.float64) * 1e300,
        "integer.npy": (logits * 10).astype(np.int8),
        "flat.npy": logits[0],
        "empty.npy": logits[:0],
        "swapped.npy": logits.transpose(0, 2, 1),
        "single.npy": logits[:1],
        "many.npy": np.tile(logits, (65, 1, 1)),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan.npy", ["NaN"]),
        ("infinite.npy", ["infinite"]),
        ("beyond.npy", ["infinite"]),
        ("integer.npy", ["int8"]),
        ("flat.npy", ["(20, 30)"]),
        ("empty.npy", ["(0, 20, 30)"]),
        ("swapped.npy", ["swapped"]),
        ("single.npy", ["1 labels"]),
        ("many.npy", ["260 labels", "256"]),
    ],
)
def test_crf_of_unusable_scores(given, run, name, words):
    np.save(name, bad_scores(np.load("logits.npy"))[name])
    fails(run("crf", "photo.png", name), *words)
    assert not os.path.exists("photo_crf.png")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["missing.png", "logits.npy"], ["missing.png"]),
        (["photo.png", "missing.npy"], ["missing.npy"]),
        ([".", "logits.npy"], ["folder"]),
        (["photo.png", "."], ["folder"]),
        (["photo.png", "logits.npy", "--preset", "nope"], ["nope"]),
        (["photo.png", "logits.npy", "--sigma-alpha", "0"], ["sigma_alpha"]),
        (["photo.png", "logits.npy", "--normalization", "nope"], ["nope"]),
        (["photo.png", "logits.npy", "--palette", "nope"], ["cityscapes"]),
        (["photo.png", "logits.npy", "--kind", "nope"], ["logits"]),
        (["photo.png", "logits.npy", "--kind", "probabilities"], ["--kind logits"]),
        (["photo.png", "logits.npy", "--layout", "nope"], ["hwc"]),
        (["photo.png", "logits.npy", "--layout", "hwc"], ["(20, 30)"]),
        (["photo.png", "logits.npy", "-o", "missing/x.png"], ["missing"]),
        (["photo.png", "logits.npy", "-o", "logits.npy/x.png"], ["not a folder"]),
        (["photo.png", "logits.npy", "-o", "x.jpg"], [".png"]),
        (["photo.png", "logits.npy", "-o", "photo.png"], ["input"]),
        (["photo.png", "logits.npy", "--save-probabilities", "logits.npy"], [".npz"]),
    ],
)
def test_crf_of_unusable_arguments(given, run, args, words):
    fails(run("crf", *args), *words)
    assert sorted(os.listdir()) == ["logits.npy", "photo.png"]


def test_debug_shows_the_traceback(given, monkeypatch):
    for args in (["--debug", "crf", "no.png", "no.npy"], ["crf", "no.png", "no.npy", "--debug"]):
        monkeypatch.setattr(sys, "argv", ["deeplab-native", *args])
        with pytest.raises(FileNotFoundError, match=r"no\.png"):
            cli.main()


def test_a_full_disk_leaves_the_old_file(given, run, monkeypatch):
    (given / "photo_crf.png").write_bytes(b"old")

    def save(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Image.Image, "save", save)
    fails(run("crf", "photo.png", "logits.npy"), "photo_crf.png: No space left")
    assert (given / "photo_crf.png").read_bytes() == b"old"
    assert sorted(os.listdir()) == ["logits.npy", "photo.png", "photo_crf.png"]


# ---- segment, demo ------------------------------------------------------------------------------


def test_segment_without_weights_warns(given, run):
    result = run("segment", "photo.png", "--iterations", 2)
    assert result.code == 0
    assert "MEANINGLESS" in result.err
    assert "RANDOM" in result.out
    with Image.open("photo_labels.png") as image:
        assert image.size == (WIDTH, HEIGHT)
    assert os.path.exists("photo_labels_overlay.png")


def test_segment_of_unusable_arguments(given, run):
    fails(run("segment", "missing.png"), "missing.png")
    fails(run("segment", "photo.png", "--model", "nope"), "nope")
    fails(run("segment", "photo.png", "--weights", "no.safetensors"), "no.safetensors")
    assert sorted(os.listdir()) == ["logits.npy", "photo.png"]


def test_demo(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    result = run("demo", "--iterations", 1, "--threads", torch.get_num_threads())
    assert result.code == 0
    assert "FPS" in result.out
    assert "public domain" in result.out
    picture = tmp_path / "deeplab-native-demo" / "crf_demo.png"
    with Image.open(picture) as image:
        assert image.width > 1000
    assert os.listdir(picture.parent) == ["crf_demo.png"]
    (tmp_path / "file").write_text("")
    fails(run("demo", "-o", "file"), "file")
