"""Commands that write files, each in a folder that can fail."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from deeplab_native.weights import EMBEDDED
from python_tests.jobs.cases import write_folders

CRF = [
    "--w1", "3", "--sigma-alpha", "9", "--sigma-beta", "20", "--w2", "1", "--sigma-gamma", "2",
    "--threads", "1",
]  # fmt: skip
_HERE = ["--workers", "0"]  # in this process, whose calls can be counted
_TRAIN = [
    "--threads", "1", "--device", "cpu", "--set", "augmentation.crop=33", "--set", "batch=2",
    "--set", "schedule={iterations: 2, head_first: {iterations: 1}}", "--set", "log_every=1",
]  # fmt: skip
# what differs between two runs that do the same: times, dates, and what has them
_TIMED = re.compile(r".*(\.sqlite|\.csv|report\.html|run\.html|best\.json|crf_demo\.png)")
_DATE = re.compile(rb"<time .*?</time>")


class Command(NamedTuple):
    """`deeplab-native NAME ARGUMENTS`, in a folder with images/, scores/ and labels/.

    again: options with which the same command goes on after it failed.
    """

    arguments: list[str]
    again: tuple[str, ...] = ()


def commands() -> dict[str, Command]:
    """By what they do; all of them write into out/ alone."""
    folders = ["images", "scores"]
    found = {
        "crf, an image": [
            *("crf", "images/0.png", "scores/0.npy", "-o", "out/labels.png", *CRF),
            *("--save-probabilities", "out/q.npz"),
        ],
        "crf, a folder": [
            *("crf", *folders, "-o", "out/new", *CRF, *_HERE),
            *("--overlay", "--save-probabilities", "out/q"),
        ],
        "segment, an image": ["segment", "images/0.png", "-o", "out/new", "--threads", "1"],
        "segment, a folder": [
            *("segment", "images", "-o", "out/new", "--overlay", *CRF, *_HERE),
            *("--save-scores", "out/scores"),
        ],
        "evaluate": [
            *("evaluate", "folder", ".", "--scores", "scores", "-o", "out/new", *CRF, *_HERE),
            "--report",
        ],
        "crf-search": [
            *("crf-search", *folders, "labels", "-o", "out/new", "--w1", "3,5", *_HERE),
            *("--sigma-alpha", "9", "--sigma-beta", "8,20", "--rounds", "1", "--threads", "1"),
            *("--iterations", "3", "--report"),
        ],
        "convert-weights": ["convert-weights", str(EMBEDDED), "-o", "out/net.safetensors"],
        "demo": ["demo", "-o", "out/new", "--iterations", "1", "--threads", "1"],
        "export-onnx": ["export-onnx", "-o", "out/net.onnx"],
        "train": ["train", "own", "-o", "out/new", *_TRAIN],
    }
    again = {"train": ("--resume",)}
    return {name: Command(line, again.get(name, ())) for name, line in found.items()}


def write_inputs(folder: Path, images: int = 3) -> None:
    """What the commands read."""
    write_folders(folder)
    for part in ("images", "scores", "labels"):
        for path in sorted((folder / part).iterdir())[images:]:
            path.unlink()
    own = folder / "own"
    for part in ("images", "labels"):
        (own / part).mkdir(parents=True)
        for path in (folder / part).iterdir():
            (own / part / path.name).write_bytes(path.read_bytes())
    (own / "classes.txt").write_text("a\nb\nc\nd\n")


class Said(NamedTuple):
    code: int | str  # or the error that came through
    out: str
    err: str


def call(arguments: list[str]) -> Said:
    """`deeplab-native ARGUMENTS` in this process."""
    from deeplab_native.cli import console, main

    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    before = sys.argv
    sys.argv = ["deeplab-native", *arguments]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            console.out.file, console.err.file = out, err
            main.main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException as error:
        code = f"{type(error).__name__}: {error}"
    finally:
        sys.argv = before
        out.flush()
        err.flush()
        console.out.file = console.err.file = None
    texts = [file.buffer.getvalue().decode() for file in (out, err)]
    return Said(code, *texts)


def contents(folder: Path, differs: Callable[[str], object] = _TIMED.fullmatch) -> dict[str, bytes]:
    """Of all files; of those that may differ only that they are there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "/tensorboard/" in name:  # named by the time and the process
            continue
        if path.is_file():
            found[name] = b"" if differs(name) else _DATE.sub(b"", path.read_bytes())
    return found


def within(folder: Path) -> contextlib.AbstractContextManager[None]:
    return contextlib.chdir(folder) if sys.version_info >= (3, 11) else _chdir(folder)


@contextlib.contextmanager
def _chdir(folder: Path):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
