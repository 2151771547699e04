"""Folders for the tests of jobs, small enough to be worked off many times."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deeplab_native import CRFParams, data, jobs
from deeplab_native.crf.candidates import Fixed
from deeplab_native.crf.search import Grid

# Cancelled after the second image, two workers have both of theirs at most reported once more, and
# both of those that they were given meanwhile: five.
IMAGES, LABELS = 6, 4
PARAMS = CRFParams(3, 9, 20, 1, 2)
# what may differ between two runs that do the same: how long they took
_TIMED = {"best.json", "crf.json"}
_DATE = re.compile(rb"<time .*?</time>")  # of a report


def write_folders(top: Path) -> None:
    """images/, scores/ and labels/ of IMAGES drawn images, and classes.json."""
    for name in ("images", "scores", "labels"):
        (top / name).mkdir()
    (top / "classes.json").write_text('{"0": "a", "1": "b", "2": "c", "3": "d"}')
    for i in range(IMAGES):
        random = np.random.default_rng(i)
        height, width = 40 + i, 50
        labels = (np.arange(width) // 14 + np.arange(height)[:, None] // 25 * 2) % LABELS
        photo = labels[..., None] * [60, 30, 50] + random.integers(0, 25, (height, width, 3))
        scores = np.eye(LABELS)[labels] * 2 + random.normal(size=(height, width, LABELS))
        Image.fromarray(photo.astype(np.uint8)).save(top / "images" / f"{i}.png")
        Image.fromarray(labels.astype(np.uint8)).save(top / "labels" / f"{i}.png")
        np.save(top / "scores" / f"{i}.npy", np.moveaxis(scores, -1, 0).astype(np.float32))


def refine(top: Path, output: Path, **how: Any) -> jobs.RefineResult:
    how = {"crf": PARAMS, "overlay": True, **how}
    return jobs.refine(top / "images", top / "scores", output, **how)


def segment(top: Path, output: Path, **how: Any) -> jobs.SegmentResult:
    return jobs.segment(top / "images", output, **{"crf": PARAMS, **how})


def evaluate(top: Path, output: Path, **how: Any) -> jobs.EvaluateResult:
    dataset = data.folder(top)
    return jobs.evaluate(dataset, output, scores=top / "scores", root=top, **{"crf": PARAMS, **how})


def search_crf(top: Path, output: Path, **how: Any) -> jobs.SearchResult:
    grid = Grid((3.0, 5.0), (9.0,), (8.0, 20.0))
    folders = (top / "images", top / "scores", top / "labels")
    return jobs.search_crf(*folders, output, grid=grid, rounds=1, fixed=Fixed(iterations=3), **how)


JOBS: dict[str, Callable[..., Any]] = {
    job.__name__: job for job in (refine, segment, evaluate, search_crf)
}


def results(output: Path) -> dict[str, bytes]:
    """What the files hold, but for records, times and the date of a report."""
    return {
        str(path.relative_to(output)): b""
        if path.name in _TIMED
        else _DATE.sub(b"", path.read_bytes())
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.suffix != ".sqlite"
    }
