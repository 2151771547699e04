"""`deeplab-native evaluate`: every core, progress, and a run that can be resumed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from .._files import remove_leftovers, sole_writer
from . import console
from .workers import run_jobs

if TYPE_CHECKING:
    from ..data import SegmentationDataset
    from .evaluate_image import Settings
    from .evaluate_store import Store

COUNTS = "counts.sqlite"
PRELOAD = ["deeplab_native.cli.evaluate_image"]  # which imports torch


class Plan(NamedTuple):
    """A run; `mean_over` are classes by index, None for all."""

    dataset: SegmentationDataset
    root: Path
    settings: Settings
    out: Path
    workers: int
    threads: int
    overwrite: bool
    skip_bad: bool
    mean_over: list[int] | None

    def record(self) -> dict[str, Any]:
        """What counts must have in common to be added up."""
        dataset = self.dataset
        return {
            "dataset": dataset.title,
            "root": self.root.resolve(),
            "classes": dataset.classes,
            "label map": dataset.reader.label_map,
            **self.settings.as_record(),
        }


class _Tally:
    def __init__(self, total: int, before: int) -> None:
        self.total, self.before = total, before
        self.images = 0
        self.failed: dict[str, str] = {}
        self._start = perf_counter()

    def seconds(self) -> float:
        return perf_counter() - self._start

    def describe(self) -> str:
        rate = f", {self.rate():.2f} images/s" if self.images else ""
        return f"{self.seconds():.1f} s{rate}, {self.before} images counted before"

    def rate(self) -> float:
        return self.images / max(1e-9, self.seconds())


def run(plan: Plan) -> None:
    """Raises typer.Exit(1) where an image failed, but for --skip-bad; Exit(130) after Ctrl-C."""
    from .evaluate_report import Report, Variant

    plan.out.mkdir(parents=True, exist_ok=True)
    with sole_writer(plan.out), _store(plan) as store:
        remove_leftovers([plan.out])  # of runs that were killed
        tally = _count(plan, store)
        bad = tally.failed
        if bad:
            _print_failed(plan, tally)
        names = [e.name for e in plan.dataset.entries if e.name not in bad]
        if not names or (bad and not plan.skip_bad):
            raise typer.Exit(1)
        size = len(plan.dataset.classes)
        shape = (plan.settings.widths + 1, size, size)
        variants = {
            name: Variant.of(store.total(name, names, shape), plan.mean_over)
            for name in plan.settings.variants()
        }
    report = Report(
        plan.dataset.title,
        plan.dataset.classes,
        variants,
        {**_json_ready(plan.record()), "images": len(names), "left out": bad},
        plan.mean_over,
    )
    with console.status("Writing"):
        written = report.write(plan.out)
    settings = plan.settings
    pixels = next(iter(variants.values())).scores.pixels
    left_out = [("left out", f"{len(bad)} of {tally.total} images: named above")] if bad else []
    console.out.print(
        console.facts(
            ("data set", f"{plan.dataset.title}, {len(names)} images, {pixels} pixels"),
            *left_out,
            ("CRF", settings.crf.describe() if settings.crf else "none"),
            ("trimap", f"around {settings.around}" if settings.around else "none"),
            ("time", tally.describe()),
            ("written", ", ".join(map(str, written))),
        ),
        *report.tables(),
    )  # fmt: skip


@contextmanager
def _store(plan: Plan) -> Iterator[Store]:
    from .evaluate_report import RESULTS
    from .evaluate_store import Store

    path = plan.out / COUNTS
    if plan.overwrite:
        # the journal first: SQLite would play it back into a new file
        for name in (f"{COUNTS}-journal", COUNTS, *RESULTS):
            (plan.out / name).unlink(missing_ok=True)
    store = Store(path, plan.record())
    try:
        yield store
    finally:
        store.close()


def _count(plan: Plan, store: Store) -> _Tally:
    from .evaluate_image import Job, count_image

    entries = plan.dataset.entries
    done = store.done()
    jobs = [Job(e, plan.dataset.reader, plan.settings, plan.threads) for e in entries]
    # an image whose files have changed since is counted anew
    files = {job.entry.name: job.files() for job in jobs}
    todo = [job for job in jobs if done.get(job.entry.name) != files[job.entry.name]]
    tally = _Tally(len(entries), len(entries) - len(todo))
    workers = min(plan.workers, max(1, len(todo)))
    try:
        with console.images_progress("evaluate") as progress:
            task = progress.add_task("", total=tally.total, completed=tally.before, rate=0.0)
            for job, packed, error in run_jobs(count_image, todo, workers, PRELOAD):
                if error is None:
                    name = job.entry.name
                    store.add(name, files[name], packed)
                    tally.images += 1
                else:
                    tally.failed[job.entry.name] = error
                    console.err.print(f"error: {job.entry.name}: {error}", soft_wrap=True)
                progress.update(task, advance=1, rate=tally.rate())
    except KeyboardInterrupt:
        console.err.print(
            f"interrupted: {tally.before + tally.images} of {tally.total} images are counted; "
            "the same command goes on from there"
        )
        raise typer.Exit(130) from None
    # in the data set's order, whichever worker came first
    tally.failed = {e.name: tally.failed[e.name] for e in entries if e.name in tally.failed}
    return tally


def _print_failed(plan: Plan, tally: _Tally) -> None:
    what = "are left out" if plan.skip_bad else "failed, so that no figures are written"
    console.err.print(f"{len(tally.failed)} of {tally.total} images {what}:")
    for name, error in tally.failed.items():
        console.err.print(f"  {name}: {error}", soft_wrap=True)
    if not plan.skip_bad:
        console.err.print(
            "mend them and run the same command again, or leave them out with --skip-bad"
        )


def _json_ready(record: dict[str, Any]) -> dict[str, Any]:
    import json

    return json.loads(json.dumps(record, default=os.fspath))
