"""A search over images: checks, worker processes or a GPU, and a run that resumes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import numpy as np

from ..crf.candidates import Fixed
from ..crf.search import Candidate, Grid, Search, Total, coarse_to_fine, present_classes
from ._engine import collect, workplace
from ._execution import Execution
from ._progress import About, ImagesFailedError, Tally
from ._record import ADVICE
from ._search_files import Item
from ._search_image import Checked, CheckJob, CountJob, Loader, check, count
from ._search_record import NAME, OLD_NAME, SearchRecord
from ._workers import Outcome

PRELOAD = "deeplab_native.jobs._search_image"  # which imports torch
# Candidates of one job: enough that reading the image is little beside them, few enough that little
# is lost when a run is ended, and that all workers are busy to the last
_CANDIDATES_OF_A_JOB = 16


@dataclass(frozen=True)
class Plan:
    """What is searched; `reading` is what the loader's options are recorded as."""

    items: list[Item]
    loader: Loader
    reading: Mapping[str, Any]
    grid: Grid
    rounds: int
    fixed: Fixed
    classes: list[int] | None  # None: those in the labels
    device: str = "cpu"


@dataclass(frozen=True)
class Found:
    """A finished search over files; `before` is what the scores make without any CRF.

    `about` says how the files were read.
    """

    search: Search
    before: Total
    classes: list[int]
    num_labels: int
    about: About


def run(
    plan: Plan, out: Path, how: Execution, *, resume: bool = True, overwrite: bool = False
) -> Found:
    """Searches, or goes on with the search in `out`, whose record is kept there.

    Raises ValueError where images cannot be used, or a record is of another search, before the
    first CRF; RuntimeError where a worker failed later: what was done is kept.
    """
    checked = _check_all(plan, how.for_tasks(len(plan.items)))  # on the CPU in any case
    how = how.for_tasks(len(plan.items), plan.device)
    first = next(iter(checked.values()))
    num_labels = first.size[0]
    before = np.zeros((2, num_labels, num_labels), np.int64)
    for one in checked.values():
        one.before.add_to(before)
    about = About()
    for name, one in checked.items():
        about.add(name, one.about)
    classes = _classes(plan.classes, before)
    old = out / OLD_NAME
    if old.exists() and not overwrite and not (out / NAME).exists():
        raise ValueError(f"{old}: of an earlier version, with which this one cannot go on {ADVICE}")
    settings = {**plan.reading, **asdict(plan.fixed)}
    with workplace(
        out, "crf-search", NAME, settings, resume=resume, overwrite=overwrite, results=[old]
    ) as kept:
        digests = {name: one.digest for name, one in checked.items()}
        record = SearchRecord(kept, digests, num_labels)
        search = coarse_to_fine(
            partial(_evaluate, plan, how, record, checked),
            plan.grid,
            rounds=plan.rounds,
            classes=classes,
        )
    return Found(search, Total(before, 0), classes, num_labels, about)


def _check_all(plan: Plan, how: Execution) -> dict[str, Checked]:
    """Reads every image; ImagesFailedError that names those which cannot be used."""
    jobs = [CheckJob(plan.loader, item, plan.grid, plan.fixed) for item in plan.items]
    found: dict[str, Checked] = {}
    tally = Tally("checking", len(jobs))

    def keep(job: CheckJob, result: Checked) -> None:
        found[job.name] = result

    outcomes = how.outcomes(check, jobs, preload=PRELOAD, need=methodcaller("need"))
    collect(outcomes, tally, how, name=attrgetter("name"), keep=keep)
    if tally.failed:
        raise ImagesFailedError(dict(sorted(tally.failed.items())), len(jobs))
    checked = {item.name: found[item.name] for item in plan.items}
    sizes = {one.size[0]: name for name, one in reversed(checked.items())}
    if len(sizes) > 1:
        counts = " and ".join(f"{n} in {name}" for n, name in sorted(sizes.items()))
        raise ValueError(f"scores of different numbers of labels: {counts} (give one net's)")
    if not any(one.before.numbers for one in checked.values()):
        raise ValueError(f"labels: every pixel is {plan.fixed.void}, void (give other labels)")
    return checked


def _classes(chosen: list[int] | None, counts: np.ndarray) -> list[int]:
    present = present_classes(counts)
    if chosen is None:
        return present
    absent = [str(c) for c in chosen if c not in present]
    if absent:
        raise ValueError(
            f"`classes`: no pixel is labelled {', '.join(absent)}, whose IoU would be undefined "
            "(leave it out, or take more images)"
        )
    return chosen


def _evaluate(
    plan: Plan,
    how: Execution,
    record: SearchRecord,
    checked: Mapping[str, Checked],
    number: int,
    candidates: list[Candidate],
) -> dict[Candidate, Total]:
    todo = {item: record.missing(item.name, candidates) for item in plan.items}
    total, left = len(candidates) * len(todo), sum(map(len, todo.values()))
    stage = f"round {number}" if number else "coarse grid"
    tally = Tally(stage, total, total - left, unit="CRFs")
    collect(
        _outcomes(plan, how, checked, todo),
        tally,
        how,
        name=attrgetter("name"),
        keep=lambda job, counted: record.add(job.name, counted),
        weight=lambda job: len(job.candidates),
    )
    if tally.failed:
        name, error = next(iter(tally.failed.items()))
        raise RuntimeError(
            f"{len(tally.failed)} of {len(todo)} images failed, the first: {name}: {error} "
            "(what was done is kept, and the same command goes on from there)"
        )
    return {candidate: record.total(candidate) for candidate in candidates}


def _outcomes(
    plan: Plan,
    how: Execution,
    checked: Mapping[str, Checked],
    todo: Mapping[Item, list[Candidate]],
) -> Generator[Outcome, None, None]:
    """Of jobs with the counts of their candidates."""
    if plan.device != "cpu":
        yield from _on_device(plan, checked, todo, how.cancel or (lambda: False))
        return
    jobs = [
        CountJob(plan.loader, item, part, plan.fixed, how.threads or 1)
        for item, missing in todo.items()
        for part in _parts(missing)
    ]
    yield from how.outcomes(count, jobs, preload=PRELOAD, need=methodcaller("need"))


def _on_device(
    plan: Plan,
    checked: Mapping[str, Checked],
    todo: Mapping[Item, list[Candidate]],
    stop: Callable[[], bool],
) -> Iterator[Outcome]:
    from ._search_cuda import count_on_device

    sizes = {item: checked[item.name].size for item in todo}
    for item, done in count_on_device(plan.loader, todo, sizes, plan.fixed, plan.device):
        counted: tuple[Candidate, ...] = tuple(one.candidate for one in done)
        yield Outcome(CountJob(plan.loader, item, counted, plan.fixed, 1), done, None)
        if stop():
            return


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
