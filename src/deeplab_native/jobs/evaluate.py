"""`jobs.evaluate`: mean IoU and trimaps of weights or of score maps, with and without the CRF."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import methodcaller
from pathlib import Path
from typing import Literal

import numpy as np

from ..crf import CRFParams
from ..data import SegmentationDataset
from ..metrics import AROUND, TRIMAP_WIDTHS
from ._engine import Task, check_output_folder, collect, unfinished, workplace
from ._evaluate_examples import choose, mean_iou_present, shots
from ._evaluate_html import build
from ._evaluate_image import (
    ABOUT,
    Job,
    Net,
    ScoreMaps,
    Settings,
    check_weights,
    count_image,
    unpack,
)
from ._evaluate_report import RESULTS, Report, Variant
from ._execution import Execution
from ._progress import About, ImagesFailedError, Progress, Tally
from ._record import Record
from ._reports import machine_of
from .scores import ScoreFormat
from .settings import CRFSettings, FromWeights, check_device

RECORD = "counts.sqlite"
PRELOAD = "deeplab_native.jobs._evaluate_image"  # which imports torch


@dataclass(frozen=True)
class EvaluateResult:
    """The figures of a data set.

    Attributes:
        report: classes, figures by variant, and everything that they depend on.
        settings: what was compared, and how.
        images: how many the figures are of.
        counted: images of this run.
        skipped: images that an earlier run had counted.
        failed: name of every image that was left out (`skip_bad`), and why.
        kinds: of score maps, how many are of each kind.
        notes: what was done to files that their content does not show, and the images' names.
        written: the files.
        seconds: of this run.
    """

    report: Report
    settings: Settings
    images: int
    counted: int
    skipped: int
    failed: dict[str, str]
    kinds: dict[str, int]
    notes: dict[str, list[str]]
    written: list[Path]
    seconds: float


def evaluate(
    dataset: SegmentationDataset,
    output: str | Path,
    *,
    weights: str | Path | None = None,
    scores: str | Path | None = None,
    scores_format: ScoreFormat | None = None,
    crf: CRFParams | CRFSettings | FromWeights | Literal["weights"] | None = "weights",
    single_scale: bool = True,
    multi_scale: bool = False,
    trimap: str = "auto",
    mean_over: Sequence[str] | None = None,
    skip_bad: bool = False,
    exif: bool = True,
    root: str | Path | None = None,
    device: str = "cpu",
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    report: bool = True,
    command: str | None = None,
) -> EvaluateResult:
    """Evaluates weights or score maps on a data set, before and after the CRF.

    Args:
        dataset: of `deeplab_native.data`, whole or a `subset`.
        output: folder for report.html, evaluation.json, classes.csv, trimap.csv, evaluation.png,
            and counts.sqlite, the counts of every image. Images whose files have changed since
            they were counted are counted anew.
        weights: a net: .safetensors written by `weights.save`.
        scores: instead of a net, the folder of .npy, .npz or .pt score maps named like the images.
        scores_format: how they are read.
        crf: parameters, or parameters and how they are used; "weights" takes those of the weights,
            or of "voc-resnet101"; a function makes them from those of the weights (or None); None
            leaves the CRF out.
        single_scale, multi_scale: of a net: at the images' own size; at 1, 0.75 and 0.5, fused
            (the paper's MSC). Both are compared.
        trimap: "void" (the paper's bands around the void outlines of VOC), "boundary" (around
            changes of the label), "none", or "auto": what the data set has.
        mean_over: the classes of the means; None: all.
        skip_bad: whether to leave out images that cannot be used.
        exif: whether photographs are turned upright by their EXIF orientation.
        root: folder of the data set; None: the one that all its files are in.
        device: of the net and the CRF: "cpu", "cuda" or "cuda:N".
        resume, overwrite, workers, threads, memory, progress, cancel, report, command: see
            `deeplab_native.jobs`.

    Raises:
        ValueError, OSError: arguments that do not go together, files or a record that cannot be
            used; before anything is counted.
        ImagesFailedError: images could not be used, and not `skip_bad`; the others are counted,
            and the same call goes on from there.
        Cancelled: `cancel` said so.
    """
    how = Execution(workers, threads, memory, progress, cancel)
    source = _source(weights, scores, scores_format, single_scale, multi_scale, device)
    check_device(device, kernels=crf is not None)
    around, widths = around_what(trimap, dataset)
    over = None if mean_over is None else class_indices(mean_over, dataset.classes)
    out = Path(output)
    top = _root_of(dataset) if root is None else Path(root)
    check_output_folder(out, [top, *([Path(scores)] if scores is not None else [])])
    if isinstance(source, Net):
        params = check_weights(source, len(dataset.classes)).crf
    else:
        _check_scores(source, dataset)
        params = None
    chosen = CRFSettings.chosen(crf, params)
    settings = Settings(source, chosen and chosen.exact(), around, widths)
    how = how.for_tasks(len(dataset), device)
    record = {
        "dataset": dataset.title,
        "root": top.resolve(),
        "classes": dataset.classes,
        "label map": dataset.reader.label_map,
        **settings.as_record(),
        "exif": exif,
    }
    reader = replace(dataset.reader, exif=exif)
    jobs = [Job(e, reader, settings, how.threads or 1) for e in dataset.entries]
    tasks = [Task(job.entry.name, job, job.state()) for job in jobs]
    results = [out / name for name in RESULTS]
    with workplace(
        out, "evaluate", RECORD, record, resume=resume, overwrite=overwrite, results=results
    ) as kept:
        tally = _count(tasks, kept, how)
        failed = {task.name: tally.failed[task.name] for task in tasks if task.name in tally.failed}
        names = [task.name for task in tasks if task.name not in failed]
        if failed and not (skip_bad and names):
            raise ImagesFailedError(failed, tally.total)
        shape = (widths + 1, len(dataset.classes), len(dataset.classes))
        sums = {name: _total(kept, name, names, shape, over) for name in settings.variants()}
        about = json.loads(json.dumps(record, default=os.fspath))
        found = Report(
            dataset.title,
            dataset.classes,
            {name: Variant.of(total, over) for name, (total, _) in sums.items()},
            {**about, "images": len(names), "left out": failed},
            over,
            choose({name: by_image for name, (_, by_image) in sums.items()}),
        )
        html = None
        if report:
            pictures = {e.image: shots(e, dataset, reader, kept) for e in found.examples}
            html = build(found, pictures, command=command, machine=machine_of(device))
        understood = _understood(kept, names)
    return EvaluateResult(
        found, settings, len(names), tally.finished, tally.skipped, failed,
        understood.kinds, understood.notes,
        found.write(out, html), tally.seconds,
    )  # fmt: skip


def _count(tasks: list[Task], kept: Record, how: Execution) -> Tally:
    todo = unfinished(tasks, kept)
    states = {task.name: task.state for task in todo}
    tally = Tally("evaluate", len(tasks), len(tasks) - len(todo))
    jobs = [task.job for task in todo]
    collect(
        how.outcomes(count_image, jobs, preload=PRELOAD, need=methodcaller("need")),
        tally,
        how,
        name=str,
        keep=lambda job, packed: kept.add(str(job), states[str(job)], packed),
    )
    return tally


def _total(
    kept: Record,
    variant: str,
    names: Iterable[str],
    shape: tuple[int, ...],
    classes: list[int] | None,
) -> tuple[np.ndarray, dict[str, float]]:
    """The sum of the images' counts, and the mean IoU of every image."""
    wanted = set(names)
    total, by_image = np.zeros(shape, np.int64), {}
    for image, _, packed in kept.results(variant):
        if image in wanted:
            try:
                counts = unpack(packed, shape)
            except ValueError as error:
                raise kept.damaged(image, error) from None
            total += counts
            by_image[image] = mean_iou_present(counts.sum(0), classes)
    return total, by_image


def _understood(kept: Record, names: Iterable[str]) -> About:
    """How the images' files were read; records of earlier versions do not say it."""
    wanted, found = set(names), About()
    for image, _, content in kept.results(ABOUT):
        if image in wanted:
            try:
                found.add(image, json.loads(content))
            except ValueError as error:
                raise kept.damaged(image, error) from None
    return found


def _source(
    weights: str | Path | None,
    scores: str | Path | None,
    scores_format: ScoreFormat | None,
    single_scale: bool,
    multi_scale: bool,
    device: str,
) -> Net | ScoreMaps:
    if (weights is None) == (scores is None):
        raise ValueError("`weights` or `scores`: expected one of them (give a net or score maps)")
    if scores is not None:
        if multi_scale or not single_scale:
            raise ValueError("scores are of one scale: `multi_scale` is for a net (give `weights`)")
        return ScoreMaps(Path(scores).resolve(), scores_format or ScoreFormat(), device)
    if not (single_scale or multi_scale):
        raise ValueError("neither scale: nothing is left (add `multi_scale`)")
    if scores_format is not None:
        raise ValueError("a format of scores is for score maps, not for a net (give `scores`)")
    assert weights is not None
    return Net(Path(weights).resolve(), single_scale, multi_scale, device)


def _root_of(dataset: SegmentationDataset) -> Path:
    files = [path.resolve().parent for entry in dataset.entries for path in entry[1:]]
    return Path(os.path.commonpath(files))


def around_what(trimap: str, dataset: SegmentationDataset) -> tuple[str | None, int]:
    """What trimaps are around, and how wide they are."""
    if trimap == "auto":
        trimap = "void" if dataset.void_borders else "boundary"
    if trimap == "none":
        return None, 0
    if trimap not in AROUND:
        raise ValueError(f"`trimap` {trimap} is unknown (use auto, none, {', '.join(AROUND)})")
    return trimap, TRIMAP_WIDTHS


def class_indices(wanted: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Of class names, each of them once."""
    for name in wanted:
        if name not in classes:
            raise ValueError(f"`mean_over`: no class {name!r} (use {', '.join(classes)})")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"`mean_over` {', '.join(wanted)}: a class twice (name each once)")
    return [classes.index(name) for name in wanted]


def _check_scores(source: ScoreMaps, dataset: SegmentationDataset) -> None:
    """Raises where an image has no score map: figures of the others would not be the set's."""
    if not source.folder.is_dir():
        raise NotADirectoryError(f"`scores` {source.folder} is no folder (give one of score maps)")
    missing = [e.name for e in dataset.entries if not source.path(e.name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"`scores`: {source.path(missing[0])} (or .npz, .pt) is missing; {len(missing)} of "
            f"{len(dataset)} images have no scores (make them, or take a subset that has them)"
        )
