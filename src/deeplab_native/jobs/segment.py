"""`jobs.segment`: network, upsampling, softmax, CRF, from photographs to label PNGs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from operator import methodcaller
from pathlib import Path
from typing import Any, Literal

from .._files import nothing_left
from ..crf import CRFParams
from ..models import DeepLab
from ..models.tiles import Progress as TileProgress
from ._engine import Task, collect, unfinished, workplace
from ._execution import Execution
from ._progress import Progress, Tally
from ._record import Record, state_of
from ._segment_asked import Asked, names_of_classes
from ._segment_files import CLASSES, Results, photographs
from ._segment_image import Job, Settings, describe, segment_image, segment_with
from .settings import CRFSettings, FromWeights

RECORD = "segment.sqlite"
PRELOAD = "deeplab_native.jobs._segment_image"  # which imports torch


@dataclass(frozen=True)
class SegmentResult:
    """What `segment` has done.

    Attributes:
        segmented: images of this run.
        skipped: images that an earlier run had finished.
        failed: name of every image that could not be used, and why.
        found: of the images of this run, by name: height and width in pixels, seconds, shares
            (label to part of the image), notes on how the file was read.
        single: what was found in the one image there was; None of several.
        class_names: by label.
        network: the net.
        settings: how the images were labelled.
        written: the folder, or the files of a single image.
        threads: of each process.
        seconds: of this run.
    """

    segmented: int
    skipped: int
    failed: dict[str, str]
    found: dict[str, dict[str, Any]]
    single: dict[str, Any] | None
    class_names: tuple[str, ...]
    network: DeepLab
    settings: Settings
    written: list[Path]
    threads: int
    seconds: float


def segment(
    images: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str | DeepLab | None = None,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    multi_scale: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
    longest_side: int | None = None,
    crf: CRFParams | CRFSettings | FromWeights | Literal["weights"] | None = "weights",
    palette: str | None = None,
    overlay: bool = True,
    save_scores: str | Path | None = None,
    full_scores: bool = False,
    exif: bool = True,
    device: str = "cpu",
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    tile_progress: TileProgress | None = None,
) -> SegmentResult:
    """Labels every pixel of photographs.

    Args:
        images: photographs, any that Pillow reads, or folders of them.
        output: folder for NAME.png, the class of every pixel as an 8-bit palette PNG,
            overlays/NAME.png and classes.json, the names of the classes by index.
        model: name of a net of `models.list_models`; None: the one that the weights belong to; or
            a net, which is used in this process alone (`workers` 0), on its own device.
        weights: its weights, any file that `weights.load` reads; None: those of the package, or
            with `model` random ones, whose labels are meaningless.
        num_classes: labels that the weights were trained for; None: those of the weights, or 21.
        multi_scale: whether the net sees the scales 1, 0.75 and 0.5, fused (the paper's MSC).
        tile, overlap: in pixels, see `predict`.
        longest_side: larger photographs are reduced to this for the net; None: 321 with the
            package's weights, which were trained so, unless there are tiles; with others none.
        crf: parameters, or parameters and how they are used; "weights": those of the weights, or
            of "voc-resnet101"; a function of those of the weights (or None); None: no CRF.
        palette: colours of the labels, of `viz.PALETTES`; None: those of the weights, or VOC's.
        overlay: whether to write the labels over the photographs, too.
        save_scores: folder for NAME.npy, the net's scores before softmax and CRF, as `refine`,
            `evaluate` and `search_crf` take them: (L, h, w) float16 (float32 where a value is
            beyond it) at the resolution of the score map, or of the image where a map would be too
            small to be recognised. None: none.
        full_scores: whether they are of the image's height and width. A map is a sixtieth of that,
            and its points are moved so that its corners are the image's: over ten photographs the
            CRF gave 0.12 % other labels from maps, 0.0005 % from full scores.
        exif: whether photographs are turned upright by their EXIF orientation.
        device: "cpu", "cuda" or "cuda:N".
        resume, overwrite, workers, threads, memory, progress, cancel: see `deeplab_native.jobs`.
            An image is finished when its labels are of the same file, net and settings.
        tile_progress: called as tile_progress(done, total), with `workers` 0 only.

    Raises:
        ValueError, OSError: arguments that do not go together, files that cannot be used, results
            that would lie over the photographs; before anything is written. Of a single image that
            cannot be used, too; of several, they are named in the result.
        Cancelled: `cancel` said so.
    """
    how = Execution(workers, threads, memory, progress, cancel)
    asked = Asked(
        model, weights, num_classes, multi_scale, tile, overlap, longest_side, crf, palette, exif,
        device,
    )  # fmt: skip
    if full_scores and save_scores is None:
        raise ValueError("`full_scores`: no scores are saved (give `save_scores`, a folder)")
    given = [Path(path) for path in ([images] if isinstance(images, str | Path) else images)]
    files = photographs(given)
    results = Results(Path(output), overlay, None if save_scores is None else Path(save_scores))
    results.check(given, files)
    if isinstance(model, DeepLab) and workers:
        raise ValueError(f"`workers` {workers}: a net that is here works here (give 0)")
    net, network, settings = asked.load()
    settings = replace(settings, full_scores=full_scores)
    if workers is None and (len(files) == 1 or network is model):
        how = replace(how, workers=0)
    how = how.for_tasks(len(files), device)
    made_by = {**net.as_record(), **settings.as_record()}
    if network is model:
        made_by["net"] = secrets.token_hex()  # its weights may be others the next time
    key = sha256(json.dumps(made_by).encode()).hexdigest()
    tasks = []
    for stem, path in files.items():
        outputs = results.of(stem)
        job = Job(path, outputs, net, settings, how.threads or 1)
        tasks.append(Task(path.name, job, f"{key} {state_of(path)}", outputs.paths()))
    names = names_of_classes(network)
    results.check_classes(names)
    found: dict[str, dict[str, Any]] = {}
    with _record(results, tasks, resume, overwrite) as kept:
        if kept is not None:
            results.write_classes(names)
        todo = tasks if kept is None or len(tasks) == 1 else unfinished(tasks, kept)
        states = {task.name: task.state for task in todo}
        tally = Tally("segment", len(tasks), len(tasks) - len(todo))

        def keep(job: Job, summary: dict[str, bytes]) -> dict[str, Any]:
            name = job.image.name
            if kept is not None:
                kept.add(name, states[name], summary)
            else:
                results.write_classes(names)
            found[name] = json.loads(summary["summary"])
            return {**found[name], "what": describe(found[name]["shares"], names)}

        here = partial(segment_with, network, progress=tile_progress)
        outcomes = how.outcomes(
            segment_image if how.workers else here,
            [task.job for task in todo],
            preload=PRELOAD,
            need=methodcaller("need"),
        )
        collect(outcomes, tally, how, name=lambda job: job.image.name, keep=keep)
    if len(tasks) == 1 and tally.failed:
        raise ValueError(next(iter(tally.failed.values())))
    return SegmentResult(
        tally.finished, tally.skipped, tally.failed, found,
        next(iter(found.values())) if len(tasks) == 1 else None,
        names, network, settings, results.written(tasks), how.threads or 1, tally.seconds,
    )  # fmt: skip


@contextmanager
def _record(
    results: Results, tasks: Sequence[Task], resume: bool, overwrite: bool
) -> Iterator[Record | None]:
    """None for a single image in a folder without one: it is done in any case.

    Many of these may write to one folder at the same time, and so none is the one who has it.
    """
    if len(tasks) == 1 and not (results.folder / RECORD).exists():
        with nothing_left(results.folders()):
            yield None
        return
    with workplace(
        results.folder, "segment", RECORD, {},
        resume=resume, overwrite=overwrite, folders=results.folders(),
        # also the first image's, where only its place in the record could not be written
        files=[results.folder / CLASSES, *(path for task in tasks for path in task.outputs)],
    ) as kept:  # fmt: skip
        yield kept
