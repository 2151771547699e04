"""`jobs.refine`: the dense CRF on folders of photographs and scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from .._files import atomic_path
from .._images import by_stem, picture_suffixes
from ..crf import CRFParams
from ._engine import Task, check_output_folder, collect, unfinished, workplace
from ._execution import Execution
from ._progress import About, Progress, Tally, shortened
from ._record import ADVICE, Record, describe_differences, state_of
from ._refine_image import Job, Outputs, Settings, refine_image
from ._score_files import SUFFIXES, suffixes_of
from .scores import CONFIDENCE, ScoreFormat
from .settings import CRFSettings, check_device

RECORD = "crf.sqlite"
SETTINGS = "crf.json"  # what the labels were made with, for people
PRELOAD = "deeplab_native.jobs._refine_image"  # which imports torch
_OVERLAYS = "overlays"  # the folder of them in the output: no label PNG can have their names there


@dataclass(frozen=True)
class RefineResult:
    """What `refine` has done.

    Attributes:
        refined: images of this run.
        skipped: images that an earlier run had finished.
        failed: name of every image that could not be used, and why.
        pixels, changed: of the images of this run, all pixels and those with another label.
        kinds: of the images of this run, how many had scores of each kind, or labels.
        notes: what was done to files that their content does not show, and the images' names.
        unmatched: what had no partner, a line each.
        folders: where files were written.
        workers: processes, 0 for none.
        seconds: of this run.
    """

    refined: int
    skipped: int
    failed: dict[str, str]
    pixels: int
    changed: int
    kinds: dict[str, int]
    notes: dict[str, list[str]]
    unmatched: list[str]
    folders: list[Path]
    workers: int
    seconds: float


class Pairs(NamedTuple):
    """Images with their scores, by their names without suffix, and what has no partner."""

    both: dict[str, tuple[Path, Path]]
    images_alone: list[Path]
    scores_alone: list[Path]

    def unmatched(self) -> list[str]:
        """A line for the images, and one for the scores, that have no partner."""
        lines = []
        for alone, what in (
            (self.images_alone, "images have no scores"),
            (self.scores_alone, "scores have no image"),
        ):
            if alone:
                lines.append(f"{len(alone)} {what}: {_names(alone)}")
        return lines


def refine(
    images: str | Path,
    scores: str | Path,
    output: str | Path,
    *,
    crf: CRFParams | CRFSettings | None = None,
    scores_format: ScoreFormat | None = None,
    palette: str = "voc",
    confidence: float = CONFIDENCE,
    exif: bool = True,
    overlay: bool = False,
    probabilities: str | Path | None = None,
    device: str = "cpu",
    resume: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> RefineResult:
    """Refines the scores of every image that has some, from folders to a folder of label PNGs.

    For one picture in memory there is `deeplab_native.refine`.

    Args:
        images: folder of photographs, any that Pillow reads.
        scores: folder of .npy, .npz, .pt or .pth files of the same names, (L, H, W) or (H, W, L),
            or integer label maps (H, W); or, where there are none, of masks and label PNGs.
        output: folder for NAME.png, the class of every pixel as an 8-bit palette PNG; `crf.json`
            there says what they were made with.
        crf: parameters, or parameters and how they are used; None: those of "voc-resnet101".
        scores_format: how the scores are read.
        palette: colours of the labels, "voc", "cityscapes" or "okabe-ito", and of masks in
            colours.
        confidence: the probability that a label of a mask is right.
        exif: whether photographs and masks are turned upright by their EXIF orientation.
        overlay: whether to write the labels over the photographs, too, to output/overlays/.
        probabilities: folder for NAME.npz with Q, `probabilities` (L, H, W) float32; None: none.
        device: "cpu", "cuda" or "cuda:N".
        resume, overwrite, workers, threads, memory, progress, cancel: see `deeplab_native.jobs`.

    Returns:
        RefineResult. An image that cannot be used does not end the run; it is named there.

    Raises:
        ValueError, OSError: folders, settings or a record of others are not usable; nothing has
            been written then.
        Cancelled: `cancel` said so.
    """
    how = Execution(workers, threads, memory, progress, cancel)
    settings = Settings(
        CRFSettings() if crf is None else CRFSettings.of(crf),
        scores_format or ScoreFormat(),
        palette,
        confidence,
        exif,
    )
    check_device(device)
    folders = _Folders(
        Path(images),
        Path(scores),
        Path(output),
        Path(probabilities) if probabilities else None,
        overlay,
    )
    folders.check()
    pairs = match(folders.images, folders.scores)
    how = how.for_tasks(len(pairs.both), device)
    tasks = []
    for stem, (image, file) in pairs.both.items():
        outputs = folders.outputs(stem)
        job = Job(image, file, outputs, settings, device, how.threads or 1)
        tasks.append(Task(image.name, job, state_of(image, file), outputs.paths()))
    record = {
        "images": str(folders.images.resolve()),
        "scores": str(folders.scores.resolve()),
        **settings.as_record(),
    }
    outputs_of_all = [path for task in tasks for path in task.outputs]
    there = [path for path in outputs_of_all if path.exists()]
    old = not overwrite and not (folders.output / RECORD).exists()
    if old:
        _check_old(folders.output, record, there, resume=resume)
    with workplace(
        folders.output, "crf", RECORD, record,
        resume=resume, overwrite=overwrite, results=there, folders=folders.all(),
        # also the first image's, where only its place in the record could not be written
        files=[folders.output / SETTINGS, *outputs_of_all],
    ) as kept:  # fmt: skip
        if old:
            _adopt_old(tasks, kept)
        for path in {path.parent for task in tasks for path in task.outputs}:
            path.mkdir(parents=True, exist_ok=True)
        _write_settings(folders.output, record)
        todo = unfinished(tasks, kept)
        unmatched = pairs.unmatched()
        tally = Tally("refine", len(tasks), len(tasks) - len(todo), notes=tuple(unmatched))
        states = {task.name: task.state for task in todo}
        pixels = changed = 0
        about = About()

        def keep(job: Job, results: dict[str, bytes]) -> None:
            nonlocal pixels, changed
            kept.add(job.image.name, states[job.image.name], results)
            summary = json.loads(results["summary"])
            pixels += summary["pixels"]
            changed += summary["changed"]
            about.add(job.image.name, summary)

        jobs = [task.job for task in todo]
        collect(
            how.outcomes(refine_image, jobs, preload=PRELOAD, need=methodcaller("need")),
            tally,
            how,
            name=lambda job: job.image.name,
            keep=keep,
        )
    return RefineResult(
        tally.finished, tally.skipped, tally.failed, pixels, changed, about.kinds, about.notes,
        unmatched, folders.written(), how.workers or 0, tally.seconds,
    )  # fmt: skip


class _Folders(NamedTuple):
    images: Path
    scores: Path
    output: Path
    probabilities: Path | None
    overlay: bool

    def check(self) -> None:
        inputs = [self.images, self.scores]
        check_output_folder(self.output, inputs)
        check_output_folder(self.output / _OVERLAYS, inputs)
        if self.probabilities is not None:
            check_output_folder(self.probabilities, inputs, what="probabilities")

    def outputs(self, stem: str) -> Outputs:
        return Outputs(
            self.output / f"{stem}.png",
            self.output / _OVERLAYS / f"{stem}.png" if self.overlay else None,
            self.probabilities / f"{stem}.npz" if self.probabilities else None,
        )

    def all(self) -> list[Path]:
        """Those for results, there or not."""
        own = [self.output, self.output / _OVERLAYS]
        return [*own, *([self.probabilities] if self.probabilities else [])]

    def written(self) -> list[Path]:
        return [folder for folder in self.all() if folder.is_dir()]


def match(images: Path, scores: Path) -> Pairs:
    """Raises ValueError where a folder has nothing of use, a name twice, or no pair is there."""
    pictures = by_stem(images, picture_suffixes(), "pictures")
    # a photograph is not its own mask
    masks = images.resolve() != scores.resolve()
    suffixes = suffixes_of(scores, masks=masks)
    arrays = by_stem(scores, suffixes, f"{', '.join(SUFFIXES)} scores or masks")
    both = {stem: (pictures[stem], arrays[stem]) for stem in pictures if stem in arrays}
    if not both:
        raise ValueError(
            f"no picture of {images} has scores of the same name in {scores}: "
            f"{_names(pictures.values())} there, {_names(arrays.values())} here "
            "(name them alike, as a.jpg and a.npy)"
        )
    return Pairs(
        both,
        [path for stem, path in pictures.items() if stem not in both],
        [path for stem, path in arrays.items() if stem not in both],
    )


def _names(paths: Iterable[Path]) -> str:
    return shortened(path.name for path in paths)


def _check_old(folder: Path, record: dict[str, Any], there: list[Path], *, resume: bool) -> None:
    """ValueError where finished results, beside which no record lies, are of other settings."""
    if there and not resume:
        raise ValueError(f"`output` {folder}: has results of an earlier run {ADVICE}")
    path = folder / SETTINGS
    if not path.exists():
        if there:
            raise ValueError(
                f"`output` {folder}: has {_names(there)}, but no {SETTINGS} that says how they "
                f"were made {ADVICE}"
            )
        return
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        old = None
    if not isinstance(old, dict):
        raise ValueError(
            f"{path}: damaged, so that its results cannot be told from others {ADVICE}"
        )
    differences = describe_differences(old, json.loads(json.dumps(record)))
    if there and differences:
        raise ValueError(f"`output` {folder}: made with other settings: {differences} {ADVICE}")


def _adopt_old(tasks: Iterable[Task], record: Record) -> None:
    """Results of a run before there were records, when files that are whole were all it knew."""
    for task in tasks:
        if all(path.is_file() for path in task.outputs):
            record.add(task.name, task.state, {})


def _write_settings(folder: Path, record: dict[str, Any]) -> None:
    text = json.dumps({"deeplab_native": __version__, **record}, indent=2) + "\n"
    with atomic_path(folder / SETTINGS) as temporary:
        temporary.write_text(text, encoding="utf-8")
