"""What commands print of parameters, label maps and runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from . import console
from .errors import in_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from rich.table import Table

    from ..crf import CRFParams
    from ..jobs import CRFSettings, ImagesFailedError, Progress

_LINES_SHOWN = 20
_UNSURE = 255  # in masks and data sets; of 256 labels no net has the last
_CHOSEN = ", scale {} as the image is large (--scale 1 is the CRF itself)"


def describe(params: CRFParams) -> str:
    """One line, in the paper's symbols."""
    alpha, beta, gamma = map(_sigma, (params.sigma_alpha, params.sigma_beta, params.sigma_gamma))
    return f"w1={params.w1:g} σα={alpha} σβ={beta} w2={params.w2:g} σγ={gamma}"


def _sigma(value: float | Sequence[float]) -> str:
    """A number, or those of the axes or channels."""
    return "/".join(f"{v:g}" for v in value) if isinstance(value, tuple) else f"{value:g}"


def describe_crf(crf: CRFSettings | None, scale: float | None = None) -> str:
    """One line: the parameters, and how they are used; `scale` is what was chosen for one image."""
    if crf is None:
        return "none"
    used = crf.scale if scale is None else scale
    said = "" if used == 1 else f", scale {used}" if used == crf.scale else _CHOSEN.format(used)
    said += "" if crf.lattice == "standard" else f", {crf.lattice} lattice"
    return f"{describe(crf.params)}, {crf.iterations} iterations, {crf.normalization}{said}"


def label_table(
    shares: Mapping[str, Mapping[int, float]], names: Sequence[str] | None = None
) -> Table:
    """The share of every label that occurs in one of the named label maps.

    shares: by map, label to part of the image; names: by label, None for numbers alone.
    """
    result = console.table("label", *shares)
    for label in sorted(set().union(*shares.values())):
        name = f"{label} {names[label]}" if names and label < len(names) else str(label)
        if label == _UNSURE:
            name += " unsure"
        result.add_row(name, *(f"{share.get(label, 0):.2%}" for share in shares.values()))
    return result


def shares_of(labels: np.ndarray) -> dict[int, float]:
    """Label to part of the image, of an (H, W) label map."""
    import numpy as np

    from .. import viz

    counts = viz.count_labels(labels)
    return {i: float(counts[i] / labels.size) for i in np.flatnonzero(counts).tolist()}


def voc_names(num_labels: int) -> Sequence[str] | None:
    """VOC's where there are as many labels."""
    from .. import viz

    return viz.VOC_CLASSES if num_labels == len(viz.VOC_CLASSES) else None


def part(pixels: int, total: int, unit: str = "pixels") -> str:
    """Percentage of all pixels, or voxels; a dash where there are none."""
    return f"{pixels / total:.2%} of the {unit}" if total else "-"


def images_and_rate(finished: int, seconds: float, workers: int) -> str:
    """How long, and how many images a second."""
    where = f"on {workers} workers" if workers else "in one process"
    return f"{seconds:.1f} s, {finished / max(1e-9, seconds):.2f} images/s {where}"


def print_failed(failed: Mapping[str, str], total: int, what: str) -> None:
    """A line for each image, on stderr."""
    console.err.print(f"{len(failed)} of {total} images {what}:")
    for name, error in failed.items():
        console.err.print(f"  {name}: {in_options(error)}", soft_wrap=True)


def kinds(found: Mapping[str, int], said: str) -> str:
    """Of scores, how many are of which kind, and who says so."""
    how = "recognised" if said == "auto" else "as given"
    return f"{', '.join(f'{n} {kind}' for kind, n in found.items())} ({how})"


def print_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """What was done to files that their content does not show, a line each on stderr."""
    from ..jobs._progress import shortened

    for note, images in notes.items():
        console.err.print(f"note: {in_options(note)}: {shortened(images)}", soft_wrap=True)


@contextmanager
def bar(
    verb: str, then: Callable[[Progress], None] | None = None, *, errors: bool = True
) -> Iterator[console.Bars]:
    """A bar for a job's `progress`; with `errors`, a line for every image that fails.

    Ctrl-C ends the command with code 130 and says how far it came; `verb` is what images are
    by then.
    """
    bars = console.Bars(then, errors)
    try:
        with bars:
            yield bars
    except KeyboardInterrupt:
        last = bars.last
        how_far = "" if last is None else f"{last.done - last.failed} of {last.total} {last.unit} "
        console.err.print(f"interrupted: {how_far}{verb}; the same command goes on from there")
        raise typer.Exit(130) from None


def explain(error: ImagesFailedError) -> None:
    """The images of an error, a line each, where it does not name them itself."""
    if len(set(error.failed.values())) == 1:
        return
    shown = list(error.failed.items())[:_LINES_SHOWN]
    for name, why in shown:
        console.err.print(f"error: {name}: {in_options(why)}", soft_wrap=True)
    if len(shown) < len(error.failed):
        console.err.print(f"(and {len(error.failed) - len(shown)} more)")
