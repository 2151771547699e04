"""`deeplab-native crf` over folders: every core, progress, and a run that can be resumed."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import typer

from .._files import remove_leftovers, sole_writer
from . import console, crf_folder_files
from .crf_image import Outputs, Settings
from .workers import run_jobs

PRELOAD = ["deeplab_native.cli.crf_image"]  # which imports torch
_OVERLAYS = "overlays"  # the folder of them in --out: no label PNG can have their names there


class Job(NamedTuple):
    image: Path
    scores: Path
    outputs: Outputs
    settings: Settings
    threads: int


class Done(NamedTuple):
    pixels: int
    changed: int


def refine_pair(job: Job) -> Done:
    """In a worker: one image from files to files."""
    import numpy as np
    import torch

    from . import crf_image

    torch.set_num_threads(job.threads)
    loaded = crf_image.load(job.image, job.scores, job.settings)
    refined = crf_image.refine(loaded, job.settings)
    crf_image.write(job.outputs, loaded, refined, job.settings)
    return Done(refined.after.size, int(np.count_nonzero(refined.before != refined.after)))


class Folders(NamedTuple):
    """What the user gave; probabilities may be None."""

    images: Path
    scores: Path
    out: Path
    probabilities: Path | None

    def check(self) -> None:
        inputs = {self.images.resolve(), self.scores.resolve()}
        given = [("--out", self.out), ("--out", self.out / _OVERLAYS)]
        if self.probabilities is not None:
            given.append(("--save-probabilities", self.probabilities))
        for option, folder in given:
            if folder.exists() and not folder.is_dir():
                raise NotADirectoryError(f"{option} {folder} is a file (give a folder)")
            if folder.resolve() in inputs:
                raise ValueError(
                    f"{option} {folder}: results would lie among the inputs (give another folder)"
                )

    def outputs(self, stem: str, overlay: bool) -> Outputs:
        return Outputs(
            self.out / f"{stem}.png",
            self.out / _OVERLAYS / f"{stem}.png" if overlay else None,
            self.probabilities / f"{stem}.npz" if self.probabilities else None,
        )

    def written(self) -> list[Path]:
        own = [self.out, self.out / _OVERLAYS]
        return [f for f in (*own, self.probabilities) if f is not None and f.is_dir()]


def run(
    folders: Folders,
    settings: Settings,
    *,
    overlay: bool,
    overwrite: bool,
    workers: int | None,
    threads: int,
) -> None:
    """Raises typer.Exit(1) where an image failed, Exit(130) after Ctrl-C."""
    folders.check()
    pairs = crf_folder_files.match(folders.images, folders.scores)
    jobs = [
        Job(image, scores, folders.outputs(stem, overlay), settings, threads)
        for stem, (image, scores) in pairs.both.items()
    ]
    workers = min(workers or len(os.sched_getaffinity(0)), len(jobs))
    for line in crf_folder_files.describe_unmatched(pairs):
        console.err.print(f"warning: {line}")
    folders.out.mkdir(parents=True, exist_ok=True)
    with sole_writer(folders.out):
        todo = _unfinished(jobs, folders, settings, overwrite)
        tally = _Tally(total=len(jobs), skipped=len(jobs) - len(todo))
        try:
            _work_off(todo, workers, tally)
        except KeyboardInterrupt:
            console.err.print(
                f"interrupted: {tally.skipped + tally.images} of {tally.total} images are done; "
                "the same command goes on from there"
            )
            raise typer.Exit(130) from None
        finally:
            remove_leftovers(folders.written())  # of workers that were ended while they wrote
    tally.print(folders, settings, workers)
    if tally.failed:
        raise typer.Exit(1)


def _unfinished(
    jobs: list[Job], folders: Folders, settings: Settings, overwrite: bool
) -> list[Job]:
    """The jobs that are left, with folders and record ready for them."""
    record = {
        "images": str(folders.images.resolve()),
        "scores": str(folders.scores.resolve()),
        **settings.as_record(),
    }
    there = [path for job in jobs for path in job.outputs.paths() if path.exists()]
    if overwrite:
        # before the new record: no file may ever lie beside a record that it was not made by
        for path in there:
            path.unlink()
    else:
        crf_folder_files.check_record(folders.out, record, there)
    for path in {path.parent for job in jobs for path in job.outputs.paths()}:
        path.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folders.written())  # of runs that were killed
    crf_folder_files.write_record(folders.out, record)
    return [job for job in jobs if not all(path.is_file() for path in job.outputs.paths())]


class _Tally:
    def __init__(self, *, total: int, skipped: int) -> None:
        self.total, self.skipped = total, skipped
        self.images = self.pixels = self.changed = 0
        self.failed: list[str] = []
        self._start = perf_counter()

    def rate(self) -> float:
        return self.images / max(1e-9, perf_counter() - self._start)

    def add(self, done: Done) -> None:
        self.images += 1
        self.pixels += done.pixels
        self.changed += done.changed

    def print(self, folders: Folders, settings: Settings, workers: int) -> None:
        changed = f"{self.changed / self.pixels:.2%} of the pixels" if self.pixels else "-"
        seconds = perf_counter() - self._start
        console.out.print(
            console.facts(
                ("images", f"{self.images} refined, {self.skipped} finished before"),
                ("failed", str(len(self.failed))),
                ("CRF", settings.describe()),
                ("time", f"{seconds:.1f} s, {self.rate():.2f} images/s on {workers} workers"),
                ("changed", changed),
                ("written", ", ".join(map(str, folders.written()))),
            )
        )
        if self.failed:
            console.err.print(f"{len(self.failed)} of {self.total} images failed:")
            for line in self.failed:
                console.err.print(f"  {line}", soft_wrap=True)


def _work_off(todo: list[Job], workers: int, tally: _Tally) -> None:
    with console.images_progress("dense CRF") as progress:
        task = progress.add_task("", total=tally.total, completed=tally.skipped, rate=0.0)
        for job, done, error in run_jobs(refine_pair, todo, workers, PRELOAD):
            if error is None:
                tally.add(done)
            else:
                line = f"{job.image.name}: {error}"
                tally.failed.append(line)
                console.err.print(f"error: {line}", soft_wrap=True)
            progress.update(task, advance=1, rate=tally.rate())
