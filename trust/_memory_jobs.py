"""Images through `deeplab_native.jobs`: this process gives them out, two workers do them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from deeplab_native import jobs, viz

from ._memory_here import PARAMS
from ._pictures import Pictures
from ._process import Growth, Use, descendants, growth, use_of

_DISTINCT = 200  # photographs; their files have many names
_WORKERS = 2


def refine(images: int, every: int, say: Callable[[int, int], None]) -> dict[str, Growth]:
    """The CRF on a folder of photographs and label PNGs."""
    return _watched("refine", images, every, say)


def segment(images: int, every: int, say: Callable[[int, int], None]) -> dict[str, Growth]:
    """Net and CRF on a folder of photographs."""
    return _watched("segment", images, every, say)


def _watched(
    job: str, images: int, every: int, say: Callable[[int, int], None]
) -> dict[str, Growth]:
    done: list[int] = []
    here: list[Use] = []
    workers: list[Use] = []

    def look(progress: jobs.Progress) -> None:
        if progress.done and progress.done % every == 0:
            theirs = _workers()
            if len(theirs) == _WORKERS:  # at the very end one may be gone already
                done.append(progress.done)
                here.append(use_of())
                workers.append(sum(theirs[1:], theirs[0]))
        say(progress.done, images)

    with TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, images)
        usual = {"workers": _WORKERS, "threads": 1, "progress": look}
        if job == "refine":
            found = jobs.refine(
                folder / "photos", folder / "labels", folder / "out", crf=PARAMS, **usual
            )
            finished, failed = found.refined, found.failed
        else:
            segmented = jobs.segment(folder / "photos", folder / "out", overlay=False, **usual)
            finished, failed = segmented.segmented, segmented.failed
        if failed or finished != images:
            raise AssertionError(f"{finished} of {images} finished; failed: {failed}")
        written = sum(1 for _ in (folder / "out").glob("*.png"))
        if written != images:
            raise AssertionError(f"{written} files of {images} images")
    return {f"{job}": growth(done, here), f"{job}'s workers": growth(done, workers)}


def _workers() -> list[Use]:
    """Those that compute: they have torch, the server that they are forked from has it, too."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            if _parent(pid) != os.getpid():
                found.append(use_of(pid))
    return found


def _parent(pid: int) -> int:
    return int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])


def _write(folder: Path, images: int) -> None:
    """photos/ and labels/: files of a name for each image, that are links to a few."""
    pictures = Pictures()
    photos, labels, own = (folder / name for name in ("photos", "labels", "own"))
    for made in (photos, labels, own):
        made.mkdir()
    for number in range(min(images, _DISTINCT)):
        photo, scores = pictures[number]
        Image.fromarray(photo).save(own / f"{number}.jpg", quality=92)
        found = scores.argmax(0).astype(np.uint8)
        viz.save_label_png(own / f"{number}.png", found, viz.voc_palette())
    for number in range(images):
        first = number % _DISTINCT
        os.link(own / f"{first}.jpg", photos / f"{number:06}.jpg")
        os.link(own / f"{first}.png", labels / f"{number:06}.png")
