"""The search over files: checks, worker processes or a GPU, progress, and a run that resumes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .._files import remove_leftovers, sole_writer
from ..crf.candidates import Fixed
from ..crf.search import Candidate, Grid, Search, Total, coarse_to_fine, present_classes
from . import console
from .crf_folder_files import _names
from .crf_search_files import Item
from .crf_search_jobs import Checked, CheckJob, CountedImage, CountJob, Loader, check, count
from .crf_search_record import NAME, Record
from .workers import run_jobs

PRELOAD = ["deeplab_native.cli.crf_search_jobs"]  # which imports torch
# Candidates of one job: enough that reading the image is little beside them, few enough that little
# is lost when a run is ended, and that all workers are busy to the last
_CANDIDATES_OF_A_JOB = 16
_LINES_SHOWN = 20


@dataclass(frozen=True)
class Plan:
    """What is searched, and how; `reading` is what the loader's options are recorded as."""

    items: list[Item]
    loader: Loader
    reading: Mapping[str, Any]
    grid: Grid
    rounds: int
    fixed: Fixed
    classes: list[int] | None  # None: those in the labels
    workers: int
    threads: int
    device: str = "cpu"


@dataclass(frozen=True)
class Found:
    """A finished search over files; `before` is what the scores make without any CRF."""

    search: Search
    before: Total
    classes: list[int]
    num_labels: int


def run(plan: Plan, out: Path, *, overwrite: bool = False) -> Found:
    """Searches, or goes on with the search in `out`, whose record is kept there.

    Raises ValueError where images cannot be used, or a record is of another search, before the
    first CRF; RuntimeError where a worker failed later: what was done is kept.
    """
    checked = _check_all(plan)
    first = next(iter(checked.values()))
    num_labels = first.size[0]
    before = np.zeros((2, num_labels, num_labels), np.int64)
    for one in checked.values():
        one.before.add_to(before)
    classes = _classes(plan.classes, before)
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        remove_leftovers([out])  # of runs that were killed
        path = out / NAME
        if overwrite:
            path.unlink(missing_ok=True)
        digests = {name: one.digest for name, one in checked.items()}
        settings = {**plan.reading, **asdict(plan.fixed)}
        with closing(Record(path, settings, digests, num_labels)) as record:
            search = coarse_to_fine(
                lambda number, candidates: _evaluate(plan, record, checked, number, candidates),
                plan.grid,
                rounds=plan.rounds,
                classes=classes,
            )
    return Found(search, Total(before, 0), classes, num_labels)


def _check_all(plan: Plan) -> dict[str, Checked]:
    """Reads every image; ValueError that names those which cannot be used."""
    jobs = [CheckJob(plan.loader, item, plan.grid, plan.fixed) for item in plan.items]
    checked: dict[str, Checked] = {}
    bad: dict[str, str] = {}
    with _progress("checking", "images") as progress:
        task = progress.add_task("", total=len(jobs))
        for job, result, error in run_jobs(check, jobs, min(plan.workers, len(jobs)), PRELOAD):
            if error is None:
                checked[job.name] = result
            else:
                bad[job.name] = error
            progress.advance(task)
    checked = {item.name: checked[item.name] for item in plan.items if item.name in checked}
    if not bad:
        sizes = {one.size[0]: name for name, one in reversed(checked.items())}
        if len(sizes) > 1:
            counts = " and ".join(f"{n} in {name}" for n, name in sorted(sizes.items()))
            raise ValueError(f"scores of different numbers of labels: {counts} (give one net's)")
        if not any(one.before.numbers for one in checked.values()):
            raise ValueError(f"labels: every pixel is {plan.fixed.void}, void (give other labels)")
        return checked
    _refuse(bad, len(jobs))


def _refuse(bad: Mapping[str, str], total: int) -> NoReturn:
    """ValueError for images that cannot be used; where there are several, a line each before."""
    if len(set(bad.values())) == 1:  # also an option that suits none of them
        names = "all images" if len(bad) == total > 1 else _names(map(Path, bad))
        raise ValueError(f"{names}: {next(iter(bad.values()))}")
    for name in sorted(bad)[:_LINES_SHOWN]:
        console.err.print(f"error: {name}: {bad[name]}", soft_wrap=True)
    more = f", of which {_LINES_SHOWN} are shown" if len(bad) > _LINES_SHOWN else ""
    raise ValueError(
        f"{len(bad)} of {total} images cannot be used{more} (mend them, or choose others)"
    )


def _classes(chosen: list[int] | None, counts: np.ndarray) -> list[int]:
    present = present_classes(counts)
    if chosen is None:
        return present
    absent = [str(c) for c in chosen if c not in present]
    if absent:
        raise ValueError(
            f"--classes: no pixel is labelled {', '.join(absent)}, whose IoU would be undefined "
            "(leave it out, or take more images)"
        )
    return chosen


def _evaluate(
    plan: Plan,
    record: Record,
    checked: Mapping[str, Checked],
    number: int,
    candidates: list[Candidate],
) -> dict[Candidate, Total]:
    todo = {item: record.missing(item.name, candidates) for item in plan.items}
    total, left = len(candidates) * len(todo), sum(map(len, todo.values()))
    errors = []
    with _progress(f"round {number}" if number else "coarse grid", "CRFs") as progress:
        task = progress.add_task("", total=total, completed=total - left)
        for item, done, error in _results(plan, checked, todo):
            if error is None:
                record.add(item.name, done)
                progress.advance(task, len(done))
            else:
                errors.append(f"{item.name}: {error}")
                console.err.print(f"error: {errors[-1]}", soft_wrap=True)
    if errors:
        raise RuntimeError(
            f"{len(errors)} jobs failed, the first: {errors[0]} "
            "(what was done is kept, and the same command goes on from there)"
        )
    return {candidate: record.total(candidate) for candidate in candidates}


def _results(
    plan: Plan, checked: Mapping[str, Checked], todo: Mapping[Item, list[Candidate]]
) -> Iterator[tuple[Item, list[CountedImage], str | None]]:
    """(image, results, None) or (image, [], error)."""
    if plan.device != "cpu":
        from .crf_search_cuda import count_on_device

        sizes = {item: checked[item.name].size for item in todo}
        for item, done in count_on_device(plan.loader, todo, sizes, plan.fixed, plan.device):
            yield item, done, None
        return
    jobs = [
        CountJob(plan.loader, item, part, plan.fixed, plan.threads)
        for item, missing in todo.items()
        for part in _parts(missing)
    ]
    for job, done, error in run_jobs(count, jobs, max(1, min(plan.workers, len(jobs))), PRELOAD):
        yield job.item, done or [], error


def _parts(candidates: list[Candidate]) -> Iterable[tuple[Candidate, ...]]:
    """In their order, which keeps those of the same sigmas together."""
    part: list[Candidate] = []
    for candidate in candidates:
        if len(part) >= _CANDIDATES_OF_A_JOB and candidate[1:] != part[-1][1:]:
            yield tuple(part)
            part = []
        part.append(candidate)
    if part:
        yield tuple(part)


def _progress(what: str, unit: str) -> Progress:
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        # over the last minutes: images differ, and one of them is a few seconds
        TimeRemainingColumn(),
        console=console.err,
        disable=not console.err.is_terminal,
        speed_estimate_period=120,
    )
