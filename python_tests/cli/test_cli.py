"""The command line, run as a user does: exit codes, messages, and the files it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_native import __version__
from deeplab_native.cli import main as cli
from python_tests.cli.cli_cases import HEIGHT, LABELS, WIDTH, fails


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(0))
    return e / e.sum(0)


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


@pytest.mark.parametrize("name", ["q.npz", "q.NPZ"])
def test_probabilities_are_in_the_file_that_was_named(given, run, name):
    result = run("crf", "photo.png", "logits.npy", "--save-probabilities", name, "--no-overlay")
    assert (result.code, result.err) == (0, "")
    assert sorted(os.listdir()) == ["logits.npy", "photo.png", "photo_crf.png", name]
    with np.load(name) as file:
        assert file["probabilities"].shape == (LABELS, HEIGHT, WIDTH)


def test_crf_on_a_bridged_lattice(given, run):
    found = {}
    for kind in ("standard", "bridged"):
        args = ["--lattice", kind, "--save-probabilities", f"{kind}.npz", "--no-overlay"]
        result = run("crf", "photo.png", "logits.npy", *args)
        assert result.code == 0
        assert ("bridged lattice" in result.out) == (kind == "bridged")
        with np.load(f"{kind}.npz") as file:
            found[kind] = file["probabilities"]
    assert 0 < np.abs(found["bridged"] - found["standard"]).mean() < 0.05


def test_crf_of_smaller_scores(given, run):
    logits = np.load("logits.npy")
    np.save("half.npy", logits[:, ::2, ::2])
    result = run("crf", "photo.png", "half.npy", "--no-overlay")
    assert result.code == 0
    assert "4 labels, logits (recognised), scaled from 15 x 10" in result.out
    assert not os.path.exists("photo_crf_overlay.png")
    # as many labels as rows: it could be either end
    np.save("small.npy", logits[[0, 1, 2, 3, 0], ::4, ::4])
    fails(run("crf", "photo.png", "small.npy"), "small.npy", "(5, 5, 8)", "--layout chw")
    assert "8 x 5" in run("crf", "photo.png", "small.npy", "--layout", "chw").out
    # another shape than the image's: only if it is said
    np.save("wide.npy", logits[:, ::4, ::2])
    fails(run("crf", "photo.png", "wide.npy"), "wide.npy", "(20, 30)", "--resize", "--layout chw")
    fails(run("crf", "photo.png", "wide.npy", "--resize"), "--layout")
    args = ["--resize", "--layout", "chw"]
    assert "15 x 5" in run("crf", "photo.png", "wide.npy", *args).out


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
        "empty.npy": logits[:0],
        "swapped.npy": logits.transpose(0, 2, 1),
        "many.npy": np.tile(logits, (65, 1, 1)),
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan.npy", ["NaN"]),
        ("infinite.npy", ["infinite"]),
        ("beyond.npy", ["infinite"]),
        ("integer.npy", ["int8"]),
        ("empty.npy", ["(0, 20, 30)"]),
        ("swapped.npy", ["swapped"]),
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
        (["photo.png", "logits.npy", "--lattice", "nope"], ["lattice", "standard", "nope"]),
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
        (["photo.png", "logits.npy", "--threads", "99999"], ["--threads 99999", "give 1 to"]),
    ],
)
def test_crf_of_unusable_arguments(given, run, args, words):
    fails(run("crf", *args), *words)
    assert sorted(os.listdir()) == ["logits.npy", "photo.png"]


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("the moon is full", False),
        ("bad shape (20, 30)", False),
        ("bad shape (labels, H, W)", False),
        ("what was expected (not this) came", False),
        ("the file is there (give another name)", True),
        ("too large (--resize scales it)", True),
        ("name: expected a string, got (20, 30)", True),
        ("name: no nat, did you mean net?", True),
    ],
)
def test_messages_without_advice_point_to_debug(given, run, monkeypatch, message, advice):
    def fail(*args, **options):
        raise ValueError(message)

    monkeypatch.setattr("deeplab_native.jobs._refine_image.read_picture", fail)
    result = run("crf", "photo.png", "logits.npy")
    assert result.err == f"error: {message}{'' if advice else ' (--debug shows where)'}\n"
    fails(result, advice=advice)
    with pytest.raises(AssertionError):
        fails(result, advice=not advice)


def test_debug_shows_the_traceback(given, monkeypatch):
    for args in (["--debug", "crf", "no.png", "no.npy"], ["crf", "no.png", "no.npy", "--debug"]):
        monkeypatch.setattr(sys, "argv", ["deeplab-native", *args])
        with pytest.raises(FileNotFoundError, match=r"no\.png"):
            cli.main()


def test_a_full_disk_leaves_the_old_file(given, run, monkeypatch):
    (given / "photo_crf.png").write_bytes(b"old")

    write = Path.write_bytes

    def write_half(path, content):
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")  # as `write` has it: without a name

    monkeypatch.setattr(Path, "write_bytes", write_half)
    fails(run("crf", "photo.png", "logits.npy"), "photo_crf.png: No space left", "(make room")
    assert (given / "photo_crf.png").read_bytes() == b"old"
    assert sorted(os.listdir()) == ["logits.npy", "photo.png", "photo_crf.png"]
