"""`jobs.search_crf`: the CRF parameters that suit a net's scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from ..crf import CRFParams
from ..crf.candidates import Fixed
from ..crf.search import Figures, Grid, figures
from ._engine import check_output_folder
from ._execution import Execution
from ._progress import Progress, shortened
from ._reports import machine_of
from ._search import Found, Plan, run
from ._search_files import FolderLoader, Folders, draw
from ._search_html import build
from ._search_report import best_record, write_results
from .scores import ScoreFormat
from .settings import check_device


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Attributes:
        params: the best parameters.
        before: figures of the scores alone, without any CRF.
        found: every candidate with its figures, the best first, and the grids.
        plan: what was searched.
        images: how many.
        written: the files.
        seconds: of this run.
    """

    params: CRFParams
    before: Figures
    found: Found
    plan: Plan
    images: int
    written: list[Path]
    seconds: float

    def record(self) -> dict[str, object]:
        """What best.json holds: figures in 0..1, `seconds` of this run alone."""
        return best_record(self.plan, self.found, self.seconds)

    def notes(self) -> list[str]:
        """What should be known of the best parameters before they are used, a line each."""
        return _notes(self.found, self.before)


def _notes(found: Found, before: Figures) -> list[str]:
    notes = [f"{note}: {shortened(images)}" for note, images in found.about.notes.items()]
    if len(found.about.kinds) > 1:
        kinds = ", ".join(f"{n} {kind}" for kind, n in found.about.kinds.items())
        notes.append(f"the scores are of several kinds: {kinds} (`kind` says it for all)")
    search = found.search
    edges = search.rounds[0].grid.at_edge(search.best.candidate)
    if edges:
        notes.append(
            f"the best {' and '.join(edges)} is at the end of the coarse grid or beyond: "
            "a wider grid may have a better one"
        )
    if search.best.figures.mean_iou <= before.mean_iou:
        notes.append("no candidate has a higher mean IoU than the scores alone")
    return notes


def search_crf(
    images: str | Path,
    scores: str | Path,
    labels: str | Path,
    output: str | Path,
    *,
    grid: Grid | None = None,
    rounds: int = 2,
    fixed: Fixed | None = None,
    classes: list[int] | None = None,
    count: int | None = None,
    seed: int = 0,
    names: Iterable[str] | None = None,
    scores_format: ScoreFormat | None = None,
    exif: bool = True,
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
) -> SearchResult:
    """Searches the CRF parameters for a net's scores, coarse to fine, as the DeepLab paper did.

    Section 4.1 of arXiv 1606.00915. Every candidate is judged by the mean IoU over the labelled
    images; equal ones by pixel accuracy, then by their cost.

    Args:
        images: folder of photographs.
        scores: folder of .npy, .npz or .pt files named like the images; what is here is searched
            on.
        labels: folder of label PNGs, palette or grey, whose value is the class.
        output: folder for search.sqlite, from which the same call goes on, report.html,
            best.json, candidates.csv and heatmap.png.
        grid: the coarse grid; None: the paper's.
        rounds: finer grids after it, each around the best with half the steps.
        fixed: w2, sigma_gamma, iterations, normalization, void and the width of the band along
            the boundaries, the same for all candidates.
        classes: the mean IoU is over these alone; None: all that the labels have.
        count, seed: only so many images, drawn at random; None: all.
        names: only the images of these names, without suffix; None: all.
        scores_format: how the scores are read.
        exif: whether photographs are turned upright by their EXIF orientation.
        device: "cpu", "cuda" or "cuda:N".
        resume, overwrite, workers, threads, memory, progress, cancel, report, command: see
            `deeplab_native.jobs`.

    Raises:
        ImagesFailedError: images that cannot be used, before the first CRF.
        ValueError, OSError: arguments, folders or a record of others that cannot be used.
        RuntimeError: a worker failed; what was done is kept, and the same call goes on.
        Cancelled: `cancel` said so.
    """
    how = Execution(workers, threads, memory, progress, cancel)
    check_device(device)
    scores_format = scores_format or ScoreFormat()
    folders = Folders(Path(images), Path(scores), Path(labels))
    out = Path(output)
    items = draw(folders.items(names), count, seed)
    check_output_folder(out, folders)
    plan = Plan(
        items,
        FolderLoader(scores_format, exif),
        {**scores_format.as_record(), "exif": exif},
        grid or Grid(),
        rounds,
        fixed or Fixed(),
        classes,
        device,
    )
    start = perf_counter()
    found = run(plan, out, how, resume=resume, overwrite=overwrite)
    seconds = perf_counter() - start
    before = figures(found.before.counts, found.classes)
    html = None
    if report:
        notes = _notes(found, before)
        html = build(plan, found, notes, command=command, machine=machine_of(device))
    return SearchResult(
        plan.fixed.params(found.search.best.candidate),
        before,
        found,
        plan,
        len(items),
        write_results(plan, found, out, seconds, html),
        seconds,
    )
